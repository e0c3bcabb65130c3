"""The stack's lock: a lease with a fencing token, kept in the store.

Backup, restore, upgrade, prune and copy exclude each other per stack. Prefect's own limits only queue runs: their leases live
in the server's memory. The truth is one small object, changed by conditional writes only. Its token grows with each holder and
never goes back: a manifest records the token it was written under, and a holder checks that the lock is still its own before it
commits or swaps anything.

The lease's end is measured by the store's clock, so workers need not agree about the time.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, Field, ValidationError

from blocks.errors import ConditionFailed, IntegrityError, LeaseHeld, LeaseLost, ObjectMissing, StackError, StoreError
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.report import line


class LeaseRecord(BaseModel):
    """What stands in the store.

    Attributes:
        nonce: tells two holders apart that call themselves the same; only who wrote a record knows it as its own.
    """

    flow: str
    holder: str
    token: int
    expires_at: datetime
    released: bool = False
    nonce: str = Field(default_factory=lambda: secrets.token_hex(8))

    @property
    def torn(self) -> bool:
        """Say whether it stands for a write that was cut off."""
        return not self.nonce

    def is_of(self, other: LeaseRecord) -> bool:
        """Say whether both are of one holding of the lock, renewals apart."""
        return (self.token, self.nonce) == (other.token, other.nonce)


class Lease:
    """The lock while it is held; renews itself in the background.

    Args:
        store: where it is kept. record: as written. etag: of the object as written. seconds: how long it lives unrenewed.
    """

    def __init__(self, store: BackupStore, record: LeaseRecord, etag: str, seconds: int) -> None:
        self._store = store
        self._record = record
        self._etag = etag
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._stop = threading.Event()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @property
    def token(self) -> int:
        """The fencing token."""
        return self._record.token

    def check(self) -> None:
        """See in the store that the lock is still ours; called right before anything that cannot be taken back.

        Raises:
            LeaseLost: it ran out, or somebody else holds it.
        """
        if self._lost:
            raise LeaseLost(self._lost)
        found = retrying(lambda: _read(self._store, self._seconds))
        now = retrying(self._store.now)
        if found is None or not found[0].is_of(self._record):
            raise LeaseLost(f"the stack's lock was taken over (token {self.token}); nothing more is changed by this run")
        if found[0].expires_at <= now:
            raise LeaseLost(
                f"the stack's lock ran out at {found[0].expires_at:%H:%M:%S} UTC; nothing more is changed by this run"
            )

    def release(self) -> None:
        """Give the lock back; the next holder need not wait for its end."""
        self._stop.set()
        self._thread.join()
        if self._lost:
            return
        try:
            self._write(released=True)
        except StackError as error:  # a failed release must not hide the flow's own outcome
            line(f"the stack's lock was not given back, it runs out by itself in {self._seconds} s: {error}")

    def _keep(self) -> None:
        pause = self._seconds / 3
        while not self._stop.wait(pause):
            try:
                self._write(released=False)
            except (ConditionFailed, IntegrityError):
                self._lost = "the stack's lock was taken over by another run; nothing more is changed by this one"
                return
            except StoreError as error:
                if time.monotonic() >= self._ends:
                    self._lost = f"the stack's lock ran out because the store could not be reached: {error}"
                    return
                pause = self._seconds / 20
            else:
                pause = self._seconds / 3

    def _write(self, *, released: bool) -> None:
        """Renew or release; for the background thread, and after its end.

        A condition that does not hold need not mean a lost lock: when the answer to a write got lost, its repetition is
        refused, and when a write was cut off, what it left is ours as long as nobody else could have written.
        """
        begun = time.monotonic()
        expires = self._store.now() + timedelta(seconds=self._seconds)
        record = self._record.model_copy(update={"expires_at": expires, "released": released})
        try:
            self._etag = _put(self._store, record, self._etag)
        except ConditionFailed:
            found = _read(self._store, self._seconds)
            if found is None or not (found[0].is_of(record) or (found[0].torn and begun < self._ends)):
                raise
            self._etag = found[1] if found[0] == record else _put(self._store, record, found[1])
        self._ends = begun + self._seconds


def lock_key(store: BackupStore) -> str:
    """Return the key of the stack's lock."""
    return f"{store.root}lock.json"


