"""What a stack has to be before it is deployed: one rule a function; a refusal says which one, and where it is known from.

A refusal is one of a stack that cannot work, or that would lose data or secrets; what is only a matter of taste is no rule.
"""

from __future__ import annotations

from railway.rules import applications, data, images, platform
from railway.rules.refusal import Refusal, Rule
from railway.stack import Stack

__all__ = ["RULES", "Refusal", "Rule", "refusals"]

RULES: tuple[Rule, ...] = (*images.RULES, *data.RULES, *applications.RULES, *platform.RULES)
"""In the order in which they speak."""


def refusals(stack: Stack) -> list[Refusal]:
    """Return everything that keeps a stack from being deployed; empty where nothing does."""
    return [refusal for rule in RULES for refusal in rule.refusals(stack)]
