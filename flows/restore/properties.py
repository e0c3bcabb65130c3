"""SQL for what belongs to a Postgres database but is not in its dump: owner, settings, limits, grants, comment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from flows.backup.manifest import DatabaseProperties

LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
"""Settings whose value is a list of names, each quoted for itself (GUC_LIST_QUOTE in Postgres' guc_tables.c)."""

_PRIVILEGES = {"C": "CREATE", "c": "CONNECT", "T": "TEMPORARY"}
_PART = re.compile(r'"(?:[^"]|"")*"|[^",\s][^",]*')


@dataclass(frozen=True)
class AclItem:
    """One entry of an access list.

    Attributes:
        grantee: role, empty for PUBLIC. grantor: role.
        privileges: letter -> whether the grantee may grant it further.
    """

    grantee: str
    grantor: str
    privileges: dict[str, bool]


def property_statements(properties: DatabaseProperties, quoted_name: str) -> list[str]:
    """Return the statements that give a fresh database its recorded properties; a superuser runs them one by one.

    What was set at its creation (encoding, locale) cannot be set any more and is not among them.

    Args:
        properties: recorded. quoted_name: of the database, as it goes into SQL.
    """
    database = f"ALTER DATABASE {quoted_name}"
    return [
        f"{database} OWNER TO {quoted(properties.owner)}",
        f"{database} CONNECTION LIMIT {properties.connection_limit}",
        f"{database} IS_TEMPLATE {'true' if properties.is_template else 'false'}",
        f"COMMENT ON DATABASE {quoted_name} IS {'NULL' if properties.comment is None else literal(properties.comment)}",
        *(f"{database} SET {setting(item)}" for item in properties.settings),
        *(
            f"ALTER ROLE {quoted(role)} IN DATABASE {quoted_name} SET {setting(item)}"
            for role, items in sorted(properties.role_settings.items())
            for item in items
        ),
        *_grants(properties, quoted_name),
    ]


def setting(item: str) -> str:
    """Turn a stored `name=value` into what follows SET.

    >>> setting('search_path="$user", public')
    '"search_path" TO \\'$user\\', \\'public\\''
    """
    name, _, value = item.partition("=")
    values = [unquoted(part) for part in _PART.findall(value)] if name.lower() in LISTS else [value]
    quoted_name = ".".join(quoted(part) for part in name.split("."))
    return f"{quoted_name} TO {', '.join(literal(v) for v in values) or literal('')}"


def parse_acl_item(item: str) -> AclItem:
    """Read an ACL item as Postgres prints it.

    >>> parse_acl_item('"Odd role"=T*c/langfuse')
    AclItem(grantee='Odd role', grantor='langfuse', privileges={'T': True, 'c': False})
    """
    match = re.fullmatch(r'((?:"(?:[^"]|"")*"|[^="])*)=([A-Za-z*]*)/((?:"(?:[^"]|"")*"|[^"])*)', item)
    if match is None:
        raise ValueError(f"not an ACL item: {item}")
    grantee, letters, grantor = match.groups()
    privileges = {letter: bool(star) for letter, star in re.findall(r"([A-Za-z])(\*?)", letters)}
    return AclItem(unquoted(grantee), unquoted(grantor), privileges)


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    r"""Quote a string for SQL, whatever `standard_conforming_strings` is.

    >>> literal("it's")
    "'it''s'"
    """
    doubled = text.replace("'", "''")
    return "E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in text else f"'{doubled}'"


def unquoted(name: str) -> str:
    """Read a name as Postgres prints it, with quotes where it needs them."""
    name = name.strip()
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _grants(properties: DatabaseProperties, quoted_name: str) -> Iterator[str]:
    """Take away what every database begins with, then grant what was recorded, the owner's own grants first.

    GRANT has no way to name another grantor, so who handed a privilege on is played by SET ROLE.
    """
    items = [parse_acl_item(item) for item in properties.acl]
    yield f"REVOKE ALL ON DATABASE {quoted_name} FROM PUBLIC, {quoted(properties.owner)}"
    for item in sorted(items, key=lambda i: (i.grantor != properties.owner, i.grantee != properties.owner, i.grantee)):
        grantee = quoted(item.grantee) if item.grantee else "PUBLIC"
        handed_on = item.grantor != properties.owner
        if handed_on:
            yield f"SET ROLE {quoted(item.grantor)}"
        for option, suffix in ((False, ""), (True, " WITH GRANT OPTION")):
            names = [_PRIVILEGES[letter] for letter, may_grant in item.privileges.items() if may_grant is option]
            if names:
                yield f"GRANT {', '.join(names)} ON DATABASE {quoted_name} TO {grantee}{suffix}"
        if handed_on:
            yield "RESET ROLE"
