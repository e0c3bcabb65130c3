"""Programs that the container runs for its worker: they tell the Prefect server of this version, and mend what a death left.

All of them are idempotent: they are run at every start, two containers may do so at once, one that was killed is run again.

None is fatal. What is wrong in the environment is found before the gateway answers, so that Railway keeps the old container
(`preflight.py`). What goes wrong later is either over soon, and tried again here, which is quicker than a restart and keeps the
gateway up; or a restart does not mend it either, and a worker that sweeps and backs up by the deployments of the version before
is worth more than none: each deployment, block and automation is replaced by one request, so what is there is whole. So after
three tries the worker starts without, and the step is tried again every five minutes, with a line in the log each time. What is
not done stands in a Prefect variable meanwhile (`blocks/undone.py`), which the sweep looks at, so it becomes an incident.
"""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO

from railway.worker.processes import Child

__all__ = ["DEPLOYED_TO", "MERGES", "REGISTRATION", "Spawn", "Step", "Steps", "Tell"]

DEPLOYED_TO = "ops"
"""The work pool of every deployment in prefect.yaml: a worker of another pool, as that of drills may be, registers nothing."""
LIMIT = 240.0
"""Seconds that one program may take: some thirty deployments, on a small machine that is busy starting."""
PAUSES = (5.0, 20.0)
"""Seconds before the second and the third try, as elsewhere (`blocks/retry.py`)."""
LATER = 300.0
"""Seconds between later tries."""
TELL_AGAIN = 30.0
"""Seconds until operators are told again where that failed."""
PATIENCE = 300.0
"""Seconds after which the worker starts, whatever has been tried: programs that hang must not keep it from work."""

_TAIL_BYTES, _LINE_CHARACTERS = 16384, 300
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_BORDERS = " │┃|╰╭─╯╮"

_log = logging.getLogger("railway.worker")


@dataclass(frozen=True)
class Step:
    """A program: `python -m <module> <arguments>`.

    Attributes:
        name: for messages. talks: what it says last is worth a line in the log.
        keeps_worker: the worker starts after it, as long as that does not take for ever.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    talks: bool = False
    keeps_worker: bool = True


REGISTRATION = (
    Step("blocks", "blocks"),
    Step("deployments", "prefect", ("--no-prompt", "deploy", "--all")),
    Step("deployments of earlier versions", "railway.worker.left_over", talks=True),  # those of this one are whole by then
    Step("automations", "flows.automations", ("--prune",)),  # after the deployments: they start one of them
    # This start may be the upgrade of the worker itself. The run that finishes it needs a worker, so none waits for the step.
    Step("unfinished upgrades", "flows.upgrade.resume", keeps_worker=False),
)
MERGES = Step("ClickHouse's merges", "flows.backup.start_merges")
"""For after the death of a run: it may have been a backup, which holds merges while it runs."""

Spawn = Callable[[Step, int], Child]
"""Starts a step's program, which writes to a file descriptor."""
Tell = Callable[[Mapping[str, str]], bool]
"""Tells operators which steps are not done, and why; returns whether it could."""


class Steps:
    """Runs steps one after the other, and again those that failed. Waits for nothing: it is told to take turns.

    Args:
        steps: in order. spawn, tell: see there. hide: takes secrets out of what a program wrote.
        now: seconds on a clock that only goes forward.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        spawn: Spawn,
        *,
        hide: Callable[[str], str] = str,
        tell: Tell | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spawn, self._hide, self._now = spawn, hide, now
        self._tell = tell or (lambda _: True)
        self._undone: dict[str, str] = {}
        self._told: dict[str, str] | None = None
        self._tell_at = 0.0
        self._to_do = list(steps)
        self._failed: list[Step] = []
        self._running: tuple[Step, Child, IO[bytes], float] | None = None
        self._next = 0.0
        self._begun: float | None = None
        self._tries = 0

    @property
    def children(self) -> list[Child]:
        """The program that runs, for `processes.reap`."""
        return [] if self._running is None else [self._running[1]]

    def add(self, step: Step) -> None:
        """Have another step run soon, unless it waits already."""
        if step not in (*self._to_do, *self._failed):
            self._to_do.append(step)
            self._next = min(self._next, self._now())

    def turn(self) -> bool:
        """Look at the program that runs, or start the next one.

        Returns: whether the worker may start: nothing is left that it would wait for, or enough was tried.
        """
        if self._begun is None:
            self._begun = self._now()
        if self._running is not None:
            self._look(*self._running)
        elif self._to_do and self._now() >= self._next:
            self._start(self._to_do.pop(0))
        elif not self._to_do and self._failed:
            self._tries += 1
            pause = PAUSES[self._tries - 1] if self._tries <= len(PAUSES) else LATER
            self._to_do, self._failed = self._failed, []
            self._next = self._now() + pause
            names = ", ".join(step.name for step in self._to_do)
            _log.warning("not done: %s; tried again in %g s", names, pause)
        done = self._running is None and not self._to_do and not self._failed
        if (done or self._undone) and self._undone != self._told and self._now() >= self._tell_at:
            self._say()
        left = [*self._to_do, *self._failed, *([self._running[0]] if self._running else [])]
        kept = any(step.keeps_worker for step in left)
        return not kept or self._tries > len(PAUSES) or self._now() - self._begun >= PATIENCE

    def end(self) -> None:
        """End the program that runs; what it was at is done again by the next container."""
        for child in self.children:
            child.kill()

    def _say(self) -> None:
        undone = dict(self._undone)
        if self._tell(undone):
            self._told = undone
        else:
            self._tell_at = self._now() + TELL_AGAIN

    def _start(self, step: Step) -> None:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the program has ended
        self._running = step, self._spawn(step, output.fileno()), output, self._now()

    def _look(self, step: Step, child: Child, output: IO[bytes], begun: float) -> None:
        seconds = self._now() - begun
        if child.running:
            if seconds > LIMIT:
                child.kill()
            return
        self._running = None
        with output:
            if child.status == 0:
                self._undone.pop(step.name, None)
                said = self._last_line(output) if step.talks else ""
                _log.info("done: %s (%.1f s)%s", step.name, seconds, f": {said}" if said else "")
                return
            too_long = f", as it took longer than {LIMIT:g} s" if seconds > LIMIT else ""
            why = f"{child.how_it_ended()}{too_long}: {self._last_line(output) or 'it said nothing'}"
            _log.error("%s: %s", step.name, why)
            self._undone[step.name] = why
        self._failed.append(step)

    def _last_line(self, output: IO[bytes]) -> str:
        """The last thing that a program said, on one line, without secrets and decoration; empty where it said nothing."""
        output.seek(max(0, output.seek(0, 2) - _TAIL_BYTES))
        lines = _ESCAPES.sub("", output.read().decode(errors="replace")).splitlines()
        words = [line.strip(_BORDERS) for line in lines if any(character.isalpha() for character in line)]
        return self._hide(words[-1])[:_LINE_CHARACTERS] if words else ""
