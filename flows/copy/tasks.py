"""The steps of the copy flow as Prefect tasks: retried where another try can help; what was sent is not sent again."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task

from blocks.errors import IntegrityError
from blocks.retry import RETRIED
from flows import side_file
from flows.catalogue import size
from flows.copy import bring_back as bringing
from flows.copy import sending
from flows.copy.records import CopyList, load_list
from flows.copy.sending import Copied
from flows.copy.verifying import Reader
from flows.copy.view import view_of
from flows.lease import Lease, utc_now
from flows.report import line, timed
from flows.side_file import Check
from flows.stack import Stack

__all__ = ["bring_back_set", "copy_set", "verify_copies"]


@task(name="copy set", task_run_name="copy {set_id}", **RETRIED)
def copy_set(stack: Stack, lease: Lease, set_id: str) -> Copied:
    """Copy one set to the second store."""
    with timed() as watch:
        copied = sending.copy_set(stack, lease, set_id)
    there = len(copied.list.objects) + 2 - copied.sent
    line(
        f"copied {set_id}: {copied.sent} objects ({size(copied.sent_bytes)}) sent in {watch.seconds:.1f} s, "
        f"{there} were there already"
    )
    return copied


@task(name="bring back", task_run_name="bring back {set_id}", **RETRIED)
def bring_back_set(stack: Stack, lease: Lease, set_id: str) -> int:
    """Make one set again in the stack's own store."""
    written = bringing.bring_back(stack, lease, set_id)
    line(f"brought back {set_id}: {written} objects written")
    return written


@task(name="verify copies", **RETRIED)
def verify_copies(stack: Stack, ids: Sequence[str], fresh: Sequence[CopyList]) -> dict[str, list[str]]:
    """Read copies back and compare every hash.

    Args:
        ids: of the copies. fresh: lists of those that were just made: without age identity, no others can be verified.
    Returns: id -> what is wrong, for the copies with which something is.
    """
    known = {listed.set_id: listed for listed in fresh}
    reader = Reader(stack.need_copy())
    opens = stack.keys.identity is not None
    wrong: dict[str, list[str]] = {}
    read = [set_id for set_id in ids if opens or set_id in known]
    for set_id in read:
        problems = _problems(stack, reader, set_id, known.get(set_id))
        if problems:
            wrong[set_id] = problems
        if opens:
            what = "; ".join(problems[:3]) or "every object read back"
            side_file.record(view_of(stack), set_id, hashes=Check(at=utc_now(), ok=not problems, what=what))
    line(f"read back {len(read)} copies ({size(reader.bytes)}): {f'{len(wrong)} are damaged' if wrong else 'all as written'}")
    if left := len(ids) - len(read):
        line(f"{left} earlier copies were not read back: there is no age identity here")
    return wrong


def _problems(stack: Stack, reader: Reader, set_id: str, listed: CopyList | None) -> list[str]:
    try:
        return reader.problems(listed or load_list(stack.need_copy(), stack.keys, set_id))
    except IntegrityError as error:
        return [str(error)]
