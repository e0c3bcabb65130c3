"""What the copy flow shows in the Prefect UI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.catalogue import Catalogue, size
from flows.copy.pruning import Pruned
from flows.copy.sending import Copied
from flows.report import Summary
from flows.stack import Stack

__all__ = ["show_copy", "show_plan"]


def show_plan(stack: Stack, known: Catalogue, ids: Sequence[str], pruned: Pruned | None) -> None:
    """Publish what would be copied and deleted."""
    sizes = {entry.id: entry.manifest.stored_bytes for entry in known.entries if entry.manifest}
    summary = Summary(f"Copy of {stack.name} (dry run: nothing was changed)", ("set", "size", "what"))
    for set_id in ids:
        summary.row(set_id, size(sizes.get(set_id, 0)), "would be copied")
    for set_id in (*pruned.gone, *pruned.halves) if pruned else ():
        summary.row(set_id, "", "its copy would be deleted")
    summary.publish(f"copy-{stack.name}")


def show_copy(
    stack: Stack,
    copied: Mapping[str, Copied],
    failed: Mapping[str, str],
    damaged: Mapping[str, list[str]],
    pruned: Pruned | None,
) -> None:
    """Publish what was copied, deleted and found damaged.

    Args:
        failed: id -> why. damaged: id -> what is wrong. pruned: None where retention did not run.
    """
    copy = stack.need_copy()
    summary = Summary(f"Copy of {stack.name} to {copy.name}", ("set", "sent", "objects sent", "objects in all", "verdict"))
    for set_id, one in copied.items():
        verdict = f"DAMAGED: {damaged[set_id][0]}" if set_id in damaged else "copied"
        summary.row(set_id, size(one.sent_bytes), one.sent, len(one.list.objects) + 2, verdict)
    for set_id, why in failed.items():
        summary.row(set_id, "", "", "", f"NOT copied: {why}")
    for set_id in (i for i in damaged if i not in copied):
        summary.row(set_id, "", "", "", f"DAMAGED: {damaged[set_id][0]}")
    if pruned is None:
        summary.note(
            "Retention deleted nothing in the second store: it runs only after everything was copied, with an age identity."
        )
    else:
        for set_id in (*pruned.gone, *pruned.halves):
            summary.row(set_id, "", "", "", "its copy was deleted")
        for what, why in pruned.refused.items():
            summary.note(f"- {what} stays for now: {why}")
        kept = {set_id: reasons for set_id, reasons in pruned.plan.keep.items() if set_id not in pruned.gone}
        summary.note(f"Kept: {'; '.join(f'{i} ({reasons[0]})' for i, reasons in kept.items()) or 'nothing'}")
    if copy.lock_mode:
        summary.note(f"Object lock: {copy.lock_mode}, {copy.lock_days} days from the moment an object was written.")
    summary.publish(f"copy-{stack.name}")
