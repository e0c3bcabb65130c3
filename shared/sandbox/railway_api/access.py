"""Tokens, and what each kind may do (facts: railway.md 2.1).

A refusal says "Not Authorized" whatever its reason is, with HTTP 200, as the real API does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shared.sandbox.railway_api.stored import new_id

__all__ = ["ApiError", "NotAuthorized", "Token", "TokenKind", "is_public", "may"]

TokenKind = Literal["project", "workspace", "account"]

_PUBLIC = frozenset({"platformStatus", "template"})
_NOT_FOR_PROJECT_TOKENS = frozenset(
    {
        "apiToken",
        "auditLogs",
        "environmentCreate",
        "me",
        "notificationRuleCreate",
        "notificationRuleDelete",
        "notificationRuleUpdate",
        "notificationRules",
        "projectCreate",
        "projectDelete",
        "projectTokenCreate",
        "projectTokenDelete",
        "projectUpdate",
        "templateDelete",
        "templateDeployV2",
        "templateGenerate",
        "templatePublish",
        "templateSourceForProject",
        "templateUnpublish",
        "workspace",
    }
)
_NOT_FOR_WORKSPACE_TOKENS = frozenset({"me", "projectToken"})
_NOT_FOR_ACCOUNT_TOKENS = frozenset({"projectToken"})


class ApiError(Exception):
    """What the API answers under `errors`; the caller reads it."""


class NotAuthorized(ApiError):
    """The token is dead, or may not do this; nobody is told which."""

    def __init__(self) -> None:
        super().__init__("Not Authorized")


@dataclass(frozen=True)
class Token:
    """A token.

    Attributes:
        project_id, environment_id: of a project token, which sees nothing else. name: as its maker called it.
    """

    kind: TokenKind
    secret: str = field(repr=False)
    name: str = ""
    project_id: str | None = None
    environment_id: str | None = None
    id: str = field(default_factory=new_id)


def is_public(name: str) -> bool:
    """Whether a field of the API needs no token."""
    return name in _PUBLIC or name.startswith("__")


def may(token: Token | None, name: str, refused: frozenset[str]) -> bool:
    """Whether a token may ask for a field of the query or mutation type.

    Args:
        token: None for a caller without one. refused: what is kept from project tokens on top.
    """
    if is_public(name):
        return True
    if token is None:
        return False
    if token.kind == "project":
        return name not in _NOT_FOR_PROJECT_TOKENS and name not in refused
    return name not in (_NOT_FOR_WORKSPACE_TOKENS if token.kind == "workspace" else _NOT_FOR_ACCOUNT_TOKENS)
