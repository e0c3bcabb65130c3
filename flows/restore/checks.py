"""What refuses a restore before anything is changed."""

from __future__ import annotations

from blocks.errors import RestoreRefused
from flows.backup.manifest import Manifest, PostgresDatabase
from flows.restore import clickhouse as on_clickhouse
from flows.restore import postgres as on_postgres
from flows.restore.plan import RestorePlan
from flows.stack import Stack


def refuse_unfit(stack: Stack, manifest: Manifest, plan: RestorePlan, *, replace: bool, accept_other_keys: bool) -> None:
    """Refuse a restore that would end badly.

    Args:
        replace: swapping out databases that hold data was asked for.
        accept_other_keys: data that the present application keys cannot decrypt was asked for.
    Raises:
        RestoreRefused: keys differ, or a live database holds data.
        VersionMismatch: the server or the clients are older than what wrote the dump.
        SettingsError: the age identity is missing.
        IntegrityError: the age identity cannot open the set.
    """
    refuse_other_keys(stack, manifest, accept_other_keys=accept_other_keys)
    for step in plan.steps:
        if isinstance(step.component, PostgresDatabase):
            on_postgres.refuse_unfit(stack.need_postgres_admin(), step.component)
        else:
            on_clickhouse.refuse_unfit(stack.need_clickhouse(), step.component)
        if not step.empty and not replace:
            raise RestoreRefused(
                f"{step.name} exists and holds data; set replace to swap it out (it is kept for undo), "
                "or choose other components"
            )


def refuse_changed(approved: RestorePlan, now: RestorePlan) -> None:
    """Refuse to carry out a plan that somebody approved for another state of the stack.

    Raises:
        RestoreRefused: what is different now.
    """
    for before, after in zip(approved.steps, now.steps, strict=True):
        if (before.step, before.empty) != (after.step, after.empty):
            raise RestoreRefused(
                f"{before.name} changed since the plan was made: {after.sentence()}; run it again to approve that"
            )


def refuse_other_keys(stack: Stack, manifest: Manifest, *, accept_other_keys: bool) -> None:
    """Refuse data that the applications could not decrypt.

    Raises:
        RestoreRefused: which of their keys is not the one of the backup.
    """
    if manifest.fingerprints is None:
        return
    differing = stack.keys.differing_keys(manifest.fingerprints.wrapped_key, manifest.fingerprints.values)
    if differing and not accept_other_keys:
        raise RestoreRefused(
            f"{' and '.join(differing)} here is not the one this set was written with: the applications could not "
            "decrypt what they stored; set it to the value of that time and run `python -m blocks`, or "
            "accept_other_keys if you know why"
        )
