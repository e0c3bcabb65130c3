"""Releases that nobody may run. In a module of its own, because whoever only asks for versions needs no block."""

from __future__ import annotations

__all__ = ["DENIED_VERSIONS"]

DENIED_VERSIONS = frozenset({"1.82.7", "1.82.8", "1.107.0"})
"""Compromised releases of LiteLLM (BerriAI/litellm#24512, #24518, discussion #48242): others know the keys they have seen."""
