"""Do the keys that applications seal their secrets with still open what is stored: after a restore or a move they may not.

A few values of each are tried, the newest; none is shown or kept: `blocks/sealed_values.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from blocks.sealed_values import langfuse_opens, litellm_opens
from flows.health.checks.postgres_session import Session
from flows.health.findings import Findings
from flows.health.observation import Status

__all__ = ["look_at_sealed"]


@dataclass(frozen=True)
class _Kind:
    """One application: how its aspect and its key are called, its tables with what to read of each, and what opens a value."""

    aspect: str
    title: str
    variable: str
    tables: Mapping[str, str]
    opens: Callable[[str, str], bool | None]


async def look_at_sealed(opened: Session, service: str, key: SecretStr, found: Findings) -> None:
    """Try a key on what an application has stored.

    Args:
        opened: the application's database. service: litellm or langfuse-web.
    """
    kind = _KINDS[service]
    there = {str(name) for (name,) in await opened.rows(_THERE, [list(kind.tables)])}
    values = [str(value) for table in kind.tables if table in there for (value,) in await opened.rows(kind.tables[table])]
    tried = [one for value in values if (one := kind.opens(value, key.get_secret_value())) is not None]
    closed = tried.count(False)
    text = f"{kind.variable} does not open {closed} of {len(tried)} stored secrets of {kind.title} that were tried"
    if closed:
        todo = "what uses them fails: find the key that they were sealed with (runbook key-mismatch), never make up a new one"
        status, sentence = Status.DEGRADED, f"{text}, expected all to open; {todo}"
    else:
        status, sentence = Status.OK, f"{kind.variable} opens the {len(tried)} stored secrets of {kind.title} that were tried"
    found.add(kind.aspect, status, sentence, service=service, value=closed, limit=0, unit="secrets")


_NEWEST = """
SELECT e.value
FROM (SELECT {column}::jsonb AS o FROM public."{table}" ORDER BY updated_at DESC LIMIT 3) AS r,
  jsonb_each_text(CASE jsonb_typeof(o) WHEN 'object' THEN o ELSE '{{}}' END) AS e
WHERE e.value IS NOT NULL LIMIT 24
"""
_KINDS = {
    "litellm": _Kind(
        "salt-key",
        "LiteLLM",
        "LITELLM_SALT_KEY",
        {
            "LiteLLM_ProxyModelTable": _NEWEST.format(table="LiteLLM_ProxyModelTable", column="litellm_params"),
            "LiteLLM_CredentialsTable": _NEWEST.format(table="LiteLLM_CredentialsTable", column="credential_values"),
        },
        litellm_opens,
    ),
    "langfuse-web": _Kind(
        "encryption-key",
        "Langfuse",
        "ENCRYPTION_KEY",
        {"llm_api_keys": "SELECT secret_key FROM public.llm_api_keys ORDER BY id LIMIT 6"},
        langfuse_opens,
    ),
}
_THERE = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = 'public' AND tablename = ANY(%s)"
