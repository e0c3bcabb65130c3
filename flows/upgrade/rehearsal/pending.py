"""Which migrations a version would apply to a database. Decides alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.upgrade.rehearsal.wheel import Migration

__all__ = ["Pending", "Recorded", "pending"]


@dataclass(frozen=True)
class Recorded:
    """A row of Prisma's `_prisma_migrations`.

    Attributes:
        name, checksum: of the migration. is_done: it ended. is_taken_back: it was resolved as rolled back.
    """

    name: str
    checksum: str
    is_done: bool
    is_taken_back: bool = False


@dataclass(frozen=True)
class Pending:
    """How a database and a version differ.

    Attributes:
        todo: migrations that the version would apply, in order. ahead: names that the database has and the version has not:
            it is older than the data.
        changed: names of those that are applied and had another script then. broken: names of those that broke off.
    """

    todo: tuple[Migration, ...] = ()
    ahead: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


def pending(migrations: Sequence[Migration], recorded: Sequence[Recorded]) -> Pending:
    """Compare what a version has with what a database has, as `prisma migrate deploy` does.

    Args:
        migrations: of the version. recorded: in the database; several rows of one name where it was tried again.
    """
    done = {one.name: one.checksum for one in recorded if one.is_done and not one.is_taken_back}
    known = {one.name for one in migrations}
    return Pending(
        todo=tuple(one for one in sorted(migrations, key=lambda one: one.name.encode()) if one.name not in done),
        ahead=tuple(sorted(done.keys() - known)),
        changed=tuple(one.name for one in migrations if done.get(one.name, one.checksum) != one.checksum),
        broken=tuple(sorted({one.name for one in recorded if not one.is_done and not one.is_taken_back} - done.keys())),
    )
