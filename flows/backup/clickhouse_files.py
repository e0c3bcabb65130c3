"""The files a ClickHouse backup consists of: ClickHouse's own list, where the bytes lie, and whether they are there.

`.backup` is ClickHouse's list, an XML that it writes last. It names every file of every part; equal files are stored once
(`data_file`), and those that the base has are not stored at all (`use_base`), or only from where the base's end
(`base_size`, tables of the Log family). It says nothing about what the store really holds, so presence, size and ETag of
every object are compared with a listing: of our own folder and of the base's.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote
from xml.etree import ElementTree

import zstandard
from pydantic import Field, ValidationError

from blocks.errors import IntegrityError, ObjectMissing
from blocks.object_store import BackupStore, Listed
from blocks.retry import retrying
from flows.backup.manifest import Record, StoredObject

__all__ = ["BackupList", "Index", "IndexedFile", "PartContent", "load_index", "store_index", "verify_files"]

LIST_NAME = ".backup"
_SHOWN = 3


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    checksum: str
    data_file: str
    base_size: int
    base_checksum: str

    @property
    def own_size(self) -> int:
        return self.size - self.base_size


class IndexedFile(Record):
    """One object that the backup needs."""

    name: str = Field(description="Below the folder of this backup, or of the base's")
    bytes: int
    checksum: str = Field(description="128-bit CityHash of the whole file, as ClickHouse lists it, hex")
    etag: str = Field(default="", description="As the store listed it right after the backup")
    in_base: bool = False


class PartContent(Record):
    """What one part of a table holds."""

    rows: int
    checksum: str
    identity: str = Field(description="hash_of_all_files of system.parts: the same for the same bytes")


class TableParts(Record):
    """The parts of a table, as they were read."""

    expression: str = Field(description="The row hash: another set of columns has another")
    parts: dict[str, PartContent]


class Index(Record):
    """Every file of a backup, and the content of every part, so that the next backup reads only what is new."""

    format: int = 1
    files: list[IndexedFile]
    tables: dict[str, TableParts] = Field(default_factory=dict)

    @property
    def own_bytes(self) -> int:
        """Bytes that this backup alone has stored."""
        return sum(file.bytes for file in self.files if not file.in_base)


class BackupList:
    """ClickHouse's own list of a backup, the object `.backup`.

    Args:
        data: its bytes.
        database: that was backed up.
    Raises:
        IntegrityError: it is not such a list.
    """

    def __init__(self, data: bytes, database: str) -> None:
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.bytes = len(data)
        try:
            self._entries = list(_entries(data))
        except (ElementTree.ParseError, ValueError) as error:
            raise IntegrityError(
                f"clickhouse {database}: {LIST_NAME} is not a backup's list ({error}); use another set"
            ) from None
        self._database = database

    @property
    def data_bytes(self) -> int:
        """Size of the tables' data it stands for."""
        return sum(entry.size for entry in self._entries if entry.name.startswith("data/"))

    def tables(self) -> set[str]:
        """Name every table, view and dictionary whose definition is in the backup."""
        folder = [entry.name.split("/") for entry in self._entries]
        return {
            unquote(steps[2].removesuffix(".sql"))
            for steps in folder
            if len(steps) == 3 and steps[0] == "metadata" and unquote(steps[1]) == self._database
        }

    def parts(self) -> dict[str, set[str]]:
        """Return the parts of each table that has rows in this backup; an empty set for a table that is not kept in parts."""
        found: dict[str, set[str]] = {}
        for table, rest in self._data_files():
            parts = found.setdefault(table, set())
            if len(rest) == 2 and rest[1] == "checksums.txt":
                parts.add(rest[0])
        return found

    def mutated(self) -> set[str]:
        """Name the tables that had mutations waiting."""
        return {table for table, rest in self._data_files() if rest[0] == "mutations"}

    def files(self, base: Index | None) -> list[IndexedFile]:
        """Return every object that must be there, once each; ETags are empty as yet.

        Args:
            base: of the full backup that this one is a difference to.
        Raises:
            IntegrityError: the base has no such file.
        """
        in_base = {(file.bytes, file.checksum): file for file in base.files} if base else {}
        needed: dict[tuple[str, bool], IndexedFile] = {}
        for entry in self._entries:
            if entry.own_size:
                file = IndexedFile(name=entry.data_file, bytes=entry.own_size, checksum=entry.checksum)
                needed.setdefault((file.name, False), file)
            if entry.base_size:
                found = in_base.get((entry.base_size, entry.base_checksum))
                if found is None:
                    raise IntegrityError(
                        f"clickhouse {self._database}: {entry.name} should be in the base backup, which has no such file; "
                        "take a full backup"
                    )
                needed.setdefault((found.name, True), found.model_copy(update={"in_base": True}))
        return list(needed.values())

    def _data_files(self) -> Iterator[tuple[str, list[str]]]:
        for entry in self._entries:
            steps = entry.name.split("/")
            if len(steps) >= 4 and steps[0] == "data" and unquote(steps[1]) == self._database:
                yield unquote(steps[2]), steps[3:]


