"""Who uses a Postgres server: every variable that leads to it, by reference or written out, and every service behind one.

Decides alone; `look.py` asks Railway. What is looked at is a value, never its name: an application may call its URL
DATABASE_URL, DIRECT_URL, SHADOW_DATABASE_URL or anything else, and may be given host and port apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from flows.upgrade.postgres.address import Address, mentions, parts_of, swapped

__all__ = ["SHARED", "Audit", "Holder", "Use", "audit", "refers", "repointed", "strangers"]

SHARED = "shared"
"""The namespace of the variables that an environment shares."""

_REFERENCE = re.compile(r"\$\{\{\s*(?:([^.{}()$]+?)\s*\.\s*)?([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_MAY_LEAD = re.compile(r"DATABASE|POSTGRES|^PG|_PG|DIRECT_URL|SHADOW|DSN|DB_URL|DB_HOST|SQL")
_PUBLIC = {
    "RAILWAY_TCP_PROXY_DOMAIN": "RAILWAY_PRIVATE_DOMAIN",
    "DATABASE_PUBLIC_URL": "DATABASE_URL",
}
"""A new service has no public address, and needs none: who refers to it is in the same environment."""
_PROXY_PORT = "RAILWAY_TCP_PROXY_PORT"


@dataclass(frozen=True, repr=False)
class Holder:
    """Who has variables: a service, or what the environment shares.

    Attributes:
        name: of the service, or `shared`. raw: as they are written, references as text. rendered: as a deployment gets them.
        sealed: names of those that nobody can read, and what each refers to. host: its private name, empty where unknown.
    """

    name: str
    raw: Mapping[str, str]
    rendered: Mapping[str, str]
    sealed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    host: str = ""


@dataclass(frozen=True)
class Use:
    """A variable that leads to the server.

    Attributes:
        holder, name: whose it is, and which. how: by a reference, written out, or both.
    """

    holder: str
    name: str
    how: Literal["reference", "literal", "both"]

    def __str__(self) -> str:
        return f"{self.holder}.{self.name} ({self.how})"


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        uses: variables to change, in order. consumers: services that get their access by one of them, also through others.
        unreadable: sealed variables that lead to the server, or may; nobody can change a part of what nobody can read.
    """

    uses: tuple[Use, ...]
    consumers: tuple[str, ...]
    unreadable: tuple[str, ...]


def audit(holders: Sequence[Holder], server: Address, *, knows: Sequence[str] = ()) -> Audit:
    """Find out who uses a server.

    Args:
        holders: all there are, the server's own service among them. server: where it is.
        knows: sealed variables, as `service.NAME`, that a person says do not lead there.
    """
    others = [one for one in holders if one.name != server.service]
    uses = [use for holder in others for use in _uses(holder, server)]
    changed = {(use.holder, use.name) for use in uses}
    raw = {(one.name, name): text for one in holders for name, text in one.raw.items()}
    consumers = [
        one.name for one in others if one.name != SHARED and any(_reaches(raw, (one.name, name), changed) for name in one.raw)
    ]
    unreadable = [one for holder in others for one in _unreadable(holder, server, changed) if one not in knows]
    return Audit(tuple(uses), tuple(consumers), tuple(unreadable))


def repointed(raw: str, rendered: str, old: Address, new: Address) -> str:
    """Return a variable's value for another server.

    A reference stays one where the new server is a service, too, with variables of the same names; otherwise the value is
    written out, as there is nothing to refer to.

    Args:
        raw, rendered: its value as written, and as a deployment gets it.
    """
    if not new.service:
        port = re.fullmatch(r"\d+", rendered.strip()) and _names(raw, old.service)
        return str(new.port) if port else swapped(rendered, old, new)

    def each(match: re.Match[str]) -> str:
        if (match[1] or "") != old.service:
            return match[0]
        if match[2] == _PROXY_PORT:
            return str(new.port)
        return f"${{{{{new.service}.{_PUBLIC.get(match[2], match[2])}}}}}"

    return swapped(_REFERENCE.sub(each, raw), old, new)


def strangers(holders: Sequence[Holder], server: Address, hosts: Mapping[str, str]) -> dict[str, str]:
    """Return URLs of Postgres whose host is not known to be the server: each may be a further name of it.

    Args:
        hosts: private host names of services and whose they are: those are no strangers.
    Returns: one URL for each `host:port`; secrets.
    """
    found: dict[str, str] = {}
    for holder in holders:
        if holder.name == server.service:
            continue
        for text in holder.rendered.values():
            parts = parts_of(text)
            if parts is None or not parts.hostname or parts.hostname in hosts or server.is_of(parts.hostname, parts.port):
                continue
            found.setdefault(f"{parts.hostname}:{parts.port or 5432}", text)
    return found


def _uses(holder: Holder, server: Address) -> Iterator[Use]:
    for name, text in sorted(holder.raw.items()):
        literal, referred = mentions(_REFERENCE.sub("", text), server), bool(server.service) and _names(text, server.service)
        if literal or referred:
            yield Use(holder.name, name, "both" if literal and referred else "literal" if literal else "reference")


def _names(text: str, service: str) -> bool:
    return any(namespace == service for namespace, _ in _REFERENCE.findall(text))


def _reaches(raw: Mapping[tuple[str, str], str], start: tuple[str, str], changed: set[tuple[str, str]]) -> bool:
    """Say whether a variable is one of those that change, or made of one, also through others."""
    todo, seen = [start], {start}
    while todo:
        one = todo.pop()
        if one in changed:
            return True
        for namespace, name in _REFERENCE.findall(raw.get(one, "")):
            further = (namespace or one[0], name)
            if further not in seen:
                seen.add(further)
                todo.append(further)
    return False


def _unreadable(holder: Holder, server: Address, changed: set[tuple[str, str]]) -> Iterator[str]:
    leading = {f"{owner}.{name}" for owner, name in changed}
    for name, references in sorted(holder.sealed.items()):
        refers = any(one.partition(".")[0] == server.service or one in leading for one in references)
        if refers or (not references and _MAY_LEAD.search(name) and "PASSWORD" not in name):
            yield f"{holder.name}.{name}"


def refers(holders: Sequence[Holder]) -> dict[str, set[str]]:
    """Say to which other holders the variables of each lead: by reference, or by a private host name written out."""
    hosts = {one.host: one.name for one in holders if one.host}
    found: dict[str, set[str]] = {}
    for holder in holders:
        text = "\n".join(holder.raw.values())
        named = {namespace for namespace, _ in _REFERENCE.findall(text) if namespace}
        named |= {name for host, name in hosts.items() if mentions(text, Address(host))}
        found[holder.name] = named - {holder.name}
    return found
