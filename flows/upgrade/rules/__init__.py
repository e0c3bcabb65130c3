"""Which upgrades are refused, what they change besides the image, and what it takes to go back. Decided on values alone.

    refusals("litellm", Version.of("v1.90.0"), Version.of(image), facts)
    moves_schema(...), way_back(...), data_goes_back(...)

Services go by their names on Railway. One rule a function, with the source of what it knows.
"""

from __future__ import annotations

from flows.upgrade.rules import langfuse, litellm, stores
from flows.upgrade.rules.facts import READ, Background, ClickHouseSchema, Facts, PrismaSchema
from flows.upgrade.rules.rule import Change, Refusal, Rule
from flows.upgrade.rules.version import Version
from flows.upgrade.rules.way_back import Back, Way, moves_schema, way_back

__all__ = [
    "READ",
    "RULES",
    "Back",
    "Background",
    "ClickHouseSchema",
    "Facts",
    "PrismaSchema",
    "Refusal",
    "Rule",
    "Version",
    "Way",
    "data_goes_back",
    "moves_schema",
    "refusals",
    "way_back",
]

RULES: tuple[Rule, ...] = (*stores.RULES, *litellm.RULES, *langfuse.RULES)
"""In the order in which they speak."""


def refusals(service: str, old: Version, new: Version, facts: Facts) -> list[Refusal]:
    """Return everything that keeps a service from becoming another version; empty where nothing does.

    Args:
        service: by its name on Railway. old: what runs. new: what is asked for.
        facts: of the stack, its variables as they will be when the new version starts.
    """
    change = Change(service, old, new, facts)
    return [refusal for rule in RULES for refusal in rule.refusals(change)]


def data_goes_back(service: str, old: Version, new: Version, before: Facts, now: Facts | None = None) -> bool:
    """Say whether going back to the old version needs the databases from the set of before.

    Args: as of `way_back`.
    """
    return way_back(service, old, new, before, now).way is Way.DATA
