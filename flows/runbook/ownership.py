"""What an application's role cannot alter in its own database, for it is another role's; and giving it back.

The application's role is the database's owner, as in the check. ALTER ... OWNER TO takes along a table's indexes and the
sequences of its columns. In the lists of privileges it puts the new owner in the place of the former one: what third roles
were granted stays, what the former owner could do ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import GuardRefused
from blocks.postgres import PostgresServer, explained
from flows.health.checks.postgres_applications import NOT_OWNED
from flows.runbook.frame import Action
from flows.runbook.prisma_ledger import keep_out

__all__ = ["Give", "Home", "Stray", "read_home", "read_strays", "users_of"]

_KINDS = {"r": "TABLE", "p": "TABLE", "f": "FOREIGN TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "S": "SEQUENCE", "T": "TYPE"}
"""By `relkind`; T is ours, for types."""
_GRANTED_AS = {"S": "SEQUENCE", "T": "TYPE"}
"""What GRANT calls it; whatever else is a table to it."""
_LOCK_SECONDS = 10


@dataclass(frozen=True)
class Home:
    """An application's database.

    Attributes:
        role: the application's. me: the role that this worker changes owners as. superuser: that one may do everything.
        may_be: it may act as the application's role. may_create: the application's role may create in `public`.
    """

    role: str
    me: str
    superuser: bool
    may_be: bool
    may_create: bool

    def refuses(self, one: Stray) -> str:
        """Say why Postgres would refuse to change an owner, empty where it would not."""
        if self.superuser:
            return ""
        if not one.mine:
            return f"{self.me} is neither superuser nor a member of {one.owner}"
        if not self.may_be:
            return f"{self.me} is neither superuser nor a member of {self.role}"
        return "" if self.may_create else f"{self.role} may not create in the schema public"


@dataclass(frozen=True)
class Stray:
    """Something of an application's that is another role's.

    Attributes:
        kind: as in `_KINDS`. owner: whose it is. above: that is a superuser, who needs no right to use it.
        mine: this worker's role has that one's rights. granted: what the application's role was granted of it, each with
            whether it may hand that on.
    """

    oid: int
    kind: str
    name: str
    owner: str
    above: bool
    mine: bool
    granted: tuple[tuple[str, bool], ...] = ()

    @property
    def words(self) -> str:
        """For people."""
        return f"{_KINDS[self.kind].lower()} {self.name} ({self.owner}'s)"

    def give(self, role: str) -> sql.Composed:
        """The statement that makes it a role's."""
        return sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(_KINDS[self.kind]), self._named, sql.Identifier(role))

    def back(self, role: str) -> list[sql.Composed]:
        """The statements that make it its former owner's again, and let the application's role do what it could do before."""
        statements = [self.give(self.owner)]
        for further, suffix in ((False, ""), (True, " WITH GRANT OPTION")):
            if privileges := [name for name, on in self.granted if on is further]:
                statements.append(self._grant(privileges, role, suffix))
        return statements

    def readable_by(self, role: str) -> sql.Composed:
        """The statement that lets a role read it."""
        return self._grant(["USAGE" if self.kind == "T" else "SELECT"], role, "")

    def _grant(self, privileges: Sequence[str], role: str, suffix: str) -> sql.Composed:
        return sql.SQL("GRANT {} ON {} {} TO {}{}").format(
            sql.SQL(", ").join(sql.SQL(one) for one in privileges),  # words of the catalogue
            sql.SQL(_GRANTED_AS.get(self.kind, "TABLE")),
            self._named,
            sql.Identifier(role),
            sql.SQL(suffix),
        )

    @property
    def _named(self) -> sql.Identifier:
        return sql.Identifier("public", self.name)


def read_home(connection: Connection[TupleRow]) -> Home:
    """Read whose a database is, and what this connection's role may do about that."""
    as_role = "SET" if connection.info.server_version >= 160000 else "MEMBER"  # 16 tells being it from having its rights
    ((role, me, superuser, may_be, may_create),) = connection.execute(_HOME, [as_role]).fetchall()
    return Home(role, me, superuser, may_be, may_create)


def read_strays(connection: Connection[TupleRow], litellm: bool) -> list[Stray]:
    """Read what the application's role cannot alter, by name: what the check counts, and types that its tables use.

    Args:
        litellm: it is LiteLLM's database, in which a table of another name is a foreign one and none of its own.
    """
    return [
        Stray(oid, kind, name, owner, above, mine, tuple((str(what), bool(on)) for what, on in granted or ()))
        for oid, kind, name, owner, above, mine, granted in connection.execute(_STRAYS, [litellm, litellm]).fetchall()
    ]


def users_of(connection: Connection[TupleRow], strays: Sequence[Stray]) -> list[str]:
    """Name the owners that would miss them: no superusers, and connected to this database right now."""
    owners = sorted({one.owner for one in strays if not one.above})
    return [str(name) for (name,) in connection.execute(_CONNECTED, [owners]).fetchall()]


