"""clickhouse-disk: ClickHouse's disk or volume fills, or its logs about itself do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefect import flow
from pydantic import Field

from blocks.clickhouse import ClickHouseServer
from flows.health.targets import Targets
from flows.runbook.clickhouse_logs import Cut, Log, ShortenKept, largest, read_logs
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["ClickHouseDiskRequest", "Filling", "Known", "clickhouse_disk", "decide"]

SERVICE = "clickhouse"
VOLUME = "volume"
"""The aspect that only the platform knows, which measures when it likes."""
ASPECTS = ("disk", "system-logs", VOLUME)
_AT_ONCE, _MEASURED = Pace(settle=30), Pace(settle=300, longest=900, look=10)
"""Until what was freed is seen: ClickHouse says it at once, Railway does not say how far its measurements are behind."""
_CRUMBS = 1_000_000
"""Bytes: a log that is smaller is not worth touching."""


class ClickHouseDiskRequest(RunbookRequest):
    """How much of the logs is kept."""

    days: int = Field(default=7, ge=1, le=365, description="Logs of ClickHouse about itself keep so many days from then on")


@flow(name="clickhouse-disk", validate_parameters=True, timeout_seconds=2 * 3600)
def clickhouse_disk(request: ClickHouseDiskRequest = ClickHouseDiskRequest()) -> str:
    """Make room on ClickHouse's disk by its logs about itself. Traces are never touched.

    Symptom: the disk or the volume is more than 80 % full, or ClickHouse's own logs take more than 5 GB; at 98 % inserts fail
    and traces are lost. 67 GB of trace_log beside 52 MB of data were seen (langfuse#13123).

    Diagnosis: how full the disk is, what each of the tables `system.*_log` takes and whether it has a TTL, which tables are the
    largest.

    Remedy: empty the copies that ClickHouse put aside (`trace_log_0`); empty the logs that nobody reads (trace_log, text_log,
    metric_log, ...) and give them a TTL; have those that somebody reads (query_log, part_log, ...) keep a week. Where Railway's
    measurement of the volume opened the incident, it waits for the next one, some minutes after each step.

    When not to: where traces fill the disk this frees little: grow the volume in Railway's dashboard, which works while it is
    in use, or shorten Langfuse's retention. At 100 % not even TRUNCATE works: grow it first. While you look for the reason of
    an outage: the logs are what you look at.

    Args:
        request: how much is kept.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed: something else fills the disk, or the user may not (GRANT TRUNCATE, ALTER ON system.*).
    """
    stack = Stack.load()
    patient = request.patient()
    aspects = (patient.aspect,) if patient else ASPECTS
    runbook = Filling(stack.need_clickhouse(), Targets.from_settings(stack.settings), request.days, aspects)
    return carry_out(runbook, request, stack, _MEASURED if aspects == (VOLUME,) else _AT_ONCE)


@dataclass(frozen=True)
class Known:
    """What is known. logs: all of them, with their bytes. largest: tables of all databases, with their bytes."""

    wrong: Sequence[str]
    logs: Sequence[Log]
    largest: Sequence[tuple[str, int]] = ()


def decide(known: Known, cut: Callable[[tuple[Log, ...]], Action], shorten: Callable[[tuple[Log, ...]], Action]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        cut: makes the action that empties logs. shorten: the one that has them keep a few days.
    """
    facts = {f"system.{one.name}": _words(one) for one in known.logs[:10]}
    facts["largest tables"] = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in known.largest) or "none"
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "ClickHouse's disk and its logs are within their limits", facts)
    worth = [one for one in known.logs if one.bytes >= _CRUMBS]
    rotated = tuple(one for one in worth if one.rotated)
    unread = tuple(one for one in worth if not one.rotated and not one.kept)
    kept = tuple(one for one in worth if one.kept and one.dated and not one.limited)
    ladder = [*([cut(rotated)] if rotated else []), *([cut(unread)] if unread else []), *([shorten(kept)] if kept else [])]
    if not ladder:
        todo = "grow the volume in Railway's dashboard, which works while it is in use, or shorten Langfuse's retention"
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; its logs are not what fills it: {todo}", facts)
    return Diagnosis(Verdict.HEALS, known.wrong[0], facts, tuple(ladder))


def _words(log: Log) -> str:
    notes = [*(["put aside"] if log.rotated else []), *(["read by others"] if log.kept else [])]
    return f"{log.bytes / 1e6:.1f} MB, {'with' if log.limited else 'no'} TTL" + "".join(f", {note}" for note in notes)


@dataclass
class Filling(Runbook):
    """One server. days: that logs keep. aspects: that have to be ok again."""

    server: ClickHouseServer
    targets: Targets
    days: int = 7
    aspects: Sequence[str] = ASPECTS
    name: str = "clickhouse-disk"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        wrong = self.wrong()
        with self.server.client() as client:
            known = Known(wrong, read_logs(client), largest(client))
        return decide(
            known, lambda logs: Cut(self.server, logs, self.days), lambda logs: ShortenKept(self.server, logs, self.days)
        )

    def wrong(self) -> list[str]:
        """As in `Runbook`. By hand the volume counts where the platform says anything of it, which it need not."""
        found = observe_services(self.targets, {SERVICE})
        unsaid = {VOLUME} - {one.aspect for one in found if one.service == SERVICE} if len(self.aspects) > 1 else set()
        return wrong_with(found, SERVICE, [one for one in self.aspects if one not in unsaid])
