"""Rules about LiteLLM. It migrates its Postgres database when it starts (facts: apps.md 1.5, 1.6, 1.7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from blocks.denied import DENIED_VERSIONS
from flows.upgrade.rules.facts import Facts
from flows.upgrade.rules.rule import Change, named
from flows.upgrade.rules.version import Version
from railway.services.litellm import SDK_FOR_FOUR

__all__ = ["RULES", "loses_traces", "resolver", "touches_schema"]

_LITELLM = "litellm"
_OPT_IN = (1, 83, 14)
_BY_DEFAULT = (1, 106)
"""From here on the migrations that are pending are applied and nothing else; before, the schema is made to match the image."""
_WANTS_A_KEY = (1, 106)
_LEAST_REDIS = 7


def resolver(version: Version, variables: Mapping[str, str], start_command: str = "") -> Literal["v1", "v2"]:
    """Say how a version migrates its database.

    Args:
        version: of LiteLLM. variables, start_command: of its service.
    Returns: v1, which makes the schema what the image knows, also by dropping columns; or v2, which only adds what is pending.
    """
    if "--use_legacy_migration_resolver" in start_command:
        return "v1"
    if version.numbers >= _BY_DEFAULT:
        return "v2"
    chosen = variables.get("USE_V2_MIGRATION_RESOLVER", "").strip().lower() in ("true", "1")
    asked = chosen or "--use_v2_migration_resolver" in start_command
    return "v2" if asked and version.numbers >= _OPT_IN else "v1"


def touches_schema(version: Version, facts: Facts) -> bool:
    """Whether a version that meets a newer schema changes it back, and so drops columns with what is in them."""
    if facts.is_true(_LITELLM, "DISABLE_SCHEMA_UPDATE"):
        return False
    return resolver(version, facts.variables.get(_LITELLM, {}), facts.start_commands.get(_LITELLM, "")) == "v1"


def loses_traces(litellm: Version | None, langfuse: Version | None, callbacks: frozenset[str]) -> bool:
    """Whether this LiteLLM's Langfuse SDK sends what this Langfuse answers with 207 and throws away."""
    if litellm is None or langfuse is None or not litellm.numbers:
        return False
    return (langfuse.major or 0) >= 4 and litellm.numbers < SDK_FOR_FOUR and "langfuse" in callbacks


@named("litellm-denied", "BerriAI/litellm#24512, #24518, discussion #48242", _LITELLM)
def denied(change: Change) -> Iterator[str]:
    """LiteLLM does not become one of its compromised releases."""
    if str(change.new) in DENIED_VERSIONS:
        yield f"{change.new} is a compromised release; take another one, and change every key that this one has seen"


@named("litellm-alone", "BerriAI/litellm#9558: its migrations drop 71 tables of Langfuse's, measured", _LITELLM)
def alone(change: Change) -> Iterator[str]:
    """Nothing but LiteLLM's tables is in LiteLLM's database, or its migrations drop the rest."""
    tables = change.facts.foreign_tables or ()
    if tables:
        yield (
            f"{len(tables)} tables in its database are not its own ({', '.join(tables[:3])}) and would be dropped; give each "
            "application a database of its own, then upgrade"
        )


@named("litellm-whole-schema", "prisma.io/docs: P3009, P3018: a migration that broke off stops the next start", _LITELLM)
def whole_schema(change: Change) -> Iterator[str]:
    """No migration of LiteLLM has broken off."""
    broken = change.facts.litellm_schema.unfinished if change.facts.litellm_schema else ()
    if broken:
        yield (
            f"{len(broken)} migrations broke off ({broken[0]}), and it would not start; see the column logs of "
            "_prisma_migrations, mend the schema, then prisma migrate resolve"
        )


@named("litellm-back", "BerriAI/litellm#23464, #26194, #22998: an older image drops what its schema does not know", _LITELLM)
def back(change: Change) -> Iterator[str]:
    """An older LiteLLM leaves the schema of a newer one alone."""
    if change.is_back and touches_schema(change.new, change.facts):
        yield (
            f"{change.new} would change the schema of {change.old} back and drop columns with what is in them; set "
            "DISABLE_SCHEMA_UPDATE=true first, or restore the database of that time"
        )


@named("litellm-master-key", "litellm proxy/auth/master_key_boot_check.py: it does not start from 1.106 on", _LITELLM)
def master_key(change: Change) -> Iterator[str]:
    """LiteLLM has a master key that nobody knows, without which it does not start from 1.106 on."""
    permitted = change.facts.is_true(_LITELLM, "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY")
    if change.new.numbers >= _WANTS_A_KEY and change.facts.master_key in ("weak", "unset") and not permitted:
        state = "not set" if change.facts.master_key == "unset" else "one that everybody knows"
        yield f"LITELLM_MASTER_KEY is {state}, and {change.new} does not start with that; set one that begins with sk-"


@named("litellm-traces", "litellm's wheel metadata: langfuse<3 before 1.104; langgenius/dify#41542", _LITELLM)
def traces(change: Change) -> Iterator[str]:
    """LiteLLM sends traces as its Langfuse takes them."""
    langfuse = change.facts.version("langfuse-web")
    if loses_traces(change.new, langfuse, change.facts.callbacks):
        yield (
            f"{change.new} loses every trace on its way to Langfuse {langfuse}; take 1.104 or newer, or the callback "
            "langfuse_otel"
        )


@named("litellm-redis", "docs.litellm.ai/docs/proxy/prod", _LITELLM)
def redis(change: Change) -> Iterator[str]:
    """LiteLLM's Redis is at least 7."""
    found = change.facts.version("redis")
    if found is not None and (found.major or 0) < _LEAST_REDIS:
        yield f"Redis is {found}, expected {_LEAST_REDIS} or newer; upgrade Redis first"


RULES = (denied, alone, whole_schema, back, master_key, traces, redis)
