"""recover-outage: several services are down at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prefect import flow
from pydantic import Field

from blocks.errors import NotHealed, SettingsError, StackError
from blocks.railway import RailwayApi
from flows.deploy.flow import environment_of
from flows.health.dependencies import in_order
from flows.health.targets import Targets
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.restart_service import ServiceDown
from flows.runbook.restarting import Waits
from flows.runbook.running import carry_out, one_inside
from flows.runbook.triage import OUTAGE, Known, decide, triage
from flows.stack import Stack
from railway.stack import SERVICES

__all__ = ["Outage", "OutageRequest", "recover_outage", "services_of"]

Restart = Callable[[ServiceDown], str]
"""Heals one service by the restart-service runbook, as `heal` does."""


class OutageRequest(RunbookRequest):
    """Which services."""

    services: list[str] = Field(
        default=[], description="Only look after these, for example redis and langfuse-worker; empty: all that are watched"
    )


@flow(name="recover-outage", validate_parameters=True, timeout_seconds=6 * 3600)
def recover_outage(request: OutageRequest = OutageRequest()) -> str:
    """Bring back several services that are down, from the bottom of the graph up.

    Symptom: several services are down at once: the platform had an outage, a database took everything along that needs it, or
    nobody knows yet what began it.

    Diagnosis: what the checks of all services say now; who is down by itself, and who only because something below it is;
    whether a restore, upgrade or deploy is under way, which starts what it stops by itself.

    Remedy: those that are down by themselves are restarted first, each by restart-service; then it is waited whether the others
    recover by themselves; those that do not are restarted level by level, each when all that it needs is well. What needs a
    service that stays down is not touched: a restart would not help it. Then it gives up, and names what is still down and why.

    When not to: where one service alone is down: its incident has a runbook of its own. Where Railway itself has an incident
    (status.railway.com): wait, restarts make it worse. Prefect's server and worker are left to people.

    Args:
        request: which services.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says what is still down.
        SettingsError: there is no such service, or no token of Railway's API.
    """
    stack = Stack.load()
    wanted = services_of(request.services)
    with environment_of(stack.settings).open() as api:

        def restart(service: ServiceDown) -> str:
            return one_inside(service, request, stack, Pace(settle=90))

        outage = Outage(stack, api, Targets.from_settings(stack.settings), wanted, restart)
        return carry_out(outage, request, stack, Pace(settle=90, longest=300), longest=5 * 3600)


def services_of(names: Sequence[str]) -> tuple[str, ...]:
    """Name the services to look after.

    Raises:
        SettingsError: there is none of that name.
    """
    for name in names:
        if name not in SERVICES:
            raise SettingsError(f"recover-outage: there is no service {name!r}; expected one of {', '.join(SERVICES)}")
    return in_order(names or SERVICES)


@dataclass
class Outage(Runbook):
    """The services of a stack, and those of them that were down when it was looked first.

    Attributes:
        wanted: services that it looks after. restart: heals one of them. waits: for what Railway does.
    """

    stack: Stack
    api: RailwayApi
    targets: Targets
    wanted: Sequence[str]
    restart: Restart
    waits: Waits = field(default_factory=Waits)
    name: str = "recover-outage"
    service: str = OUTAGE
    _patients: tuple[str, ...] = ()

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        observations = observe_services(self.targets, self.wanted)
        found = triage(observations)
        self._patients = found.down
        looked = in_order({one.service for one in observations if one.service in SERVICES})
        ladder = [_Level(self, number, level) for number, level in enumerate(found.levels)]
        return decide(Known(found, at_work(self.stack), looked), ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`: what is down of all that it looks after, and what was down and cannot be seen to be well."""
        observations = observe_services(self.targets, self.wanted)
        bad = dict(triage(observations).sentences)
        for name in self._patients:
            if name not in bad and (why := wrong_with(observations, name)):
                bad[name] = why[0]
        return [f"{name}: {bad[name]}" for name in in_order(bad)]

    def doctor(self, service: str) -> ServiceDown:
        """Make the runbook that heals one of them."""
        return ServiceDown(self.stack, self.api, self.targets, service, waits=self.waits)

    def is_down(self, services: Sequence[str]) -> list[str]:
        """Name those of some services that are not well."""
        observations = observe_services(self.targets, services)
        return [one for one in services if wrong_with(observations, one)]


@dataclass(frozen=True)
class _Level(Action):
    """Heals the services of one level.

    Attributes:
        number: from the bottom, which is 0.
    """

    outage: Outage
    number: int
    services: tuple[str, ...]

    def describe(self) -> str:
        """As in `Action`."""
        names, one = ", ".join(self.services), len(self.services) == 1
        if not self.number:
            return f"restart {names}, down by {'itself' if one else 'themselves'}"
        return f"restart {names}, unless {'it recovers' if one else 'they recover'} with what was below"

    def needless(self) -> str:
        """As in `Action`."""
        return "" if self.outage.is_down(self.services) else "they are well"

    def do(self) -> str:
        """As in `Action`; each of them is tried, whatever became of the others.

        Raises:
            NotHealed: one of them is not well.
        """
        ended, sick = [], []
        for service in self.outage.is_down(self.services):
            try:
                result = self.outage.restart(self.outage.doctor(service))
            except StackError as error:
                sick.append(str(error))
                continue
            ended.append(f"{service}: {'well by now' if result == Verdict.NOTHING else result}")
        if sick:
            raise NotHealed("; ".join([*ended, *sick]))
        return "; ".join(ended) or "all of them are well by now"