def _entries(data: bytes) -> Iterator[_Entry]:
    known = False
    for _, element in ElementTree.iterparse(io.BytesIO(data)):  # noqa: S314 - expat limits entity expansion; ours alone to write
        if element.tag == "version":
            known = element.text == "1"
        elif element.tag == "file":
            values = {child.tag: child.text or "" for child in element}
            size, checksum = int(values["size"]), values.get("checksum", "")
            from_base = values.get("use_base") == "true"
            yield _Entry(
                name=values["name"],
                size=size,
                checksum=checksum,
                data_file=values.get("data_file") or values["name"],
                base_size=int(values.get("base_size", size)) if from_base else 0,
                base_checksum=values.get("base_checksum", checksum),
            )
            element.clear()
    if not known:
        raise ValueError("its format is not version 1")


def verify_files(
    files: Iterable[IndexedFile], store: BackupStore, folder: str, base_folder: str | None, database: str
) -> list[IndexedFile]:
    """See that every object is in the store, with the right size and, where one is recorded, the right ETag.

    Args:
        files: what must be there. folder, base_folder: key prefixes of the backup and of its base. database: for messages.
    Returns: the files with the ETags that the store lists.
    Raises:
        IntegrityError: names what is missing, truncated or exchanged.
    """
    listings = {False: _listing(store, folder), True: _listing(store, base_folder) if base_folder else {}}
    problems, checked = [], []
    for file in files:
        found = listings[file.in_base].get(file.name)
        problem = _problem(file, found)
        if problem:
            problems.append(f"{base_folder if file.in_base else folder}{file.name} {problem}")
        elif found:
            checked.append(file.model_copy(update={"etag": found.etag}))
    if problems:
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise IntegrityError(
            f"clickhouse {database}: {len(problems)} objects are damaged: {'; '.join(problems[:_SHOWN])}{more}; "
            "restore from another set, and see who writes to the bucket"
        )
    return checked


def _problem(file: IndexedFile, found: Listed | None) -> str:
    if found is None:
        return "is missing"
    if found.bytes != file.bytes:
        return f"has {found.bytes} bytes instead of {file.bytes}"
    if file.etag and found.etag != file.etag:
        return f"was replaced since the backup (ETag {found.etag} instead of {file.etag})"
    return ""


def _listing(store: BackupStore, folder: str) -> dict[str, Listed]:
    return {item.key.removeprefix(folder): item for item in retrying(lambda: list(store.list(folder)))}


def store_index(store: BackupStore, prefix: str, key: str, index: Index) -> StoredObject:
    """Write the index beside the backup.

    Args:
        prefix: of the set. key: below it.
    """
    plain = index.model_dump_json(exclude_defaults=True).encode()
    data = zstandard.ZstdCompressor(level=3).compress(plain)
    retrying(lambda: store.put(prefix + key, data))
    return StoredObject(
        key=key,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        plain_bytes=len(plain),
        plain_sha256=hashlib.sha256(plain).hexdigest(),
    )


def load_index(store: BackupStore, prefix: str, item: StoredObject) -> Index:
    """Read an index, its hash compared with the manifest's.

    Raises:
        IntegrityError: it is missing, or not the one that was written.
    """
    try:
        data = retrying(lambda: store.get(prefix + item.key))
    except ObjectMissing:
        raise IntegrityError(f"{prefix}{item.key} is missing; restore from another set") from None
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise IntegrityError(f"{prefix}{item.key} is not what was stored (SHA-256 differs); restore from another set")
    try:
        return Index.model_validate_json(zstandard.ZstdDecompressor().decompress(data, max_output_size=item.plain_bytes))
    except ValidationError:
        raise IntegrityError(f"{prefix}{item.key} is not an index of format 1; use the version that wrote it") from None


def load_list(store: BackupStore, folder: str, database: str, *, sha256: str | None = None) -> BackupList:
    """Read ClickHouse's own list.

    Args:
        folder: of the backup. sha256: it must have this hash.
    Raises:
        IntegrityError: it is missing, unreadable or another one.
    """
    try:
        listed = BackupList(retrying(lambda: store.get(folder + LIST_NAME)), database)
    except ObjectMissing:
        raise IntegrityError(f"{folder}{LIST_NAME} is missing: the backup was not completed, or is damaged") from None
    if sha256 is not None and listed.sha256 != sha256:
        raise IntegrityError(f"{folder}{LIST_NAME} is not what was backed up (SHA-256 differs); restore from another set")
    return listed
