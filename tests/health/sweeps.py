"""Sweeps without a clock or a network: what was seen goes in, what happened comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from flows.health.acknowledged import Acknowledgement
from flows.health.incidents import Happening, Incident
from flows.health.judge import Judgement, judge
from flows.health.observation import Observation, Status
from flows.health.policy import Policy
from flows.health.state import State
from flows.health.windows import Window
from railway.stack import PRODUCTION

BEGAN = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
EVERY = timedelta(seconds=60)
OK, UNKNOWN, DEGRADED, DOWN = Status.OK, Status.UNKNOWN, Status.DEGRADED, Status.DOWN

LETTERS = {".": OK, "?": UNKNOWN, "d": DEGRADED, "D": DOWN}
"""How a row of sweeps is written in a test."""


def observation(service: str, aspect: str, status: Status, sentence: str = "") -> Observation:
    """One observation, with a sentence that says what it is."""
    return Observation(service=service, aspect=aspect, status=status, sentence=sentence or f"{service} {aspect} is {status}")


_ANSWERS = {(service, status): observation(service, "answer", status) for service in PRODUCTION for status in Status}


class Watch:
    """A stack that is swept once a minute.

    Attributes:
        state: as the last sweep left it. now: of the next sweep. happenings: all so far, oldest first.
        acknowledged: who works on which incident; None: nobody could look.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.state = State(stack="test")
        self.now = BEGAN
        self.happenings: list[Happening] = []
        self.windows: list[Window] = []
        self.acknowledged: dict[str, Acknowledgement] | None = {}
        self.last: Judgement | None = None

    def observe(self, observations: Sequence[Observation]) -> list[Happening]:
        """One sweep; returns what happened in it."""
        self.last = judge(self.state, observations, self.policy, self.now, self.windows, self.acknowledged)
        self.state = self.last.state.model_copy(update={"unemitted": ()})
        self.now += EVERY
        self.happenings += self.last.happenings
        return self.last.happenings

    def sweep(self, bad: Mapping[str, Status] | None = None) -> list[Happening]:
        """One sweep of the nine services and one aspect each; those that are not named are well."""
        bad = bad or {}
        return self.observe([_ANSWERS[service, bad.get(service, OK)] for service in PRODUCTION])

    def rows(self, **rows: str) -> list[Happening]:
        """Several sweeps of the nine services: a letter a sweep, `.` well, `d` degraded, `D` down, `?` unknown.

        Args:
            rows: by service, with `_` for a dash; all of the same length.
        """
        length = max(len(row) for row in rows.values())
        assert all(len(row) == length for row in rows.values())
        said: list[Happening] = []
        for place in range(length):
            said += self.sweep({name.replace("_", "-"): LETTERS[row[place]] for name, row in rows.items()})
        return said

    def of_kind(self, kind: str) -> list[Incident]:
        """Incidents of the happenings of a kind, oldest first."""
        return [happening.incident for happening in self.happenings if happening.kind == kind]

    @property
    def opened(self) -> list[str]:
        """Services whose incidents were opened so far, in that order."""
        return [incident.service for incident in self.of_kind("opened")]

    @property
    def open(self) -> dict[str, Incident]:
        """The open incidents by service; a test that has two of one service looks into the state."""
        return {incident.service: incident for incident in self.state.incidents}


def kinds(happenings: Sequence[Happening]) -> list[str]:
    """What happened, in a word each."""
    return [happening.kind for happening in happenings]