@dataclass(frozen=True)
class Give(Action):
    """Makes exactly what a person has seen the application's role's, all of it or nothing.

    Attributes:
        litellm: as in `read_strays`. reader: the role that takes backups, which must go on reading; empty: none.
    """

    server: PostgresServer
    database: str
    litellm: bool
    home: Home
    strays: Sequence[Stray]
    reader: str = ""

    @property
    def asks(self) -> str:
        """As in `Action`."""
        owners = ", ".join(sorted({one.owner for one in self.strays}))
        return f"what {owners} could do with them as their owner ends; each is locked for a moment"

    def describe(self) -> str:
        """As in `Action`."""
        names = ", ".join(one.words for one in self.strays[:5])
        more = f" and {len(self.strays) - 5} more" if len(self.strays) > 5 else ""
        return f"give {names}{more} in {self.database} to {self.home.role}"

    def needless(self) -> str:
        """As in `Action`."""
        with self.server.connect(self.database) as connection, explained(self.database, "look for owners"):
            left = self._left(connection)
        return "" if left else f"{self.home.role} may alter all of them by now"

    def do(self) -> str:
        """As in `Action`."""
        settings = {"lock_timeout": f"{_LOCK_SECONDS}s", "statement_timeout": "60s"}
        with (
            self.server.connect(self.database, autocommit=False, settings=settings) as connection,
            explained(self.database, "change owners, all or none"),
        ):
            keep_out(connection, self.database)
            left = self._left(connection)
            if not left:
                raise GuardRefused(
                    f"postgres {self.database}: {self.home.role} may alter all of them by now; nothing was changed"
                )
            for one in left:
                self._give(connection, one)
            connection.commit()
        back = "; ".join(statement.as_string() for one in left for statement in one.back(self.home.role))
        return f"{self.home.role} owns {len(left)} more; way back: {back}"

    def _give(self, connection: Connection[TupleRow], one: Stray) -> None:
        read_before = self._reads(connection, one)
        try:
            connection.execute(one.give(self.home.role))
        except psycopg.errors.LockNotAvailable:
            raise GuardRefused(
                f"postgres {self.database}: somebody uses {one.name} for longer than {_LOCK_SECONDS} s; nothing was changed; "
                "run this again, or see in pg_locks who it is"
            ) from None
        if read_before and not self._reads(connection, one):
            connection.execute(one.readable_by(self.reader))

    def _reads(self, connection: Connection[TupleRow], one: Stray) -> bool:
        """Whether the role that takes backups can read one; types are no matter of reading."""
        if not self.reader or one.kind == "T":
            return False
        return (True,) in connection.execute(_READS, [self.reader, one.oid]).fetchall()

    def _left(self, connection: Connection[TupleRow]) -> list[Stray]:
        """What a person has seen and is still so."""
        seen = {(one.oid, one.kind, one.name, one.owner) for one in self.strays}
        now = read_strays(connection, self.litellm)
        return [one for one in now if (one.oid, one.kind, one.name, one.owner) in seen]


_HOME = """
SELECT pg_catalog.pg_get_userbyid(d.datdba)::text, current_user::text, r.rolsuper,
  pg_catalog.pg_has_role(current_user, d.datdba, %s), pg_catalog.has_schema_privilege(d.datdba, 'public', 'CREATE')
FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.rolname = current_user
WHERE d.datname = pg_catalog.current_database()
"""
_COLUMNS = """
  pg_catalog.pg_get_userbyid({owner})::text, (SELECT u.rolsuper FROM pg_catalog.pg_roles u WHERE u.oid = {owner}),
  pg_catalog.pg_has_role(current_user, {owner}, 'USAGE'),
  (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(a.privilege_type, a.is_grantable) ORDER BY a.privilege_type)
   FROM pg_catalog.aclexplode({acl}) AS a WHERE a.grantee = d.datdba)
"""
_STRAYS = f"""
SELECT c.oid::int8, c.relkind::text, c.relname::text, {_COLUMNS.format(owner="c.relowner", acl="c.relacl")}
{NOT_OWNED}
UNION ALL
SELECT t.oid::int8, 'T', t.typname::text, {_COLUMNS.format(owner="t.typowner", acl="t.typacl")}
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace AND n.nspname = 'public'
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
WHERE t.typtype IN ('e', 'd') AND NOT pg_catalog.pg_has_role(d.datdba, t.typowner, 'USAGE')
  AND EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE a.atttypid IN (t.oid, t.typarray) AND NOT a.attisdropped AND c.relnamespace = n.oid AND c.relkind IN ('r', 'p')
      AND (NOT %s OR c.relname ~ '^LiteLLM_'))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend x WHERE x.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
    AND x.objid = t.oid AND x.deptype = 'e')
ORDER BY 3, 2
"""
"""A migration that adds a label to an enumeration needs to own that, too; row types go with their table."""
_CONNECTED = """
SELECT DISTINCT usename FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()
  AND usename = ANY(%s) AND pid <> pg_catalog.pg_backend_pid() ORDER BY 1
"""
_READS = """
SELECT pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT')
FROM pg_catalog.pg_roles r, pg_catalog.pg_class c WHERE r.rolname = %s AND c.oid = %s
"""
