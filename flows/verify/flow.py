"""Look after the stored sets: is everything there, is it what was stored, is any set of an odd size."""

from __future__ import annotations

from prefect import flow
from pydantic import BaseModel, Field

from blocks.errors import IntegrityError
from flows import catalogue
from flows.backup.views import show_catalogue
from flows.lease import utc_now
from flows.report import Summary, line
from flows.stack import Stack
from flows.verify.tasks import check_hashes, check_presence


class VerifyRequest(BaseModel):
    """Which sets, and how thoroughly."""

    set_id: str = Field(default="", description="latest, the id of a set, or a time; empty: every set")
    everything: bool = Field(default=False, description="Read every object back, not only those whose turn it is today")


@flow(name="verify", validate_parameters=True, timeout_seconds=24 * 3600)
def verify(request: VerifyRequest = VerifyRequest()) -> list[str]:
    """Look after the stored sets, and write down beside each what was found.

    Level 0: presence and size of every object. Level 1: a share of the objects is read back and hashed, each one once in
    VERIFY_EVERY_DAYS. Level 2 is the drill.

    Args:
        request: which sets, and how thoroughly.
    Returns: ids of the sets that are of an odd size, which is a reason to look, not a fault.
    Raises:
        IntegrityError: objects are missing or are not what was stored; restore does not choose those sets any more.
    """
    stack = Stack.load()
    known = catalogue.read(stack.store, stack.keys)
    entries = [known.find(request.set_id)] if request.set_id else known.entries
    wrong = check_presence(stack, entries)
    wrong += check_hashes(stack, entries, utc_now().date(), everything=request.everything)
    ids = {entry.id for entry in entries}
    after = [entry for entry in catalogue.read(stack.store, stack.keys).entries if entry.id in ids]
    summarise(stack, after)
    show_catalogue(stack)
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise IntegrityError(f"verify: {'; '.join(wrong[:3])}{more}; take a new backup, and see who writes to the store")
    return [entry.id for entry in after if entry.checks.size is not None and not entry.checks.size.ok]


def summarise(stack: Stack, entries: list[catalogue.Entry]) -> None:
    """Publish what was found."""
    summary = Summary(f"Verify of {stack.name}", ("set", "size", "level 0: present", "level 1: hashes"))
    for entry in entries:
        if entry.manifest is None:
            summary.row(entry.id, "?", entry.fault, "")
            continue
        checks = (entry.checks.size, entry.checks.presence, entry.checks.hashes)
        summary.row(entry.id, *((("" if check.ok else "FAILED: ") + check.what) if check else "not yet" for check in checks))
        if entry.checks.size is not None and not entry.checks.size.ok:
            line(f"{entry.id}: {entry.checks.size.what}")
    summary.publish(f"verify-{stack.name}")
