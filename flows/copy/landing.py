"""ClickHouse reads S3 itself and cannot decrypt: its files are landed, decrypted and proven, in the stack's own store.

They lie below `<root>landing/` as long as somebody restores from them, and a lock there tells a run that lives from one that
died: whoever takes it first removes what the other left.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import IO

from blocks.errors import IntegrityError, LeaseHeld, StackError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore, Listed
from blocks.retry import retrying
from flows.backup.clickhouse_files import LIST_NAME, load_index
from flows.backup.manifest import ClickHouseDatabase
from flows.catalogue import load_manifest, set_prefix
from flows.copy.records import CopiedObject, load_list
from flows.copy.tar import AHEAD, SMALL, unpack
from flows.lease import exclusive
from flows.report import line

__all__ = ["Landing", "landing_store", "put_file", "put_files", "remove_left_over"]

PART_MIB = 16
"""ClickHouse uploads files above 32 MiB in parts of 16 MiB: the same parts make the same ETag."""
SINGLE = 32 * 1024 * 1024
WRITERS = 8
"""Small files written at once."""


def landing_store(store: BackupStore) -> BackupStore:
    """Return the place for landed files as a store of its own, in the same bucket."""
    return store.model_copy(update={"prefix": f"{store.root}landing"})


def put_file(store: BackupStore, key: str, size: int, content: IO[bytes]) -> None:
    """Store one of ClickHouse's files as ClickHouse would."""
    if size <= SINGLE:
        data = content.read()
        retrying(lambda: store.put(key, data))
    else:
        store.model_copy(update={"part_size_mib": PART_MIB}).put_stream(key, content, expected_bytes=size)


def put_files(copy: BackupStore, keys: BackupKeys, item: CopiedObject, store: BackupStore, folder: str) -> None:
    """Store every file of a tar, many small ones at once.

    Args:
        item: of the copy's signed list. store, folder: where to; a key prefix with slash.
    Raises:
        IntegrityError: the tar is not the one that was written: nothing of the folder must be believed.
    """
    with ThreadPoolExecutor(max_workers=WRITERS, thread_name_prefix="files") as pool:
        writing: deque[Future[None]] = deque()

        def take(name: str, size: int, content: IO[bytes]) -> None:
            if size > SMALL:
                put_file(store, folder + name, size, content)
                return
            if len(writing) >= AHEAD:
                writing.popleft().result()
            writing.append(pool.submit(put_file, store, folder + name, size, io.BytesIO(content.read())))

        unpack(copy, keys, item, take)
        for one in writing:
            one.result()


class Landing:
    """The files that one run has landed.

    Args:
        store: as `landing_store` returns it. copy, keys: where the copies are, and who opens them.
        seconds, wait: of the lock: its life, and how long it is waited for.
    """

    def __init__(self, store: BackupStore, copy: BackupStore, keys: BackupKeys, *, seconds: int, wait: float) -> None:
        self.store = store
        self._copy, self._keys = copy, keys
        self._seconds, self._wait = seconds, wait
        self._etags: dict[str, Mapping[str, tuple[str, str]]] = {}
        self._ending = ExitStack()
        self._begun = False

    def listing(self, view: BackupStore, set_id: str, component: ClickHouseDatabase) -> list[Listed]:
        """List the landed files of a ClickHouse backup; they are landed now unless they were before.

        A file that is still the one which was landed is listed with the ETag that it had in its first place, for it is the
        same file: another part size makes another ETag.

        Args:
            view: the copies as a store, for the index. set_id, component: what is meant.
        """
        folder = set_prefix(self.store, set_id) + component.path
        if folder not in self._etags:
            self._begin()
            self._etags[folder] = self._land(view, set_id, component, folder)
        etags = self._etags[folder]
        items = []
        for item in retrying(lambda: list(self.store.list(folder))):
            landed, recorded = etags.get(item.key, ("", ""))
            etag = recorded if recorded and item.etag == landed else item.etag
            items.append(Listed(item.key, item.bytes, etag, item.modified))
        return items

    def _land(
        self, view: BackupStore, set_id: str, component: ClickHouseDatabase, folder: str
    ) -> Mapping[str, tuple[str, str]]:
        below = folder.removeprefix(self.store.root)
        index = load_index(view, set_prefix(view, set_id), component.index)
        recorded = {folder + file.name: file.etag for file in index.files if not file.in_base}
        tars = [item for item in load_list(self._copy, self._keys, set_id).objects if item.stands_for == below]
        for item in tars:
            put_files(self._copy, self._keys, item, self.store, folder)
        line(f"{set_id}: landed {sum(item.files for item in tars)} files of clickhouse {component.name} from the copy")
        landed = {item.key: item.etag for item in retrying(lambda: list(self.store.list(folder)))}
        unknown = landed.keys() - recorded.keys() - {folder + LIST_NAME}
        if unknown:
            raise IntegrityError(f"{min(unknown)}: is not in the index of the backup; use another copy")
        return {key: (landed[key], etag) for key, etag in recorded.items() if key in landed}

    def _begin(self) -> None:
        """Take the lock, and remove what a run that died has left."""
        if not self._begun:
            held = exclusive(self.store, flow="landing", holder="a restore from a copy", seconds=self._seconds, wait=self._wait)
            self._ending.enter_context(held)
            self._ending.callback(_remove, self.store)  # before the lock is given back
            _remove(self.store)
            self._begun = True

    def close(self) -> None:
        """Remove everything that was landed and give the lock back."""
        self._etags.clear()
        self._begun = False
        try:
            self._ending.close()
        except StackError as error:  # must not hide how the restore itself ended
            line(f"could not remove the landed files: {error}; the next restore from a copy, or the next copy, will")


def _remove(landing: BackupStore) -> None:
    retrying(lambda: landing.remove_below(f"{landing.root}sets/"))
    for upload in list(landing.uploads(f"{landing.root}sets/")):
        landing.abort(upload)


def remove_left_over(store: BackupStore, *, seconds: int) -> None:
    """Remove landed files that a dead run has left, unless a run that lives is using them.

    Args:
        store: the stack's own. seconds: life of the lock meanwhile.
    """
    landing = landing_store(store)
    if next(landing.list(f"{landing.root}sets/"), None) is None:
        return
    try:
        with exclusive(landing, flow="landing", holder="copy", seconds=seconds, wait=0):
            _remove(landing)
    except LeaseHeld:
        return
    line("removed landed files that a restore from a copy had left")


def component_of(view: BackupStore, keys: BackupKeys, set_id: str, path: str) -> ClickHouseDatabase | None:
    """Return the ClickHouse database of a set that lies in a folder; None where it has no such."""
    manifest = load_manifest(view, keys, set_id)
    return next((component for component in manifest.clickhouse if component.path == path), None)
