"""What a role must be allowed to read for a backup that holds everything, and how to allow it."""

from __future__ import annotations

from psycopg import Connection
from psycopg.rows import TupleRow

_USER_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"

_UNREADABLE = f"""
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S', 'm') AND {_USER_SCHEMA}
  AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    AND CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
        ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END)
ORDER BY 1
"""

_FILTERED = f"""
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND {_USER_SCHEMA} AND pg_catalog.row_security_active(c.oid)
ORDER BY 1
"""

_LARGE_OBJECTS = """
SELECT count(*) FROM pg_catalog.pg_largeobject_metadata l
WHERE pg_catalog.current_setting('lo_compat_privileges') = 'off'
  AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
  AND NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE')
  AND NOT EXISTS (
    SELECT FROM pg_catalog.aclexplode(l.lomacl) a
    WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
"""


def access_problems(connection: Connection[TupleRow]) -> list[str]:
    """Say what of a database the connection's role cannot read, and the statement with which a superuser allows it.

    pg_read_all_data does not cover large objects before Postgres 19, and nothing but a policy for the role, BYPASSRLS or
    ownership covers row security (pg_dump turns it off and would fail).
    """
    role_row = connection.execute("SELECT pg_catalog.quote_ident(current_user)").fetchone()
    role = str(role_row[0]) if role_row else "the role"
    problems = []
    if unreadable := [str(name) for (name,) in connection.execute(_UNREADABLE)]:
        problems.append(f"{role} cannot read {_some(unreadable)}; GRANT pg_read_all_data TO {role}")
    if filtered := [str(name) for (name,) in connection.execute(_FILTERED)]:
        problems.append(f"row security hides rows of {_some(filtered)} from {role}; ALTER ROLE {role} BYPASSRLS")
    large = connection.execute(_LARGE_OBJECTS).fetchone()
    if large and large[0]:
        remedy = f"ALTER ROLE {role} SET lo_compat_privileges = on"
        problems.append(f"{role} cannot read {large[0]} large objects; as a superuser: {remedy}")
    return problems


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
