"""Which sets are copied. Pure: catalogues in, ids out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from blocks.errors import RestoreRefused
from blocks.settings import Settings
from flows.catalogue import Catalogue
from flows.prune.retention import RetentionPolicy, SetFacts, plan

__all__ = ["due", "named", "policy_of_copies", "with_bases"]


def policy_of_copies(settings: Settings) -> RetentionPolicy:
    """Return the policy of `COPY_KEEP_*`."""
    return RetentionPolicy(
        keep_last=settings.copy_keep_last,
        keep_daily=settings.copy_keep_daily,
        keep_weekly=settings.copy_keep_weekly,
        keep_monthly=settings.copy_keep_monthly,
        keep_yearly=settings.copy_keep_yearly,
    )


def due(known: Catalogue, copied: Collection[str], copies: Iterable[SetFacts], policy: RetentionPolicy) -> list[str]:
    """Choose the good sets that are not copied yet and would not be pruned from the second store at once.

    Args:
        known: the stack's own sets. copied: ids of those in the second store.
        copies: what is known about these, for the policy counts them too.
    Returns: ids, newest first, each after the sets that it is a difference to.
    """
    facts = {entry.id: entry.facts() for entry in known.entries if entry.good}
    kept = plan((facts | {fact.id: fact for fact in copies}).values(), policy).keep
    return with_bases(known, [set_id for set_id in facts if set_id in kept and set_id not in copied], copied)


def named(known: Catalogue, choices: Sequence[str], copied: Collection[str]) -> list[str]:
    """Choose the sets that somebody named: ids, `latest` or times.

    Raises:
        RestoreRefused: there is no such set, or it is not good.
    """
    chosen = []
    for choice in choices:
        if choice in copied:
            continue
        entry = known.find(choice)
        if not entry.good:
            raise RestoreRefused(f"{entry.id} is not copied: {entry.fault or entry.checks.fault}")
        chosen.append(entry.id)
    return with_bases(known, [set_id for set_id in chosen if set_id not in copied], copied)


def with_bases(known: Catalogue, ids: Iterable[str], copied: Collection[str]) -> list[str]:
    """Add the sets that others are a difference to, before them, unless they are copied."""
    manifests = {entry.id: entry.manifest for entry in known.entries}
    ordered: dict[str, None] = {}

    def add(set_id: str) -> None:
        if set_id in ordered or set_id in copied:
            return
        manifest = manifests.get(set_id)
        for base in sorted(manifest.bases - {set_id}) if manifest else ():
            add(base)
        ordered[set_id] = None

    for set_id in ids:
        add(set_id)
    return list(ordered)
