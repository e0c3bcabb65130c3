"""The table of contents of a dump, and which of its entries it takes to restore one table.

Everything that a table may depend on is made (types, functions, other tables: all empty), because what depends on what stands
in no list that pg_restore prints, and empty tables cost nothing. Data is restored of the wanted tables alone. Left out is what
would act on its own (triggers, rules, event triggers, subscriptions), what would refuse rows whose counterparts are not there
(foreign keys), and what needs roles (grants, policies, user mappings).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from blocks.errors import RestoreRefused
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from flows.backup.manifest import PostgresDatabase
from flows.backup.stream import open_encrypted
from flows.restore.postgres import feed, pg_restore
from flows.restore_table.choose import split

WITHOUT = (
    "--no-owner",
    "--no-privileges",
    "--no-comments",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
)
"""Arguments of pg_restore that leave out what a copy of rows does not need, and what a live server may lack roles for."""

_NEVER = (
    "FK CONSTRAINT",
    "TRIGGER",
    "EVENT TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "PUBLICATION",
    "SUBSCRIPTION",
    "USER MAPPING",
    "MATERIALIZED VIEW DATA",
    "STATISTICS",
    "BLOB",
    "BLOBS",
    "SEQUENCE SET",
    "COMMENT",
    "SECURITY LABEL",
    "ACL",
    "DEFAULT ACL",
)
_DATA = "TABLE DATA"
_AFTERWARDS = ("CONSTRAINT", "CHECK CONSTRAINT", "INDEX", "INDEX ATTACH")
_ENTRY = re.compile(r"(?P<id>\d+); (?P<catalogue>\d+) (?P<oid>\d+) (?P<what>.+)")


class Contents:
    """The entries of a dump, as `pg_restore --list` prints them.

    Args:
        text: the list.
    """

    def __init__(self, text: str) -> None:
        self._entries = [match for line in text.splitlines() if (match := _ENTRY.match(line))]

    def definitions(self) -> str:
        """List what exists before any row: types, functions, tables."""
        return _listed(e for e in self._entries if not _is(e, (*_NEVER, _DATA, *_AFTERWARDS)))

    def rows(self, tables: Collection[str], roles: Collection[str], *, indexes: bool) -> str:
        """List the rows of some tables and, if wanted, all that follows on rows: indexes and constraints.

        Args:
            tables: qualified and quoted. roles: who may own them; an entry ends with its owner's name.
            indexes: of all tables; the others are empty.
        Raises:
            RestoreRefused: which table has no rows in the dump.
        """
        wanted = {name: {f"{_DATA} {_plain(name)} {_line(role)}" for role in roles} for name in tables}
        data = {name: [e for e in self._entries if e["what"] in lines] for name, lines in wanted.items()}
        for name, entries in data.items():
            if len(entries) != 1:
                how = "holds no rows of" if not entries else "does not say which of several entries is"
                raise RestoreRefused(f"postgres: the dump {how} {name}; restore the database as a whole with restore/on-demand")
        ids = {entry["id"] for entries in data.values() for entry in entries}
        after = _AFTERWARDS if indexes else ()
        return _listed(e for e in self._entries if e["id"] in ids or (_is(e, after) and not _is(e, _NEVER)))


def read_contents(
    server: PostgresServer, component: PostgresDatabase, store: BackupStore, prefix: str, keys: BackupKeys, folder: Path
) -> Contents:
    """Read the table of contents of a stored dump; only its beginning is read.

    Args:
        folder: private, for the list: names of tables, nothing of what is in them.
    Raises:
        RestoreFailed: pg_restore cannot read it.
    """
    listing = folder / "contents"
    argv = [str(pg_restore(server, component)), "--format=custom", "--list", f"--file={listing}"]
    with open_encrypted(store, prefix, component.object, keys) as source:
        feed(f"pg_restore --list of {component.name}", argv, server.conninfo_env(component.name), source)
    return Contents(listing.read_text(errors="surrogateescape"))


def _is(entry: re.Match[str], kinds: Iterable[str]) -> bool:
    return any(entry["what"].startswith(f"{kind} ") for kind in kinds)


def _listed(entries: Iterator[re.Match[str]]) -> str:
    return "".join(f"{entry.string}\n" for entry in entries)


def _plain(name: str) -> str:
    """Write a qualified name as the list has it: no quotes."""
    return " ".join(_line(part) for part in split(name))


def _line(name: str) -> str:
    """Write a name as the list has it: on one line."""
    return name.replace("\n", " ").replace("\r", " ")
