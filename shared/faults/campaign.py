"""Runs the cases: put everything back, disturb a run, look what holds, run the flow again, look again."""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from blocks import errors
from shared.engines.process import EngineError
from shared.faults.cases import Case, Measured
from shared.faults.disturbances import Run, Undisturbed, may_mount, small_disk
from shared.faults.duties import DUTIES, PRUNE_ALL_LEFT, Duty, left_after_prune
from shared.faults.flows import FlowProcess
from shared.faults.ground import RUN_TIMEOUT, Ground
from shared.faults.invariants import Before, Checker

__all__ = ["Campaign", "Row"]


@dataclass(frozen=True)
class Row:
    """The outcome of one case, as the report has it."""

    flow: str
    fault: str
    at: str
    held: bool
    detail: str


class Campaign:
    """A campaign on one ground.

    Args:
        ground: prepared. console: where progress goes. path: of the report, written anew after each case; None for none.
    """

    def __init__(self, ground: Ground, console: Console, path: Path | None = None) -> None:
        self.ground = ground
        self._path = path
        self.checker = Checker(ground)
        self.console = console
        self.rows: list[Row] = []
        at_first = ground.data.at_first
        self._restored = {name: value for name, value in at_first.items() if not name.startswith("bucket ")}

    def measure(self, flow: str) -> Measured:
        """Run a flow undisturbed, and count what it does.

        Raises:
            EngineError: it does not do its duty even so.
        """
        duty = DUTIES[flow]
        before = self._begin(duty)
        if flow == "drill":
            disk = self._disk(duty)
        else:
            disk = 0
            with Undisturbed().around(self.ground, Run()):
                self.ground.run(flow, duty.request(self.ground))
        measured = Measured(list(self.ground.traffic.requests), disk)
        if flow == "restore":
            live = self.ground.data.fingerprint()
            bucket = {name: value for name, value in live.items() if name.startswith("bucket ")}
            self._restored = {**self.ground.data.at_first, **bucket}
            before = Before(before.sets, before.stay, before.objects, before.live, self._restored)
        problems = duty.done(self.ground, before) + self.checker.after_recovery()
        if problems:
            raise EngineError(f"{flow}, undisturbed: {problems[0]}")
        return measured

    def run(self, case: Case) -> Row:
        """Run one case."""
        begun = time.monotonic()
        try:
            happened, problems = self._run(case)
        except Exception as error:  # noqa: BLE001 - whatever broke is the case's verdict
            happened, problems = "", [f"the case broke off: {type(error).__name__}: {error}"]
        row = Row(case.flow, case.fault, case.at, not problems, "; ".join(part for part in (*problems, happened) if part))
        self._add(row)
        style = "green]held" if row.held else "red]BROKEN"
        seconds = time.monotonic() - begun
        self.console.print(f"[{style}[/] {seconds:5.1f} s  {case.flow}, {case.fault}, {case.at}: ", end="", highlight=False)
        self.console.print(row.detail, highlight=False, markup=False, soft_wrap=True)
        if not row.held:
            again = f"make crash ARGS=\"--flow {case.flow} --fault '{case.fault}' --at '{case.at}'\""
            self.console.print(f"  again: {again}", highlight=False, markup=False, soft_wrap=True)
        return row

    def broken(self, flow: str, error: Exception) -> None:
        """Note that a flow does not even do its duty undisturbed."""
        self.console.print(f"BROKEN {flow}, undisturbed: {error}", highlight=False, markup=False, soft_wrap=True)
        self._add(Row(flow, "none", "undisturbed", held=False, detail=str(error)))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        if self._path is not None:
            document = {"cases": [asdict(row) for row in self.rows]}
            self._path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    def _begin(self, duty: Duty) -> Before:
        ground = self.ground
        there, stay = ([ground.sets[n] for n in numbers if n < len(ground.sets)] for numbers in (duty.sets, duty.stay))
        ground.reset(there)
        for path in ground.scratch.iterdir():
            shutil.rmtree(path, ignore_errors=True)
        if duty.halves:
            ground.leave_half_a_set()
        return self.checker.before(frozenset(stay), self._restored)

    def _run(self, case: Case) -> tuple[str, list[str]]:
        duty, ground = DUTIES[case.flow], self.ground
        before = self._begin(duty)
        request = {**duty.request(ground), **(case.request or {})}
        run = Run()
        with case.disturbance.around(ground, run):
            process = run.process = ground.flows.start(
                case.flow, request, environment=run.environment, file_limit=run.file_limit
            )
            run.started.set()
            process.wait(RUN_TIMEOUT)
            problems = self._judge(case, process)
            if case.damaged:
                problems += self.checker.after_fault(before, damaged=True, removed=run.removed)
        happened = "; ".join(part for part in (run.happened, self._ending(process)) if part)
        if case.damaged:
            ground.drop_findings()
        problems += self.checker.after_fault(before)
        again = [process]
        if case.finishes:
            again.append(finish := ground.flows.start("restore", {"action": "finish"}))
            if finish.wait(RUN_TIMEOUT) != 0:
                problems.append(f"finish failed: {finish.error}")
            problems += [f"after finish: {what}" for what in self.checker.after_finish(before)]
        again.append(second := ground.flows.start(case.flow, request))
        if second.wait(RUN_TIMEOUT) != 0:
            problems.append(f"the next run failed: {second.error or 'it hangs'}")
        else:
            problems += duty.done(ground, before)
        if duty.leaves and case.flow != "prune" and left_after_prune(ground):
            again.append(third := ground.flows.start("prune", PRUNE_ALL_LEFT))
            third.wait(RUN_TIMEOUT)
            problems += [f"the prune after it failed: {third.error}"] if third.status != 0 else left_after_prune(ground)
        problems += self.checker.after_recovery(*again)
        for one in again:
            one.end()
        return happened, list(dict.fromkeys(problems))

    def _judge(self, case: Case, process: FlowProcess) -> list[str]:
        """Say what is wrong with how a disturbed run ended."""
        if process.running:
            process.end()
            return [f"it hangs: no end after {RUN_TIMEOUT:.0f} s"]
        if process.killed:
            return []
        if process.status == 0:
            return ["it succeeded, which is wrong"] if case.must_fail else []
        kind = process.error.partition(":")[0]
        return (
            [] if kind in errors.__all__ else [f"it ended by an error that is none of ours: {process.error or process.status}"]
        )

    def _ending(self, process: FlowProcess) -> str:
        if process.killed:
            return ""
        return "the run succeeded" if process.status == 0 else f"the run said: {process.error}"

    def _disk(self, duty: Duty) -> int:
        """Run a drill on a disk of its own, and see how much of it is used at most; 0 where no disk may be mounted."""
        most, ended = 0, threading.Event()
        if not may_mount():
            with Undisturbed().around(self.ground, Run()):
                self.ground.run("drill", duty.request(self.ground))
            return 0
        with small_disk(self.ground.sandbox.directory / "small-disk", 1 << 30) as folder:

            def watch() -> None:
                nonlocal most
                while not ended.wait(0.02):
                    most = max(most, psutil.disk_usage(str(folder)).used)

            thread = threading.Thread(target=watch)
            thread.start()
            try:
                with Undisturbed().around(self.ground, Run()):
                    process = self.ground.flows.start(
                        "drill", duty.request(self.ground), environment={"DRILL_DIRECTORY": str(folder)}
                    )
                    if process.wait(RUN_TIMEOUT) != 0:
                        raise EngineError(f"drill failed undisturbed: {process.error}")
            finally:
                ended.set()
                thread.join()
        return most

    def finish(self) -> int:
        """Print what held, by flow and fault; returns the exit status, 0 when everything did."""
        table = Table("flow", "fault", "cases", "held", "broken at", title="Crash campaign", title_justify="left")
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.flow, row.fault), []).append(row)
        for (flow, fault), members in groups.items():
            broken = [row.at for row in members if not row.held]
            held = len(members) - len(broken)
            table.add_row(flow, fault, str(len(members)), f"[{'red' if broken else 'green'}]{held}[/]", ", ".join(broken))
        self.console.print(table)
        count = sum(not row.held for row in self.rows)
        self.console.print(f"{len(self.rows)} cases, {count or 'none'} broken", highlight=False)
        return 0 if self.rows and not count else 1
