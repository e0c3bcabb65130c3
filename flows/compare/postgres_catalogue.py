"""The catalogue of a Postgres database: every definition, owner, grant and comment by name.

Two copies of a database have equal catalogues; where they differ, the key says what differs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from psycopg import Connection
from psycopg.rows import TupleRow

from flows.compare.postgres_definitions import DEFINITIONS, RELATION_KIND

LONGEST = 200
"""Longer definitions are kept as their hash: the manifest should stay small, and the dump has the text."""

_GRANTEE = "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END"
_PRIVILEGE = """a.privilege_type || CASE WHEN a.is_grantable THEN ' with grant option' ELSE '' END
    || ' by ' || quote_ident(pg_get_userbyid(a.grantor))"""

# What was granted or revoked beyond the privileges that an object has from the start: those initdb or an extension gave it
# (pg_init_privs), else the built-in ones. A NULL list means exactly those.
_GRANTS = f"""
WITH objects (catalogue, oid, part, what, acl, standard) AS (
  SELECT 'pg_class'::regclass, c.oid, 0, {RELATION_KIND} || ' ' || c.oid::regclass, c.relacl,
    acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)
  FROM pg_class c WHERE c.relacl IS NOT NULL AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't'
  UNION ALL
  SELECT 'pg_class'::regclass, c.oid, a.attnum, 'column ' || c.oid::regclass || '.' || quote_ident(a.attname), a.attacl,
    acldefault('c', c.relowner)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND c.relpersistence <> 't'
  UNION ALL
  SELECT 'pg_proc'::regclass, oid, 0, 'function ' || oid::regprocedure, proacl, acldefault('f', proowner)
  FROM pg_proc WHERE proacl IS NOT NULL
  UNION ALL
  SELECT 'pg_type'::regclass, oid, 0, 'type ' || format_type(oid, NULL), typacl, acldefault('T', typowner)
  FROM pg_type WHERE typacl IS NOT NULL
  UNION ALL
  SELECT 'pg_namespace'::regclass, oid, 0, 'schema ' || quote_ident(nspname), nspacl, acldefault('n', nspowner)
  FROM pg_namespace WHERE nspacl IS NOT NULL AND nspname !~ '^pg_(temp|toast)'
  UNION ALL
  SELECT 'pg_language'::regclass, oid, 0, 'language ' || quote_ident(lanname), lanacl, acldefault('l', lanowner)
  FROM pg_language WHERE lanacl IS NOT NULL
  UNION ALL
  SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, 'foreign-data wrapper ' || quote_ident(fdwname), fdwacl,
    acldefault('F', fdwowner)
  FROM pg_foreign_data_wrapper WHERE fdwacl IS NOT NULL
  UNION ALL
  SELECT 'pg_foreign_server'::regclass, oid, 0, 'server ' || quote_ident(srvname), srvacl, acldefault('S', srvowner)
  FROM pg_foreign_server WHERE srvacl IS NOT NULL),
begun AS (
  SELECT o.what, o.acl, coalesce(i.initprivs, o.standard) AS standard FROM objects o
  LEFT JOIN pg_init_privs i ON i.classoid = o.catalogue AND i.objoid = o.oid AND i.objsubid = o.part),
changed AS (
  SELECT b.what, '' AS sign, a.* FROM begun b,
    LATERAL (SELECT * FROM aclexplode(b.acl) EXCEPT SELECT * FROM aclexplode(b.standard)) a
  UNION ALL
  SELECT b.what, 'not ', a.* FROM begun b,
    LATERAL (SELECT * FROM aclexplode(b.standard) EXCEPT SELECT * FROM aclexplode(b.acl)) a)
SELECT 'grant on ' || a.what || ' to ' || {_GRANTEE},
  string_agg(a.sign || {_PRIVILEGE}, ', ' ORDER BY a.sign, a.privilege_type, pg_get_userbyid(a.grantor))
FROM changed a GROUP BY a.what, a.grantee
"""

_DEFAULT_GRANTS = f"""
SELECT 'default grant of ' || quote_ident(pg_get_userbyid(d.defaclrole))
    || coalesce(' in schema ' || quote_ident(n.nspname), '') || ' on ' ||
    CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'
      WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' WHEN 'L' THEN 'large objects' ELSE d.defaclobjtype::text END
    || ' to ' || coalesce({_GRANTEE}, 'nobody'), coalesce(string_agg({_PRIVILEGE}, ', ' ORDER BY a.privilege_type), 'nothing')
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
LEFT JOIN LATERAL aclexplode(d.defaclacl) a ON true
GROUP BY d.defaclrole, n.nspname, d.defaclobjtype, a.grantee
"""

_CAST_ARRAY = re.compile(r"""\(ARRAY\[((?:'(?:[^']|'')*'|[^][']|\[[^][]*\])*)\]\)::((?:[\w. ]|"[^"]+")+?)(\(\d+\))?\[\]""")
_ITEM = re.compile(r"""(?:'(?:[^']|'')*'|"[^"]*"|\((?:'(?:[^']|'')*'|[^()'])*\)|[^,'"(])+""")


def catalogue(connection: Connection[TupleRow]) -> dict[str, str]:
    """Describe everything the database consists of.

    Args:
        connection: with the settings `blocks.postgres.PINNED`; what it sees is what its transaction sees.
    Returns: what it is -> its definition, or `sha256:<hex>` where that is long; grants are written out.
    """
    found: dict[str, list[str]] = {}
    for query in DEFINITIONS:
        for key, text in _pairs(connection, query):
            found.setdefault(key, []).append(shortened(settled(text)))
    for query in (_GRANTS, _DEFAULT_GRANTS):
        for key, text in _pairs(connection, query):
            found.setdefault(key, []).append(text)
    return {key: " | ".join(sorted(texts)) for key, texts in sorted(found.items())}


def settled(text: str) -> str:
    """Spell a definition as Postgres would after reading it once more.

    `x IN ('a', 'b')` on a varchar is printed as an array that is cast, and, once restored, as an array of cast elements.

    >>> settled("ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])")
    "ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])"
    """

    def each(match: re.Match[str]) -> str:
        items, kind, modifier = match.group(1), match.group(2), match.group(3) or ""
        cast = [f"({item.strip()})::{kind}{modifier}" for item in _ITEM.findall(items)]
        return f"ARRAY[{', '.join(cast)}]"

    return _CAST_ARRAY.sub(each, text)


def shortened(text: str) -> str:
    """Return the text, or its hash where it is long."""
    return text if len(text) <= LONGEST else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _pairs(connection: Connection[TupleRow], query: str) -> Iterator[tuple[str, str]]:
    for key, text in connection.execute(query.encode()):
        yield str(key), str(text or "")
