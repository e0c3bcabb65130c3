"""What a copy of a set is made of, written down: the signed list that lies in it, and which key stands for what.

A copy is `sets/<id>/...` below the root of the second store, every object encrypted. What was encrypted before goes as it is
(`same`); single readable objects are encrypted whole (`sealed`, with `.age` at the end); ClickHouse's thousands of files go as
tar files of about 64 MB (`files`). `manifest.json.age` is written last and makes the copy exist.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Literal

from pydantic import Field, ValidationError

from blocks.errors import IntegrityError, ObjectMissing
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.backup.manifest import Record, Signature
from flows.catalogue import manifest_key, set_prefix
from flows.copy.sealing import get_compressed

__all__ = ["SEALED", "CopiedObject", "CopyList", "copied_sets", "copy_list_key", "copy_manifest_key", "load_list"]

SEALED = ".age"
"""Ending of an object that was readable in the stack's own store."""
MOST = 1 << 30
"""Bytes that a list of a copy never has: a line for each 64 MB."""


class CopiedObject(Record):
    """One object of a copy, and what it stands for."""

    key: str = Field(description="Below the root of the second store")
    kind: Literal["same", "sealed", "files"]
    stands_for: str = Field(description="Key below the root of the stack's own store; for files the folder, with slash")
    bytes: int = Field(description="Stored size in the second store")
    sha256: str = Field(description="SHA-256 of these bytes, hex")
    plain_bytes: int = Field(description="Size of the original object, of the tar where it stands for files")
    plain_sha256: str = Field(description="SHA-256 of the original object, of the tar where it stands for files, hex")
    files: int = Field(default=1, description="How many objects it stands for")
    etag: str = Field(default="", description="As the second store listed it right after it was written")


class CopyList(Record):
    """Every object of a copy, besides this list and the manifest. Signed: age alone would let anybody write one."""

    format: Literal[1] = 1
    set_id: str
    stack: str
    copied_at: datetime
    project_version: str
    manifest_sha256: str = Field(description="Of the original manifest.json, hex")
    objects: list[CopiedObject]
    signature: Signature | None = None

    def signed_bytes(self) -> bytes:
        """Return the canonical JSON that the signature covers."""
        body = self.model_dump(mode="json", exclude={"signature"})
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def copy_manifest_key(copy: BackupStore, set_id: str) -> str:
    """Return the key of a copied set's manifest."""
    return manifest_key(copy, set_id) + SEALED


def copy_list_key(copy: BackupStore, set_id: str) -> str:
    """Return the key of the list of a copy's objects."""
    return set_prefix(copy, set_id) + "copy.json.zst.age"


def copied_sets(copy: BackupStore) -> set[str]:
    """Return the ids of the sets that are copied whole; needs no key but the store's own."""
    prefix, ending = f"{copy.root}sets/", "/manifest.json" + SEALED

    def listed() -> set[str]:
        keys = (item.key for item in copy.list(prefix) if item.bytes)  # an empty one is a write that was cut off
        return {key.removeprefix(prefix).removesuffix(ending) for key in keys if key.endswith(ending)}

    return retrying(listed)


def load_list(copy: BackupStore, keys: BackupKeys, set_id: str) -> CopyList:
    """Read the list of a copy's objects and verify its signature.

    Raises:
        SettingsError: there is no age identity here.
        IntegrityError: it is missing, damaged, or not signed by this stack.
    """
    key = copy_list_key(copy, set_id)
    try:
        found = CopyList.model_validate_json(get_compressed(copy, key, keys, most=MOST))
    except ObjectMissing:
        raise IntegrityError(f"copy of {set_id}: its list of objects is missing; copy the set again") from None
    except ValidationError:
        raise IntegrityError(f"copy of {set_id}: {key} is not a list of format 1; use the version that wrote it") from None
    if found.signature is None or (found.set_id, found.stack) != (set_id, copy.stack):
        raise IntegrityError(f"copy of {set_id}: its list of objects is unsigned or of another set; copy the set again")
    try:
        keys.verify(found.signed_bytes(), found.signature.value)
    except IntegrityError:
        raise IntegrityError(
            f"copy of {set_id}: the signature of its list of objects does not fit BACKUP_VERIFY_KEY: somebody changed it; "
            "use another copy"
        ) from None
    return found
