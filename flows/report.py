"""How flows speak to the person who watches: log lines, and one summary artifact a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError


def logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the run's logger, or the plain one of this project outside a run."""
    try:
        return get_run_logger()  # type: ignore[no-any-return,unused-ignore]  # prefect's own adapter class
    except MissingContextError:
        return logging.getLogger("stack-operations")


def line(text: str) -> None:
    """Write one log line of the run."""
    logger().info("%s", text)


def flow_run_id() -> str:
    """Return the id of the flow run, empty outside one."""
    task, flow = TaskRunContext.get(), FlowRunContext.get()
    if flow and flow.flow_run:
        return str(flow.flow_run.id)
    return str(task.task_run.flow_run_id) if task and task.task_run.flow_run_id else ""


@dataclass
class Summary:
    """The summary artifact of a run: a table of what was done.

    Attributes:
        title: heading. columns: of the table. rows: cells, as text. notes: paragraphs below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, *cells: object) -> None:
        """Add a row."""
        self.rows.append(tuple(str(cell) for cell in cells))

    def note(self, text: str) -> None:
        """Add a paragraph below the table."""
        self.notes.append(text)

    def markdown(self) -> str:
        """Return the artifact's text."""
        head = [f"# {self.title}", "", _row(self.columns), _row(tuple("---" for _ in self.columns))]
        return "\n".join([*head, *(_row(row) for row in self.rows), "", *(f"{note}\n" for note in self.notes)])

    def publish(self, key: str) -> None:
        """Create the artifact under a key (letters, digits and dashes)."""
        create_markdown_artifact(key=key, markdown=self.markdown(), description=self.title)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


class Progress:
    """The progress artifact of a run: how many of its components are done.

    Args:
        key: letters, digits and dashes. description: what is being done. total: components.
    """

    def __init__(self, key: str, description: str, total: int) -> None:
        self._total = max(total, 1)
        self._done = 0
        made = create_progress_artifact(progress=0.0, key=key, description=description)
        self._id = cast(UUID, made)  # Prefect types it as either; outside async code it is the id

    def step(self) -> None:
        """Count one more component as done."""
        self._done += 1
        update_progress_artifact(artifact_id=self._id, progress=100.0 * self._done / self._total)


@dataclass
class Stopwatch:
    """Seconds a step took; filled in when its block ends."""

    seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Measure the body by the monotonic clock."""
    watch, begun = Stopwatch(), time.monotonic()
    try:
        yield watch
    finally:
        watch.seconds = time.monotonic() - begun
