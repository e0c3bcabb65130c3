"""The game day's table for people and its file for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.gameday.score import Outcome, document, missing, summary

__all__ = ["Report"]

WIDTH = 150
"""Columns of a report that goes into a file or a pipe."""


class Report:
    """Prints and writes.

    Args:
        path: of the JSON file, written anew after each cause: what was seen stays, however the day ends.
    """

    def __init__(self, path: Path, console: Console | None = None) -> None:
        self._path = path
        self._console = console or Console()
        if not self._console.is_terminal:
            self._console = console or Console(width=WIDTH)
        self.outcomes: list[Outcome] = []

    def say(self, text: str) -> None:
        """One line for who watches."""
        self._console.print(text, highlight=False, markup=False)

    def add(self, outcome: Outcome) -> None:
        """Take one more."""
        self.outcomes.append(outcome)
        word = "as it should be" if outcome.ok else "; ".join(outcome.problems) or "not as it should be"
        self._console.print(f"  [{'green' if outcome.ok else 'red'}]{escape(word)}[/]", highlight=False)
        self._write()

    def finish(self) -> None:
        """Print the table and the score."""
        self._console.print(table(self.outcomes))
        self._console.print(f"Score: {summary(self.outcomes)}.", highlight=False)
        if left := missing(self.outcomes):
            listed = ", ".join(map(str, left))
            self._console.print(f"Not caused this time, of the 23 incidents of the list: {listed}.", highlight=False)
        self._console.print(f"{self._path.name} has it for machines.", highlight=False)
        self._write()

    def _write(self) -> None:
        self._path.write_text(json.dumps(document(self.outcomes), indent=1) + "\n", encoding="utf-8")


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each cause."""
    made = Table(title="Game day", title_justify="left")
    made.add_column("incident", no_wrap=True)
    made.add_column("no.", justify="right", no_wrap=True)
    made.add_column("cause")
    made.add_column("detected after", justify="right")
    made.add_column("right diagnosis")
    made.add_column("healed after", justify="right")
    made.add_column("what was done")
    for one in outcomes:
        detected = _seconds(one.detected_s) + (f", {one.sweeps} sweeps" if one.detected_s is not None else "")
        done = [escape(text) for text in one.done] + [f"[red]{escape(text)}[/]" for text in one.problems]
        made.add_row(
            f"[{'green' if one.ok else 'red'}]{one.key}[/] ({one.kind})",
            ", ".join(map(str, one.numbers)) or "-",
            escape(one.what),
            detected,
            "yes" if one.diagnosed else "[red]no[/]",
            _seconds(one.healed_s),
            "; ".join(done),
        )
    return made


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"
