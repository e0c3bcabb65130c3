"""What a check has found so far: kept when it is cut off in the middle, and when a part of it fails.

An aspect is looked at within `looking`, which says what silence means for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from blocks.errors import StackError
from flows.health.observation import Observation, Status
from railway.stack import SERVICES

__all__ = ["Findings", "NoAnswer"]


class NoAnswer(Exception):
    """A service did not answer.

    Args:
        how: completes a sentence that begins with the service: `refuses connections`. No host, no address, no secret.
    """

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Findings:
    """The observations of one check.

    Args:
        service: that they are about, unless one says otherwise.
        main: the aspect that stands for the service: where it is down, nothing else is said.

    Attributes:
        title: of what is asked, for sentences; that of railway/stack.py unless a check asks somebody else.
    """

    def __init__(self, service: str, main: str) -> None:
        self.service = service
        self.main = main
        self.title = SERVICES[service].title if service in SERVICES else service
        self._found: dict[tuple[str, str], Observation] = {}
        self._looking: dict[str, tuple[Status | None, str]] = {}

    @property
    def observations(self) -> list[Observation]:
        """Everything that was found, the main aspect first."""
        return sorted(self._found.values(), key=lambda one: (one.service, one.aspect) != (self.service, self.main))

    def status(self, aspect: str) -> Status | None:
        """How an aspect of the service was found, None where it was not."""
        found = self._found.get((self.service, aspect))
        return found.status if found else None

    def add(
        self,
        aspect: str,
        status: Status,
        sentence: str,
        *,
        service: str = "",
        latency_ms: float | None = None,
        value: float | None = None,
        limit: float | None = None,
        unit: str = "",
    ) -> None:
        """Write down what was seen; see `Observation`.

        Args:
            service: where it is another one's than the check's.
        """
        self._found[service or self.service, aspect] = Observation(
            service=service or self.service,
            aspect=aspect,
            status=status,
            sentence=" ".join(sentence.split()),
            latency_ms=None if latency_ms is None else round(latency_ms, 1),
            value=value,
            limit=limit,
            unit=unit,
        )

    def measure(self, aspect: str, value: float, limit: float, unit: str, sentence: str, remedy: str) -> None:
        """Compare a number with its limit: degraded above it.

        Args:
            sentence: what was seen and what is expected. remedy: what to do, said only when it is above.
        """
        good = value <= limit
        text = sentence if good else f"{sentence}; {remedy}"
        self.add(aspect, Status.OK if good else Status.DEGRADED, text, value=value, limit=limit, unit=unit)

    @contextmanager
    def looking(self, aspect: str, silent: Status | None, *, remedy: str = "") -> Iterator[None]:
        """Look at an aspect; what goes wrong on the way becomes an observation of it.

        Args:
            silent: what it means when there is no answer; None: nothing, because another check says so.
            remedy: what to do then.
        """
        self._looking[aspect] = silent, remedy
        try:
            yield
        except NoAnswer as error:
            self._silent(aspect, silent, error.how, remedy)
        except StackError as error:  # a setting that is wrong: says nothing about the service
            self.add(self._free(aspect), Status.UNKNOWN, str(error))
        except Exception as error:  # noqa: BLE001 - a bug in one check must not hide what the others see
            self.broken(aspect, error)
        del self._looking[aspect]  # not when it is cancelled: `cut` needs it

    def broken(self, aspect: str, error: Exception) -> None:
        """Say that the check itself failed, by the error's type: its text may be anything."""
        what = f"the check {self.service}/{aspect} itself failed ({type(error).__name__}); this says nothing about the service"
        self.add(self._free(aspect), Status.UNKNOWN, f"{what}; see the log of the sweep")

    def cut(self, seconds: float) -> None:
        """The time is over: say so of everything that is still being looked at."""
        for aspect, (silent, remedy) in self._looking.items():
            if self.status(aspect) is None:
                self._silent(aspect, silent, f"did not answer within {seconds:g} s", remedy)
        self._looking.clear()

    def _silent(self, aspect: str, silent: Status | None, how: str, remedy: str) -> None:
        if silent is None:
            return
        what = "" if aspect == self.main else f" when asked about {aspect.replace('-', ' ')}"
        todo = remedy or "see whether the service runs, read its log, restart it"
        self.add(self._free(aspect), silent, f"{self.title} {how}{what}; {todo}")

    def _free(self, aspect: str) -> str:
        """What was seen of an aspect stands: what goes wrong afterwards is another aspect, `check`."""
        return aspect if self.status(aspect) is None else "check"
