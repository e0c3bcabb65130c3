"""The rehearsal itself: what is pending is applied to a restored database, and compared with what was there before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blocks.errors import GuardRefused
from blocks.postgres import PostgresServer
from flows.report import line
from flows.upgrade.rehearsal.applying import Applied, Shape, apply, recorded, shape
from flows.upgrade.rehearsal.pending import Pending, pending
from flows.upgrade.rehearsal.wheel import Wheel

__all__ = ["Found", "Limits", "compared", "rehearse_on"]

Resolver = Literal["v1", "v2"]
_LEDGER = "_prisma_migrations"
_OWN = "LiteLLM_"


@dataclass(frozen=True)
class Limits:
    """What a rehearsal holds itself to.

    Attributes:
        statement_s: seconds for one statement. health_s: that the platform waits until LiteLLM is ready, migrations included.
    """

    statement_s: int
    health_s: int


@dataclass(frozen=True)
class Found:
    """What a rehearsal found; see `record.Rehearsal`."""

    applied: tuple[Applied, ...]
    before: Shape
    after: Shape
    lost: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def rehearse_on(
    server: PostgresServer, migrator: PostgresServer, database: str, wheel: Wheel, *, resolver: Resolver, limits: Limits
) -> Found:
    """Apply the migrations of a version to a scratch database, until one fails.

    Args:
        server, database: the scratch place, as a superuser; it is changed. migrator: the same as LiteLLM's role (`confined`).
        wheel: of the version.
        resolver: how it migrates, see `rules/litellm.py`.
    Raises:
        GuardRefused: the database is not one that a restore has put aside.
    """
    if "__drill_" not in database:
        raise GuardRefused(f"rehearsal: {database} is no scratch database; nothing was changed")
    before, waiting = shape(server, database), pending(wheel.migrations, recorded(server, database))
    line(f"{len(waiting.todo)} of {len(wheel.migrations)} migrations are pending")
    applied: list[Applied] = []
    for migration in () if waiting.broken else waiting.todo:
        one = apply(server, migrator, database, migration, limit_s=limits.statement_s, forgiving=resolver == "v1")
        applied.append(one)
        blocks = f", blocks {', '.join(one.blocked)}" if one.blocked else ""
        line(f"{one.name}: {one.outcome} in {one.seconds:.2f} s{blocks}{f': {one.said}' if one.said else ''}")
        if one.outcome == "failed":
            break
    after = shape(server, database)
    problems, warnings = compared(waiting, applied, before, resolver, limits)
    return Found(tuple(applied), before, after, tuple(lost(before, after)), tuple(problems), tuple(warnings))


def compared(
    waiting: Pending, applied: list[Applied], before: Shape, resolver: Resolver, limits: Limits
) -> tuple[list[str], list[str]]:
    """Say what keeps an upgrade from being made, and what to know before it is. Decides alone."""
    problems, warnings = [], []
    if waiting.broken:
        problems.append(
            f"migration {waiting.broken[0]} broke off earlier, and nothing is applied before that is resolved (P3009)"
        )
    problems += [f"migration {one.name} fails: {one.said}" for one in applied if one.outcome == "failed"]
    foreign = sorted(name for name in before.tables if not name.startswith(_OWN) and name != _LEDGER)
    if foreign:
        text = f"{len(foreign)} tables are not LiteLLM's ({', '.join(foreign[:3])})"
        if resolver == "v1":
            problems.append(
                f"{text}, and this version drops what it does not know; give each application a database of its own"
            )
        else:
            warnings.append(f"{text}; give each application a database of its own")
    if waiting.ahead:
        text = f"the data is newer: {len(waiting.ahead)} of its migrations are not in this version ({waiting.ahead[-1]})"
        if resolver == "v1":
            problems.append(f"{text}, and it would change the schema back; set DISABLE_SCHEMA_UPDATE=true before it")
        else:
            warnings.append(text)
    if waiting.changed:
        warnings.append(f"{len(waiting.changed)} migrations had another script when they were applied ({waiting.changed[0]})")
    seconds = sum(one.seconds for one in applied)
    if seconds > limits.health_s / 2:
        warnings.append(
            f"the migrations take {seconds:.0f} s here, and Railway waits {limits.health_s} s until LiteLLM is ready; give it "
            "more time before the upgrade, or run them as a job of their own (litellm --skip_server_startup)"
        )
    if resolver == "v1":
        warnings.append("not rehearsed: before 1.106 LiteLLM also makes the schema equal to its own after the migrations")
    return problems, warnings


def lost(before: Shape, after: Shape) -> list[str]:
    """Name what was there before and is not any more: tables with their rows, columns, rows."""
    found = [f"table {name} with {rows} rows" for name, rows in before.tables.items() if name not in after.tables]
    gone = {name for name in before.tables if name not in after.tables}
    found += [
        f"column {column} of a table with {before.tables.get(column.partition('.')[0], 0)} rows"
        for column in sorted(before.columns - after.columns)
        if column.partition(".")[0] not in gone
    ]
    return found + [
        f"{rows - after.tables[name]} rows of {name}"
        for name, rows in before.tables.items()
        if name != _LEDGER and after.tables.get(name, rows) < rows
    ]
