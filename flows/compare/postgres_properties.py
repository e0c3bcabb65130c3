"""What belongs to a Postgres database as a whole: owner, locale, settings, grants, extensions, roles."""

from __future__ import annotations

from psycopg import Connection
from psycopg.rows import TupleRow

from flows.backup.manifest import DatabaseProperties
from flows.compare.postgres_definitions import USER_SCHEMA

# to_jsonb, because the columns of locales have other names in each major version: daticulocale (15, 16), datlocale (17).
_DATABASE = """
SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding),
  CASE to_jsonb(d) ->> 'datlocprovider' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
  d.datcollate, d.datctype, coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), d.datconnlimit,
  d.datistemplate, shobj_description(d.oid, 'pg_database'),
  ARRAY(SELECT a::text FROM unnest(coalesce(d.datacl, acldefault('d', d.datdba))) a ORDER BY a::text COLLATE "C")
FROM pg_database d WHERE d.datname = %s
"""

_SETTINGS = """
SELECT r.rolname, ARRAY(SELECT v FROM unnest(s.setconfig) v ORDER BY v COLLATE "C")
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE d.datname = %s AND (s.setrole = 0 OR r.oid IS NOT NULL)
"""

# The bootstrap superuser (oid 10) owns things without an entry in pg_shdepend. Predefined roles exist everywhere.
_ROLES = """
SELECT rolname FROM pg_roles r WHERE rolname !~ '^pg_' AND (oid = 10 OR EXISTS (
  SELECT FROM pg_shdepend s, pg_database d
  WHERE d.datname = current_database() AND s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
    AND (s.dbid = d.oid OR (s.classid = 'pg_database'::regclass AND s.objid = d.oid)))
  OR EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
    WHERE d.datname = current_database() AND s.setrole = r.oid))
ORDER BY rolname
"""

_NOT_TAKEN = f"""
SELECT 'rows of foreign table ' || c.oid::regclass || ' (they are on another server)'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'f' AND {USER_SCHEMA}
UNION ALL
SELECT 'subscription ' || quote_ident(subname) || ' (pg_dump takes it only as a superuser)' FROM pg_subscription s
JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()
  AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
UNION ALL
SELECT 'options, such as a password, of the user mapping for ' || usename || ' on server ' || srvname
  || ' (hidden from this role)'
FROM pg_user_mappings WHERE umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
UNION ALL
SELECT 'index ' || i.indexrelid::regclass || ' (invalid: a CREATE INDEX CONCURRENTLY failed; drop or rebuild it)'
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relkind = 'i' AND {USER_SCHEMA}
ORDER BY 1
"""


def database_properties(connection: Connection[TupleRow], database: str) -> DatabaseProperties:
    """Read the properties of a database that is not in its dump.

    Args:
        connection: to any database of the server. database: exists.
    """
    row = connection.execute(_DATABASE, [database]).fetchone()
    if row is None:
        raise LookupError(f"no database {database}")
    owner, encoding, provider, collate, ctype, locale, limit, is_template, comment, acl = row
    settings: list[str] = []
    role_settings: dict[str, list[str]] = {}
    for role, values in connection.execute(_SETTINGS, [database]):
        if role is None:
            settings = values
        else:
            role_settings[role] = values
    return DatabaseProperties(
        owner=owner,
        encoding=encoding,
        locale_provider=provider,
        collate=collate,
        ctype=ctype,
        icu_locale=locale,
        connection_limit=limit,
        is_template=is_template,
        comment=comment,
        acl=acl,
        settings=settings,
        role_settings=role_settings,
    )


def extensions(connection: Connection[TupleRow]) -> dict[str, str]:
    """Return the version of every extension in the connection's database, by name."""
    return dict(connection.execute("SELECT extname::text, extversion FROM pg_extension ORDER BY 1").fetchall())


def needed_roles(connection: Connection[TupleRow]) -> list[str]:
    """Name the roles that own something in the connection's database, hold a grant in it, or have settings for it."""
    return [str(name) for (name,) in connection.execute(_ROLES)]


def not_taken(connection: Connection[TupleRow]) -> list[str]:
    """Say what of the connection's database pg_dump leaves out."""
    return [str(what) for (what,) in connection.execute(_NOT_TAKEN)]


def database_size(connection: Connection[TupleRow]) -> int:
    """Return the size of the connection's database, bytes."""
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0