def acquire(store: BackupStore, *, flow: str, holder: str, seconds: int, wait: float) -> Lease:
    """Take the stack's lock, waiting for it if need be.

    Args:
        store: where it is kept. flow, holder: who wants it, for the others to read.
        seconds: how long it lives without renewal.
        wait: seconds to wait for another holder.
    Raises:
        LeaseHeld: still held by somebody else after `wait`.
    """
    deadline = time.monotonic() + wait
    pause = min(2.0, seconds / 10)
    while True:
        lease, current = _try(store, flow, holder, seconds)
        if lease is not None:
            return lease
        if time.monotonic() >= deadline:
            who = f"{current.flow} ({current.holder}) until {current.expires_at:%H:%M:%S} UTC" if current else "another run"
            raise LeaseHeld(f"{flow}: the stack's lock is held by {who}; wait for that run to end, or cancel it, and try again")
        time.sleep(pause)


def holder_of(store: BackupStore, seconds: int) -> LeaseRecord | None:
    """Look who holds the stack's lock; None where nobody does.

    Args:
        seconds: as of `acquire`.
    Raises:
        StoreError: the store does not answer.
    """
    found = retrying(lambda: _read(store, seconds))
    if found is None or found[0].released or found[0].expires_at <= retrying(store.now):
        return None
    return found[0]


def take_away(store: BackupStore, held: LeaseRecord, seconds: int) -> None:
    """Take the lock from a holder whose run has ended, and leave it free.

    Should its process live all the same, it finds its token spent, and commits or swaps nothing more.

    Args:
        held: as it was found. seconds: as of `acquire`.
    Raises:
        LeaseHeld: it has changed hands since, or is renewed faster than it can be taken.
    """
    for _ in range(_TRIES):
        found = retrying(lambda: _read(store, seconds))
        if found is None or not found[0].is_of(held):
            raise LeaseHeld("the stack's lock has changed hands since it was looked at; look again")
        free = LeaseRecord(
            flow=held.flow, holder="taken away", token=held.token + 1, expires_at=found[0].expires_at, released=True
        )
        try:
            _put(store, free, found[1])
        except ConditionFailed:
            now_there = retrying(lambda: _read(store, seconds))
            if now_there is None or not now_there[0].is_of(free):
                continue  # it was renewed in between
        return
    raise LeaseHeld(f"the stack's lock was renewed {_TRIES} times while it was taken from its holder; end that process")


_TRIES = 10
"""Renewals that may come between reading the lock and writing it."""


def _try(store: BackupStore, flow: str, holder: str, seconds: int) -> tuple[Lease | None, LeaseRecord | None]:
    found = retrying(lambda: _read(store, seconds))
    now = retrying(store.now)
    if found is not None and not found[0].released and found[0].expires_at > now:
        return None, found[0]
    token = found[0].token + 1 if found else 1
    record = LeaseRecord(flow=flow, holder=holder, token=token, expires_at=now + timedelta(seconds=seconds))
    try:
        etag = retrying(lambda: _put(store, record, found[1] if found else None))
    except ConditionFailed:
        now_there = retrying(lambda: _read(store, seconds))
        if now_there is None or not now_there[0].is_of(record):
            return None, now_there[0] if now_there else None  # somebody was faster
        etag = now_there[1]  # it was our own write, whose answer got lost
    return Lease(store, record, etag, seconds), record


def _put(store: BackupStore, record: LeaseRecord, etag: str | None) -> str:
    return store.put(lock_key(store), record.model_dump_json().encode(), if_absent=etag is None, if_etag=etag)


def _read(store: BackupStore, seconds: int) -> tuple[LeaseRecord, str] | None:
    """Read what stands in the store.

    A writer that dies between the head and the body of its request leaves an empty object on some servers (SeaweedFS 4.48). It
    stands for a holder nobody knows, as old as the object; its token is a time, which is more than any count before it.
    """
    try:
        data, etag = store.get_with_etag(lock_key(store))
    except ObjectMissing:
        return None
    if not data:
        found = store.find(lock_key(store))
        written = found.modified if found else store.now()
        ends = written + timedelta(seconds=seconds)
        return LeaseRecord(flow="a run", holder="cut off", token=int(written.timestamp()), expires_at=ends, nonce=""), etag
    try:
        return LeaseRecord.model_validate_json(data), etag
    except ValidationError:
        raise IntegrityError(f"{lock_key(store)} is not a lock; look at it, and delete it if nothing runs") from None


@contextmanager
def exclusive(
    store: BackupStore, *, flow: str, holder: str, seconds: int, wait: float, lease: Lease | None = None
) -> Iterator[Lease]:
    """Hold the stack's lock for the body; a `lease` that an outer flow holds is used as it is.

    Raises:
        LeaseHeld: somebody else holds it.
    """
    if lease is not None:
        yield lease
        return
    own = acquire(store, flow=flow, holder=holder, seconds=seconds, wait=wait)
    try:
        yield own
    finally:
        own.release()


def utc_now() -> datetime:
    """Return this machine's time, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
