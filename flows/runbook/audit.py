"""The audit trail: who did what, when, why, and what came of it; one small object an entry, never changed, in the store.

    <prefix>/<stack>/audit/<year-month>/<time>-<6 hex>.json

A postmortem reads it. The store may be the patient: then what happened is kept and written as soon as it is well again, and
where that does not come, said in the run's log. A record that cannot be written never keeps anybody from healing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocks.errors import ConditionFailed, StoreError
from blocks.retry import retrying
from flows.report import line

__all__ = ["Entry", "Kind", "Named", "Shelf", "Trail", "months_between", "read"]

Kind = Literal["diagnosed", "began", "ended", "closed", "told", "decided"]
"""Of a runbook: it has diagnosed, began and ended an action, closed its case. Of people: they were told, or have decided."""


class Named(Protocol):
    """An object of a listing."""

    @property
    def key(self) -> str:
        """Its full key."""


class Shelf(Protocol):
    """What a trail needs of a store: the worker's, or the gateway's small one."""

    @property
    def root(self) -> str:
        """Key prefix of the stack, with a slash at its end."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        """Write an object; raises StoreError."""

    def get(self, key: str) -> bytes:
        """Read an object; raises StoreError."""

    def list(self, prefix: str) -> Iterator[Named]:
        """Yield the objects below a prefix; raises StoreError."""


class Entry(BaseModel):
    """One entry.

    Attributes:
        actor: a runbook's name, or what else acted. service: whom it was about. what: in a sentence; no secrets.
        result: what came of it, empty where that is not known yet. by, why: as people or the automation said.
        run: id of the flow run, empty outside one.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    kind: Kind
    actor: str
    service: str = ""
    what: str = ""
    result: str = ""
    by: str = ""
    why: str = ""
    incident: str = ""
    run: str = ""
    id: str = Field(default_factory=lambda: secrets.token_hex(3))

    @property
    def name(self) -> str:
        """Below the folder of the trail."""
        at = self.at.astimezone(UTC)
        return f"{at:%Y-%m}/{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03}Z-{self.id}.json"


@dataclass
class Trail:
    """Writes entries.

    Attributes:
        owed: entries that the store has not taken yet, oldest first.
    """

    store: Shelf
    owed: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Write an entry, and those before it that are still owed; raises for nothing that the store does."""
        self.owed.append(entry)
        self.settle()

    def settle(self) -> bool:
        """Write what is owed, in order; returns whether all of it is written."""
        while self.owed:
            try:
                _write(self.store, self.owed[0])
            except StoreError:
                return False
            self.owed.pop(0)
        return True

    def close(self) -> None:
        """Write what is owed for the last time, and say in the log what stays unwritten."""
        if not self.settle():
            for entry in self.owed:
                said = f"{entry.at:%H:%M:%S} {entry.actor} {entry.kind}: {entry.what} {entry.result}"
                line(f"audit: the store did not take this, so it stands here only: {said}")

    def since(self, begin: datetime, end: datetime) -> list[Entry]:
        """Read what was written between two moments, and what is owed; nothing where the store does not answer."""
        try:
            found = read(self.store, begin, end)
        except StoreError as error:
            line(f"audit: what was done before cannot be read: {error}")
            found = []
        return [*found, *(entry for entry in self.owed if begin <= entry.at <= end)]


def read(store: Shelf, begin: datetime, end: datetime, *, incident: str = "") -> list[Entry]:
    """Read the entries between two moments, oldest first; what somebody has damaged is left out, and said in the log.

    Args:
        incident: only those about one incident, by its key.
    Raises:
        StoreError: the store does not answer.
    """
    keys = [item.key for month in months_between(begin, end) for item in store.list(f"{_folder(store)}{month}/")]
    found = []
    for key in keys:
        try:
            found.append(Entry.model_validate_json(retrying(lambda: store.get(key))))  # noqa: B023 - called at once
        except ValidationError:
            line(f"audit: {key} is no entry; left out")
    wanted = (entry for entry in found if begin <= entry.at <= end and incident in ("", entry.incident))
    return sorted(wanted, key=lambda entry: (entry.at, entry.id))


def months_between(begin: datetime, end: datetime) -> Sequence[str]:
    """Name the months that two moments and what is between them are in, `2026-11` first."""
    return list(_months(begin.astimezone(UTC), end.astimezone(UTC)))


def _months(begin: datetime, end: datetime) -> Iterator[str]:
    year, month = begin.year, begin.month
    while (year, month) <= (end.year, end.month):
        yield f"{year}-{month:02}"
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)


def _write(store: Shelf, entry: Entry) -> None:
    key, data = f"{_folder(store)}{entry.name}", entry.model_dump_json(exclude_defaults=True).encode()
    try:
        store.put(key, data, if_absent=True)  # tried again with the next entry: a store that is down must not hold up its cure
    except ConditionFailed:
        return  # our own write, whose answer got lost: the name is drawn


def _folder(store: Shelf) -> str:
    return f"{store.root}audit/"
