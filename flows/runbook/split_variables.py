"""Variables that lead to a shared database, and what they are afterwards. Decides alone; values are secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from blocks.errors import GuardRefused
from flows.upgrade.postgres.address import Address, parts_of
from flows.upgrade.postgres.audit import SHARED, Holder

__all__ = ["APPLICATIONS", "OPERATOR", "Names", "changes_of", "leads_to", "pointed"]

APPLICATIONS: Mapping[str, str] = {"litellm": "litellm", "langfuse-web": "langfuse", "langfuse-worker": "langfuse"}
"""Services by what they are called, and whose database they get."""
OPERATOR = "prefect-worker"
_BARE = frozenset({"DATABASE_NAME", "PGDATABASE"})
"""Variables that name a database and nothing else, where an application puts its URL together itself."""
_MAINTENANCE = "postgres"
"""What this project's own URLs lead to: they name a server, and a database that every server has."""

_LITERAL = r"^(?P<before>[^?]*://[^?]*/){name}(?P<after>\?.*)?$"
_REFERENCE = re.compile(r"^(?P<before>[^?]*://[^?]*/)\$\{\{[^}]*\}\}(?P<after>\?.*)?$")


@dataclass(frozen=True)
class Names:
    """Of the databases: the shared one, and those that LiteLLM and Langfuse get."""

    shared: str
    litellm: str
    langfuse: str

    def of(self, application: str) -> str:
        """The database of litellm or langfuse."""
        return self.litellm if application == "litellm" else self.langfuse


def changes_of(holders: Sequence[Holder], server: Address, names: Names) -> dict[str, dict[str, str]]:
    """Say which variables of which services get which value.

    Raises:
        GuardRefused: another service uses the database, or an application has no variable that leads there.
    """
    found: dict[str, dict[str, str]] = {}
    for holder in holders:
        if holder.name in (server.service, SHARED):
            continue  # the server's own say where it is; what all share is written out where it is used
        application = APPLICATIONS.get(_called(holder.name), "")
        wanted = names.of(application) if application else _MAINTENANCE
        mine = {
            name: pointed(holder.raw[name], text, names.shared, wanted)
            for name, text in sorted(holder.rendered.items())
            if leads_to(text, server, names.shared) or (application and name in _BARE and text == names.shared)
        }
        if mine and not application and _called(holder.name) != OPERATOR:
            raise _refusal(
                f"{holder.name}: {', '.join(mine)} leads to {names.shared}, too; nobody knows to which half it belongs"
            )
        if _called(holder.name) == OPERATOR:
            mine |= _of_operator(holder, names)
        if mine:
            found[holder.name] = mine
    served = {APPLICATIONS.get(_called(name)) for name in found}
    for application in ("litellm", "langfuse"):
        if application not in served:
            raise _refusal(
                f"{application}: no variable of it leads to {names.shared}, expected its DATABASE_URL; is it reached through a "
                "pooler, or under another name?"
            )
    return found


def leads_to(text: str, server: Address, database: str) -> bool:
    """Say whether a value is a URL of that database on that server."""
    parts = parts_of(text)
    if parts is None or not parts.hostname or not server.is_of(parts.hostname, parts.port):
        return False
    return unquote(parts.path.lstrip("/")) == database


def pointed(raw: str, rendered: str, old: str, new: str) -> str:
    """Return a variable's value with another database in it; references to user, password and host stay where they can.

    Args:
        raw, rendered: its value as written, and as a deployment gets it.
    """
    if rendered == old:
        return new
    literal = re.match(_LITERAL.format(name=re.escape(old)), raw)
    kept = literal or _REFERENCE.match(raw)
    if kept:
        return f"{kept['before']}{new}{kept['after'] or ''}"
    return urlsplit(rendered.strip())._replace(path=f"/{new}").geturl()


def _of_operator(holder: Holder, names: Names) -> dict[str, str]:
    """What this project's worker is told of the databases."""
    told = holder.rendered
    found = {"LITELLM_DATABASE": names.litellm, "LANGFUSE_DATABASE": names.langfuse}
    listed = [one.strip() for one in told.get("POSTGRES_DATABASES", "").split(",") if one.strip()]
    if listed:
        found["POSTGRES_DATABASES"] = ",".join(
            dict.fromkeys([*(x for x in listed if x != names.shared), names.litellm, names.langfuse])
        )
    return {name: text for name, text in found.items() if told.get(name) != text}


def _called(name: str) -> str:
    """As the stack calls it: the dashboard likes `Langfuse Web`."""
    return "-".join(name.lower().replace("_", " ").split())


def _refusal(reason: str) -> GuardRefused:
    return GuardRefused(f"split-shared-database: nothing was changed: {reason}")
