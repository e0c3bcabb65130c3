"""clickhouse-parts: ClickHouse does not merge its parts, or a mutation is stuck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefect import flow
from pydantic import Field

from blocks.clickhouse import ClickHouseServer
from flows.health.targets import Targets
from flows.runbook.clickhouse_merging import (
    KillMutations,
    Merge,
    Mutation,
    Partition,
    StartMerges,
    held_tables,
    read_mutations,
    read_partitions,
)
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["ClickHousePartsRequest", "Known", "TooManyParts", "clickhouse_parts", "decide"]

SERVICE = "clickhouse"
ASPECTS = ("parts", "mutations")


class ClickHousePartsRequest(RunbookRequest):
    """How far to go."""

    rounds: int = Field(
        default=50, ge=1, le=1000, description="So many merges are asked for in each partition, one after the other"
    )


@flow(name="clickhouse-parts", validate_parameters=True, timeout_seconds=6 * 3600)
def clickhouse_parts(request: ClickHousePartsRequest = ClickHousePartsRequest()) -> str:
    """Have ClickHouse merge parts again, and end mutations that cannot succeed.

    Symptom: more than 300 parts in a partition; `Too many parts` at inserts from 3,000 on, and traces are lost; queries get
    slow; deletions in Langfuse do not end.

    Diagnosis: the partitions with the most parts, how many merges run, whether merges are stopped (a backup that was killed
    leaves them so), which mutations fail and why.

    Remedy: start merges that were stopped; ask ClickHouse for merges of those partitions, one at a time, until there are few
    parts; then ask a person, and kill mutations that fail again and again.

    When not to: while a backup or restore is under way, which holds merges back on purpose for a few minutes. Where inserts are
    tiny, it comes back: larger batches (LANGFUSE_INGESTION_CLICKHOUSE_WRITE_BATCH_SIZE), fewer deletions, more CPU.

    Args:
        request: how far to go.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why.
        ApprovalMissing: nobody approved that mutations are killed.
    """
    stack = Stack.load()
    patient = request.patient()
    aspects = (patient.aspect,) if patient else ASPECTS
    targets = Targets.from_settings(stack.settings)
    runbook = TooManyParts(stack.need_clickhouse(), targets, lambda: at_work(stack), request.rounds, aspects)
    return carry_out(runbook, request, stack, Pace(settle=60))


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        crowded: partitions with more parts than allowed. held: tables whose merges are stopped. stuck: mutations that fail.
        at_work: the flow that holds the stack's lock, or empty.
    """

    wrong: Sequence[str]
    crowded: Sequence[Partition]
    held: Sequence[str]
    stuck: Sequence[Mutation]
    running: int = 0
    at_work: str = ""


Ladder = Callable[[Known], list[Action]]


def decide(known: Known, ladder: Ladder) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    facts = {
        "partitions with too many parts": ", ".join(one.words for one in known.crowded[:5]) or "none",
        "merges that run": str(known.running),
        "tables whose merges are stopped": ", ".join(known.held) or "none",
        "mutations that fail": "; ".join(one.words for one in known.stuck[:3]) or "none",
        "at work on the stack": known.at_work or "nobody",
    }
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "ClickHouse merges, and its mutations end", facts)
    if known.at_work:
        why = f"{known.at_work} is under way, and may hold merges back for a while: wait for its end"
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {why}", facts)
    actions = ladder(known)
    if not actions:
        todo = "read ClickHouse's log, and see system.merges and system.mutations"
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; nothing here explains it: {todo}", facts)
    return Diagnosis(Verdict.HEALS, known.wrong[0], facts, tuple(actions))


@dataclass
class TooManyParts(Runbook):
    """One server. busy: names the flow that holds the stack's lock. aspects: that have to be ok again."""

    server: ClickHouseServer
    targets: Targets
    busy: Callable[[], str]
    rounds: int = 50
    aspects: Sequence[str] = ASPECTS
    name: str = "clickhouse-parts"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        wrong = self.wrong()
        most = int(self.targets.limits.parts)
        with self.server.client() as client:
            crowded = read_partitions(client, most)
            unfinished = read_mutations(client)
            running = client.row("SELECT count() FROM system.merges")
        tables = {(one.database, one.table) for one in crowded} | {(one.database, one.table) for one in unfinished}
        stuck = [one for one in unfinished if one.why]
        known = Known(wrong, crowded, held_tables(self.server, tables), stuck, int(running[0]) if running else 0, self.busy())
        return decide(known, self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`."""
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, self.aspects)

    def _ladder(self, known: Known) -> list[Action]:
        rungs: list[Action] = []
        if known.held:
            rungs.append(StartMerges(self.server, tuple(known.held)))
        if known.crowded:
            rungs.append(Merge(self.server, tuple(known.crowded), int(self.targets.limits.parts), self.rounds))
        if known.stuck:
            rungs.append(KillMutations(self.server, tuple(known.stuck)))
        return rungs
