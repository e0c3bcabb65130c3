"""The copies as a store: what restores and drills read instead of the stack's own, without knowing the difference.

Its keys are those of `landing_store`. Dumps come straight from the second store as they are, sealed objects are opened on the
way, and ClickHouse's files are landed when somebody asks for their list, so that ClickHouse finds them under the same keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, cast

from pydantic import PrivateAttr

from blocks.errors import SettingsError
from blocks.keys import BackupKeys
from blocks.object_reader import ObjectReader
from blocks.object_store import BackupStore, Listed
from blocks.retry import retrying
from flows.copy.landing import Landing, component_of, landing_store
from flows.copy.records import SEALED
from flows.copy.sealing import Unsealed
from flows.stack import Stack

__all__ = ["CopyView", "Source", "reading_from", "view_of"]

Source = Literal["store", "copy"]

_CLICKHOUSE = re.compile(r"sets/([^/]+)/(clickhouse/[^/]+/)")


class CopyView(BackupStore):
    """The copies of a stack, seen as a store. Made by `view_of`; nobody saves it as a document."""

    _block_type_name = "Copy View"
    _block_type_slug = "copy-view"

    _copy: BackupStore = PrivateAttr()
    _keys: BackupKeys = PrivateAttr()
    _landing: Landing = PrivateAttr()

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Read a small object whole."""
        if self._lands(key):
            return self._landing.store.get_with_etag(key)
        data, etag = self._copy.get_with_etag(self._there(key))
        return (data if key.endswith(SEALED) else self._keys.decrypt_bytes(data)), etag

    @contextmanager
    def small_objects(self) -> Iterator[Callable[[str], bytes]]:
        """Give a function that reads small objects whole."""
        yield lambda key: retrying(lambda: self.get(key))

    def open(self, key: str) -> ObjectReader:
        """Open an object for reading from start to end."""
        if self._lands(key):
            return self._landing.store.open(key)
        there = self._there(key)
        return self._copy.open(there) if key.endswith(SEALED) else cast(ObjectReader, Unsealed(self._copy, there, self._keys))

    def find(self, key: str) -> Listed | None:
        """Return size (as stored) and ETag of an object, None when there is none."""
        found = self._landing.store.find(key) if self._lands(key) else self._copy.find(self._there(key))
        return None if found is None else Listed(key, found.bytes, found.etag, found.modified)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_etag: str | None = None) -> str:
        """Store a small object beside the copies, sealed: what was found out about one."""
        sealed = data if key.endswith(SEALED) else self._keys.encrypt_bytes(data)
        return self._copy.put(self._there(key), sealed, if_absent=if_absent, if_etag=if_etag)

    def list(self, prefix: str) -> Iterator[Listed]:
        """Yield every object below a prefix; below a ClickHouse backup, what was landed of it."""
        meant = _CLICKHOUSE.match(prefix.removeprefix(self.root))
        if meant is None:
            for item in self._copy.list(self._below(prefix)):
                key = self.root + item.key.removeprefix(self._copy.root)
                yield Listed(key, item.bytes, item.etag, item.modified)
            return
        component = component_of(self, self._keys, meant[1], meant[2])
        if component is not None:
            yield from (i for i in self._landing.listing(self, meant[1], component) if i.key.startswith(prefix))

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below a prefix that have objects below them, without slash."""
        return self._copy.folders(self._below(prefix))

    def close(self) -> None:
        """Remove what was landed."""
        self._landing.close()

    def _below(self, key: str) -> str:
        return self._copy.root + key.removeprefix(self.root)

    def _there(self, key: str) -> str:
        there = self._below(key)
        return there if there.endswith(SEALED) else there + SEALED

    def _lands(self, key: str) -> bool:
        """Say whether a key is one of ClickHouse's files, and land them if so."""
        meant = _CLICKHOUSE.match(key.removeprefix(self.root))
        if meant is None:
            return False
        next(self.list(f"{self.root}{meant[0]}"), None)
        return True


def view_of(stack: Stack) -> CopyView:
    """Return the copies of a stack as a store; to be closed.

    Raises:
        SettingsError: there is no second store, or nothing to open the copies with.
    """
    copy = stack.need_copy()
    if stack.keys.identity is None:
        raise SettingsError("copy: no age identity here; set BACKUP_AGE_IDENTITY: every object of a copy is encrypted")
    landing = landing_store(stack.store)
    view = CopyView(bucket=landing.bucket, region=landing.region, prefix=landing.prefix, stack=landing.stack)
    view._copy, view._keys = copy, stack.keys
    settings = stack.settings
    view._landing = Landing(
        landing, copy, stack.keys, seconds=settings.backup_lease_seconds, wait=settings.backup_lock_wait_seconds
    )
    return view


@contextmanager
def reading_from(stack: Stack, source: Source) -> Iterator[Stack]:
    """Give the stack as it is read from: its own store, or the copies in its place. What was landed is gone afterwards.

    Locks and journals belong to the stack's own store, so only reading is done with what this gives.
    """
    if source == "store":
        yield stack
        return
    view = view_of(stack)
    try:
        yield replace(stack, store=view)
    finally:
        view.close()
