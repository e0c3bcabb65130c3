"""Ours against the plain tool, in the same run on the same data, as ratios.

Each pair is measured alternately, several times, and the fastest of each are compared: what a run takes beyond the fastest is
the machine's business.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from flows.stack import Stack
from shared.sandbox.blocks import stack_from
from shared.sandbox.stack import ROOT, Sandbox

__all__ = ["Measurements", "Row"]


@dataclass(frozen=True)
class Row:
    """One row of the report: ours and the reference in `unit`, their ratio, the goal for the ratio, and whether it holds."""

    name: str
    ours: float
    reference: float
    unit: str
    ratio: float
    goal: str
    holds: bool | None


class Measurements:
    """The rows of one run.

    Args:
        sandbox: started, without Prefect. repeats: of each measurement.

    Attributes:
        stack: the sandbox's systems.
    """

    def __init__(self, sandbox: Sandbox, *, repeats: int) -> None:
        self.sandbox = sandbox
        self.stack: Stack = stack_from(sandbox.environment())
        self.repeats = repeats
        self.rows: list[Row] = []
        self.console = Console()

    def compare(
        self, name: str, ours: Callable[[], object], reference: Callable[[], object], *, at_most: float | None = None
    ) -> None:
        """Measure two pieces of work alternately and add a row of the seconds that each took at best."""
        times: dict[str, list[float]] = {"ours": [], "reference": []}
        for _ in range(self.repeats):
            for which, work in (("reference", reference), ("ours", ours)):
                gc.collect()
                begun = time.monotonic()
                work()
                times[which].append(time.monotonic() - begun)
        self.add(name, min(times["ours"]), min(times["reference"]), "s", at_most=at_most)

    def add(self, name: str, ours: float, reference: float, unit: str, *, at_most: float | None = None) -> None:
        """Add a row and print it."""
        ratio = ours / reference
        goal, holds = (f"<= {at_most:.2f}", ratio <= at_most) if at_most is not None else ("report", None)
        row = Row(name, round(ours, 3), round(reference, 3), unit, round(ratio, 3), goal, holds)
        self.rows.append(row)
        mark = "[yellow]-" if holds is None else "[green]holds" if holds else "[red]MISSED"
        self.console.print(f"{name}: {ours:.2f} / {reference:.2f} {unit} = {ratio:.2f} ({goal}) {mark}", highlight=False)

    def finish(self) -> int:
        """Print the table and write the file; returns the exit status."""
        table = Table("row", "ours", "reference", "unit", "ratio", "goal", "holds", title="Bench", title_justify="left")
        for row in self.rows:
            verdict = "" if row.holds is None else "yes" if row.holds else "[red]no"
            table.add_row(row.name, f"{row.ours:.2f}", f"{row.reference:.2f}", row.unit, f"{row.ratio:.2f}", row.goal, verdict)
        self.console.print(table)
        report = ROOT / "bench-report.json"
        report.write_text(json.dumps({"rows": [asdict(row) for row in self.rows]}, indent=1) + "\n", encoding="utf-8")
        return 0 if all(row.holds is not False for row in self.rows) else 1
