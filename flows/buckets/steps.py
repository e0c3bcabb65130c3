"""One object of a restore or of its undoing: looked at, kept, only then changed; never what somebody else wrote meanwhile."""

from __future__ import annotations

import threading
from typing import IO, Literal

from blocks.errors import ConditionFailed, IntegrityError, ObjectMissing
from blocks.object_bucket import Listed
from blocks.object_fetch import ObjectFetcher
from blocks.object_store import BackupStore
from blocks.retry import retrying
from blocks.source_bucket import SourceBucket
from flows.buckets.objects import content_sha256, copied_by_server, fetched, put_object, remove_object
from flows.buckets.plan import Action, kept_key

__all__ = ["Outcome", "Steps"]

Outcome = Literal["added", "replaced", "deleted", "as wanted", "left alone", "put back", "removed"]


class Steps:
    """The steps of one restore of one bucket; each may be done again. May be shared between threads.

    Args:
        source: the live bucket. store: keeps what is overwritten or deleted. fetcher: reads the live bucket.
        restore_id: of the restore.
    """

    def __init__(self, source: SourceBucket, store: BackupStore, fetcher: ObjectFetcher, restore_id: str) -> None:
        self._source, self._store, self._fetcher, self._id = source, store, fetcher, restore_id
        self._server_copies = True
        self._lock = threading.Lock()

    def put(self, action: Action, file: IO[bytes]) -> Outcome:
        """Put an object back; what is there is kept first. `file` holds its proven bytes."""
        try:
            if action.action == "add":
                self._write(action, file, None)
                return "added"
            live = self._look(action.key)
            if live is not None and live.etag != action.was:
                return self._taken(action, file)
            if live is not None:
                self._keep(action, live)
            self._write(action, file, live)
        except ConditionFailed:
            return self._taken(action, file)
        return "replaced"

    def delete(self, action: Action) -> Outcome:
        """Delete an object that was not there then; it is kept first."""
        live = self._look(action.key)
        if live is None:
            return "as wanted"
        if live.etag != action.was:
            return "left alone"
        try:
            self._keep(action, live)
            retrying(lambda: remove_object(self._source, action.key, live.etag))
        except ConditionFailed:
            return "left alone"
        return "deleted"

    def undo(self, action: Action) -> Outcome:
        """Take a step back: what was there is put back, what was added is removed, if it is still what the restore put.

        Raises:
            IntegrityError: what was kept is gone; nothing was changed.
        """
        live = self._look(action.key)
        try:
            if action.action == "add":
                if live is None:
                    return "as wanted"
                if not self._is_ours(action, live):
                    return "left alone"
                retrying(lambda: remove_object(self._source, action.key, live.etag))
                return "removed"
            if live is not None and (live.etag, live.bytes) == (action.was, action.was_bytes):
                return "as wanted"
            if live is None or self._is_ours(action, live):
                return self._put_back(action, live)
            return "as wanted" if self._is_kept(action, live) else "left alone"
        except ConditionFailed:
            return "left alone"

    def _look(self, key: str) -> Listed | None:
        return retrying(lambda: self._source.find(key))

    def _taken(self, action: Action, file: IO[bytes]) -> Outcome:
        """Judge an object that is not as the plan expects it: an earlier run put it, or somebody else wrote it."""
        live = self._look(action.key)
        if live is None or not self._is_ours(action, live):
            return "left alone"
        if action.entry is not None and live.bytes != action.entry.bytes:
            try:
                self._write(action, file, live)
            except ConditionFailed:
                return "left alone"
        return "as wanted"

    def _is_ours(self, action: Action, live: Listed) -> bool:
        """Say whether an object holds what the restore puts there: its bytes, for its ETag may be another one than then.

        Or nothing: that is what SeaweedFS makes of a request that was cut off before its body.
        """
        entry = action.entry
        if entry is None or not live.bytes:
            return entry is not None
        return live.bytes == entry.bytes and content_sha256(self._fetcher, action.key) == entry.sha256

    def _write(self, action: Action, file: IO[bytes], live: Listed | None) -> None:
        entry = action.entry
        assert entry is not None  # noqa: S101 - deletions are not written
        etag = live.etag if live else None

        def once() -> None:
            put_object(
                self._source, action.key, file, entry.bytes, entry.type, entry.meta, if_etag=etag, if_absent=live is None
            )

        retrying(once)

    def _keep(self, action: Action, live: Listed) -> None:
        """Copy what is there now into the store, and see that it is there, before it is touched.

        Raises:
            ConditionFailed: it is another one by now.
            IntegrityError: the copy is not there after it was made.
        """
        key = self._kept(action)
        if self._stored(key) == live.bytes and live.bytes:
            return
        if not (self._server_copies and self._copy(live, key)):
            self._carry(live, key)
        if self._stored(key) != live.bytes:
            raise IntegrityError(f"{key}: is not in the store right after it was written; {action.key!r} was not touched")

    def _copy(self, live: Listed, key: str) -> bool:
        copied = copied_by_server(self._source, live, self._store, key)
        if not copied and live.bytes <= 1 << 30:  # one that is too large says nothing about the others
            with self._lock:
                self._server_copies = False
        return copied

    def _carry(self, live: Listed, key: str) -> None:
        try:
            with fetched(self._fetcher, live.key) as (about, file, _):
                if about.etag != live.etag:
                    raise ConditionFailed(f"bucket {self._source.name}: {live.key} changed meanwhile")
                retrying(lambda: put_object(self._store, key, file, about.bytes, about.type, about.meta))
        except ObjectMissing:
            raise ConditionFailed(f"bucket {self._source.name}: {live.key} vanished meanwhile") from None

    def _put_back(self, action: Action, live: Listed | None) -> Outcome:
        key = self._kept(action)
        size = self._stored(key)
        if size is None and live is None and action.action == "replace":
            return "left alone"  # somebody deleted it before the restore came to it: there was nothing to keep
        if size != action.was_bytes:
            raise IntegrityError(f"{key}: what was kept of {action.key!r} is gone, so it cannot be put back")
        with ObjectFetcher(self._store) as fetcher, fetched(fetcher, key) as (about, file, _):
            etag = live.etag if live else None

            def once() -> None:
                put_object(
                    self._source,
                    action.key,
                    file,
                    about.bytes,
                    about.type,
                    about.meta,
                    if_etag=etag,
                    if_absent=live is None,
                )

            retrying(once)
        return "put back"

    def _is_kept(self, action: Action, live: Listed) -> bool:
        key = self._kept(action)
        if self._stored(key) != live.bytes:
            return False
        with ObjectFetcher(self._store) as fetcher:
            return content_sha256(fetcher, key) == content_sha256(self._fetcher, action.key)

    def _kept(self, action: Action) -> str:
        return kept_key(self._store, self._id, self._source.name, action.key)

    def _stored(self, key: str) -> int | None:
        found = retrying(lambda: self._store.find(key))
        return found.bytes if found else None
