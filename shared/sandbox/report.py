"""Steps that prove something: run one after the other, timed, printed for people and written as JSON for machines."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Done:
    """What a step has to say.

    Attributes:
        detail: one line for people. bytes: how much data it moved or made, 0 where that means nothing.
        working: seconds of it that went into moving them, 0 for the whole step; the rest is starting processes and waiting.
    """

    detail: str
    bytes: int = 0
    working: float = 0.0


@dataclass(frozen=True)
class Row:
    """One step in the report."""

    name: str
    ok: bool
    seconds: float
    bytes: int
    detail: str
    working: float = 0.0


WIDTH = 130
"""Columns of a report that goes into a file or a pipe."""


class Steps:
    """Runs steps until one fails.

    Args:
        title: of the report. path: of the JSON file, `{"ok": bool, "steps": [...]}`.
    """

    def __init__(self, title: str, path: Path) -> None:
        self._title = title
        self._path = path
        self._console = Console()
        if not self._console.is_terminal:
            self._console = Console(width=WIDTH)
        self.rows: list[Row] = []

    @property
    def ok(self) -> bool:
        """Say whether every step so far held."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    def run(self, name: str, work: Callable[[], Done]) -> bool:
        """Run one step, unless an earlier one failed.

        Returns: whether it held.
        """
        if self.rows and not self.rows[-1].ok:
            return False
        self._console.print(f"[bold]{name}[/] ...", highlight=False)
        begun = time.monotonic()
        try:
            done = work()
        except Exception as error:  # noqa: BLE001 - whatever broke is the step's verdict, shown and counted
            traceback.print_exc(file=sys.stderr)
            row = Row(name, ok=False, seconds=time.monotonic() - begun, bytes=0, detail=f"{type(error).__name__}: {error}")
        else:
            row = Row(
                name, ok=True, seconds=time.monotonic() - begun, bytes=done.bytes, detail=done.detail, working=done.working
            )
        self.rows.append(row)
        style = "green" if row.ok else "red"
        self._console.print(
            f"  [{style}]{'held' if row.ok else 'FAILED'}[/] {row.seconds:.1f} s  {row.detail}", highlight=False
        )
        return row.ok

    def finish(self) -> int:
        """Print the table, write the file; returns the exit status."""
        table = Table(title=self._title, title_justify="left")
        table.add_column("step", no_wrap=True)
        for heading in ("s", "MB", "MB/s"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("verdict")
        for row in self.rows:
            megabytes = row.bytes / 1e6
            seconds = row.working or row.seconds
            speed = f"{megabytes / seconds:.0f}" if row.bytes and seconds else ""
            verdict = f"[green]held[/]: {row.detail}" if row.ok else f"[red]FAILED[/]: {row.detail}"
            table.add_row(row.name, f"{row.seconds:.1f}", f"{megabytes:.1f}" if row.bytes else "", speed, verdict)
        self._console.print(table)
        document = {"ok": self.ok, "steps": [_document(row) for row in self.rows]}
        self._path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        self._console.print(f"{'Every step held' if self.ok else 'A step failed'}; {self._path.name} has it for machines.")
        return 0 if self.ok else 1


def _document(row: Row) -> dict[str, object]:
    """Return a row as machines read it."""
    return {"name": row.name, "ok": row.ok, "seconds": round(row.seconds, 3), "bytes": row.bytes, "detail": row.detail}
