"""What a rehearsal found, kept in the store: an upgrade to that version says when it was rehearsed, and how it went."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocks.errors import ObjectMissing
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows import catalogue
from flows.report import Summary
from flows.upgrade.rehearsal.applying import Applied

__all__ = ["Rehearsal", "load", "save", "show"]


class Rehearsal(BaseModel):
    """One rehearsal.

    Attributes:
        litellm, extras: versions. wheel_sha256: of the file that the migrations are from, hex. set_id: whose data it was.
        applied: each migration, in order. seconds: of all of them together.
        lost: what the migrations drop: tables, columns, rows. problems: why the upgrade must not be made; empty: it may.
        warnings: what to know before it is made.
    """

    model_config = ConfigDict(frozen=True)

    stack: str
    litellm: str
    extras: str
    wheel_sha256: str
    set_id: str
    at: datetime
    applied: list[Applied] = Field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0
    lost: list[str] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all migrations fit the data."""
        return not self.problems

    @property
    def seconds(self) -> float:
        """What the migrations took together, on the machine that rehearsed them."""
        return sum(one.seconds for one in self.applied)

    def sentence(self) -> str:
        """Say in one line how it went."""
        if not self.ok:
            return f"LiteLLM {self.litellm} rehearsed with {self.set_id}: {self.problems[0]}"
        lost = f", {len(self.lost)} things are dropped" if self.lost else ", nothing is dropped"
        took = f"{len(self.applied)} migrations in {self.seconds:.1f} s"
        return f"LiteLLM {self.litellm} rehearsed with {self.set_id}: {took}{lost}"


def save(store: BackupStore, rehearsal: Rehearsal) -> None:
    """Keep a rehearsal, in the place of an earlier one of the same version."""
    retrying(lambda: store.put(_key(store, rehearsal.litellm), rehearsal.model_dump_json(indent=1).encode()))


def load(store: BackupStore, litellm: str) -> Rehearsal | None:
    """Return the last rehearsal of a version of LiteLLM, None where there is none that can be read."""
    try:
        return Rehearsal.model_validate_json(retrying(lambda: store.get(_key(store, litellm))))
    except (ObjectMissing, ValidationError):
        return None


def show(rehearsal: Rehearsal) -> None:
    """Publish the report."""
    verdict = "it may be made" if rehearsal.ok else "it must NOT be made"
    summary = Summary(f"Rehearsal of LiteLLM {rehearsal.litellm}: {verdict}", ("Migration", "Seconds", "Blocks", "Outcome"))
    for one in rehearsal.applied:
        outcome = f"{one.outcome}{f': {one.said}' if one.said else ''}"
        summary.row(one.name, f"{one.seconds:.2f}", ", ".join(one.blocked), outcome)
    for problem in rehearsal.problems:
        summary.note(f"**Problem:** {problem}")
    for warning in rehearsal.warnings:
        summary.note(f"Note: {warning}")
    for lost in rehearsal.lost:
        summary.note(f"Dropped, and not back by an older image: {lost}")
    sizes = f"{catalogue.size(rehearsal.bytes_before)} before, {catalogue.size(rehearsal.bytes_after)} after"
    summary.note(
        f"{len(rehearsal.applied)} migrations of litellm-proxy-extras {rehearsal.extras} (sha256 `{rehearsal.wheel_sha256}`) "
        f"took {rehearsal.seconds:.1f} s on a copy of {rehearsal.set_id} beside the worker; the database is {sizes}. "
        "Times are those of this machine and of a server that nobody else uses."
    )
    summary.publish(f"rehearsal-{rehearsal.stack}")


def _key(store: BackupStore, litellm: str) -> str:
    return f"{store.root}rehearsals/litellm-{litellm}.json"
