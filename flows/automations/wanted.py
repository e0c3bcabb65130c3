"""Which automations a stack has, as values.

An incident that opens or gets worse starts `runbook/dispatch`, which decides about its runbook. A hint from outside that
something may be wrong starts a sweep, which looks for itself.

The others tell people, in two ways. What the worker can tell is told by `alert/flow-run`, through the channels with all they
can. What it cannot, because it is the patient, the Prefect server tells by itself, through blocks of its own: no worker, no
sweeps, the alert flow failed.

Windows of triggers in Prefect 3.9 (prefect/server/events/triggers.py): a reactive trigger with a window fires at once and then
not again within it; a proactive one whose `after` and `expect` are the same event fires once, `within` after the last of them,
and again only after another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.events.actions import RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture, SequenceTrigger
from prefect.events.schemas.events import ResourceSpecification

from blocks.alerts.base import reaches
from blocks.settings import Settings, Severity

__all__ = ["ALERT_FLOW", "HINTS", "SWEEP_FLOW", "TAG", "Means", "tag_of", "wanted"]

SWEEP_FLOW = "health"
ALERT_FLOW = "alert"
TAG = "stack-operations"

MISSED_SWEEPS = 3
SHORTEST_S = 10
"""Prefect's own least for the absence of something."""
ENDED_BADLY = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"}
LATE = {"prefect.flow-run.Late"}
WAITING = {"prefect.flow-run.Paused", "prefect.flow-run.Suspended"}
COMPLETED = {"prefect.flow-run.Completed"}
HINTS = (
    "stack.railway.deployment.failed",
    "stack.railway.deployment.crashed",
    "stack.railway.deployment.oom_killed",
    "stack.railway.volume_alert.triggered",
    "stack.railway.monitor.triggered",
    "stack.alertmanager.firing",
    "stack.pagerduty.incident.resolved",
)
"""Events of the gateway after which it is worth looking."""
HINT_PAUSE_S = 30
REPEAT = timedelta(hours=1)
"""What lasts is said again after so long."""
RECOVERY = timedelta(days=7)
"""An end that comes later is not told."""


@dataclass(frozen=True)
class Means:
    """What the automations act through.

    Attributes:
        alert_deployment, dispatch_deployment, sweep_deployment: ids of `alert/flow-run`, `runbook/dispatch`, `health/sweep`.
        tell, end: ids of the notification blocks by channel: to say something, and, where the channel has such a thing, that it
            is over, under the same subject.
    """

    alert_deployment: UUID
    tell: Mapping[str, UUID] = field(default_factory=dict)
    end: Mapping[str, UUID] = field(default_factory=dict)
    dispatch_deployment: UUID = field(kw_only=True)
    sweep_deployment: UUID = field(kw_only=True)


def tag_of(settings: Settings) -> str:
    """The tag by which a stack's automations are known."""
    return f"{TAG}:{settings.stack_name}"


def wanted(settings: Settings, means: Means) -> list[AutomationCore]:
    """Every automation of a stack; those that the server tells of are left out where no channel hears of their severity."""
    found = [_failed_runs(settings, means), _failed_sweeps(settings, means), _incidents(settings, means)]
    found.append(_hints(settings, means))
    stack = settings.stack_name
    no_worker = f"[{stack}] no worker takes runs"
    no_sweeps = f"[{stack}] no health sweeps"
    absent = timedelta(seconds=max(MISSED_SWEEPS * settings.check_interval, SHORTEST_S))
    told: list[tuple[str, str, Any, str, str, Severity]] = [
        (
            "no worker",
            "The work pool has no worker that is online.",
            EventTrigger(expect={"prefect.work-pool.not-ready"}, match=_pool_itself(settings), posture=Posture.Reactive),
            no_worker,
            f"The work pool {settings.work_pool} has no worker that is online: nothing is checked, backed up or repaired. "
            "Look at the service prefect-worker and start it again.",
            "critical",
        ),
        (
            "sweeps stopped",
            f"No sweep has completed for {MISSED_SWEEPS} intervals.",
            _absent(settings, after=True, within=absent),
            no_sweeps,
            f"No run of {SWEEP_FLOW}/sweep has completed for {_span(absent)}: the watch is blind. "
            "Look at the newest runs of it, and at the service prefect-worker.",
            "critical",
        ),
        (
            "no sweeps",
            "No sweep for an hour, said again each hour; also where there never was one.",
            _absent(settings, after=False, within=max(REPEAT, 2 * absent)),
            no_sweeps,
            f"No run of {SWEEP_FLOW}/sweep has completed for {_span(max(REPEAT, 2 * absent))}: the watch is blind. "
            "Is the deployment there and its schedule active? Look at the service prefect-worker.",
            "critical",
        ),
        (
            "alert flow failed",
            "The flow that tells of failed runs has failed itself.",
            EventTrigger(
                expect=ENDED_BADLY,
                match=_spec(_RUNS),
                match_related=[_pool(settings), _flow(ALERT_FLOW)],
                posture=Posture.Reactive,
                within=timedelta(minutes=15),
            ),
            f"[{stack}] alerts of failed runs do not get through",
            "{{ event.resource.name }} of alert/flow-run ended as {{ event.resource['prefect.state-name'] }}: "
            "{{ event.resource['prefect.state-message'] }}",
            "error",
        ),
    ]
    found += [
        _notification(settings, name, description, trigger, subject, body, severity, means.tell)
        for name, description, trigger, subject, body, severity in told
    ]
    found += _ends(settings, means, no_worker, no_sweeps, absent)
    return [automation for automation in found if automation.actions]


def _failed_runs(settings: Settings, means: Means) -> AutomationCore:
    """Runs that ended badly, are late or wait for a person, in the work pool; not of the sweep and the alert flow itself."""
    trigger = EventTrigger(
        expect=ENDED_BADLY | LATE | WAITING,
        match=_spec(_RUNS),
        match_related=[_pool(settings), _flow(f"!{ALERT_FLOW}"), _flow(f"!{SWEEP_FLOW}")],
        posture=Posture.Reactive,
    )
    return _automation(
        settings,
        "failed runs",
        "A run failed, crashed, timed out, is late or waits for a person: alert/flow-run tells.",
        trigger,
        [_tell_run(means)],
    )


def _failed_sweeps(settings: Settings, means: Means) -> AutomationCore:
    """Sweeps that ended badly, once in a while: there is one a minute, and late ones are the absence's business."""
    trigger = EventTrigger(
        expect=ENDED_BADLY,
        match=_spec(_RUNS),
        match_related=[_pool(settings), _flow(SWEEP_FLOW)],
        posture=Posture.Reactive,
        within=timedelta(seconds=max(settings.alert_cooldown, 60)),
    )
    return _automation(
        settings,
        "failed sweeps",
        "A sweep failed; the next ones within the cooldown are not told.",
        trigger,
        [_tell_run(means)],
    )


def _incidents(settings: Settings, means: Means) -> AutomationCore:
    """Incidents that open, and those that get worse: a severer one may be allowed what a milder one was not."""
    trigger = EventTrigger(
        expect={"stack.incident.opened", "stack.incident.escalated"},
        match=_spec({"prefect.resource.id": f"stack.{settings.stack_name}.service.*"}),
        posture=Posture.Reactive,
    )
    request = {"incident": _template("{{ event.payload['key'] }}")}
    action = RunDeployment(source="selected", deployment_id=means.dispatch_deployment, parameters={"request": request})
    return _automation(
        settings, "incidents", "An incident opened or got worse: runbook/dispatch decides about its runbook.", trigger, [action]
    )


def _hints(settings: Settings, means: Means) -> AutomationCore:
    """What others say through the gateway is wrong: a sweep looks now rather than within its interval."""
    trigger = EventTrigger(
        expect=set(HINTS),
        match=_spec({"prefect.resource.id": f"stack.{settings.stack_name}.hint.*"}),
        posture=Posture.Reactive,
        within=timedelta(seconds=HINT_PAUSE_S),
    )
    action = RunDeployment(source="selected", deployment_id=means.sweep_deployment)
    description = f"Others say that something is wrong, or is over: a sweep looks, at most every {HINT_PAUSE_S} s."
    return _automation(settings, "hints", description, trigger, [action])


def _ends(settings: Settings, means: Means, no_worker: str, no_sweeps: str, absent: timedelta) -> list[AutomationCore]:
    """What says that it is over: to people as a message, to a pager as the end of the same alert."""
    ready = EventTrigger(expect={"prefect.work-pool.ready"}, match=_pool_itself(settings), posture=Posture.Reactive)
    gone = EventTrigger(expect={"prefect.work-pool.not-ready"}, match=_pool_itself(settings), posture=Posture.Reactive)
    again = EventTrigger(
        expect=COMPLETED, match=_spec(_RUNS), match_related=[_pool(settings), _flow(SWEEP_FLOW)], posture=Posture.Reactive
    )
    people = {name: block for name, block in means.tell.items() if name not in means.end}
    stack, found = settings.stack_name, []
    for name, description, trigger, subject, words in (
        (
            "worker is back",
            "A worker takes runs again.",
            SequenceTrigger(triggers=[gone, ready], within=RECOVERY),
            no_worker,
            f"[{stack}] a worker takes runs again",
        ),
        (
            "sweeps are back",
            "Sweeps complete again.",
            SequenceTrigger(triggers=[_absent(settings, after=True, within=absent), again], within=RECOVERY),
            no_sweeps,
            f"[{stack}] health sweeps run again",
        ),
    ):
        told = _notification(settings, name, description, trigger, words, f"{words}.", "critical", people)
        actions = [*told.actions, *_actions(settings, subject, f"{words}.", "critical", means.end)]
        found.append(told.model_copy(update={"actions": actions}))
    return found


def _notification(
    settings: Settings,
    name: str,
    description: str,
    trigger: Any,
    subject: str,
    body: str,
    severity: Severity,
    blocks: Mapping[str, UUID],
) -> AutomationCore:
    return _automation(settings, name, description, trigger, _actions(settings, subject, body, severity, blocks))


def _actions(
    settings: Settings, subject: str, body: str, severity: Severity, blocks: Mapping[str, UUID]
) -> list[SendNotification]:
    """One for each channel that hears of this severity; the subject is what tells alerts apart."""
    return [
        SendNotification(block_document_id=block, subject=subject, body=body)
        for name, block in blocks.items()
        if reaches(severity, getattr(settings, f"{name}_min_severity"))
    ]


def _automation(settings: Settings, name: str, description: str, trigger: Any, actions: list[Any]) -> AutomationCore:
    return AutomationCore(
        name=f"{settings.stack_name}: {name}",
        description=description,
        tags=[tag_of(settings)],
        trigger=trigger,
        actions=actions,
    )


def _tell_run(means: Means) -> RunDeployment:
    request = {"flow_run_id": _template("{{ flow_run.id }}"), "state": _template("{{ event.resource['prefect.state-name'] }}")}
    return RunDeployment(source="selected", deployment_id=means.alert_deployment, parameters={"request": request})


def _template(text: str) -> dict[str, str]:
    """A parameter that the server fills in when the automation fires."""
    return {"__prefect_kind": "jinja", "template": text}


def _absent(settings: Settings, *, after: bool, within: timedelta) -> EventTrigger:
    """No sweep completes for so long.

    Args:
        after: counted from the last one, and told once; otherwise from any time, and again each time it is over.
    """
    return EventTrigger(
        # Without it the server opens windows by itself, whatever `after` says (proactive_evaluation in triggers.py).
        for_each={"related:flow:prefect.resource.name"} if after else set(),
        after=COMPLETED if after else set(),
        expect=COMPLETED,
        match=_spec(_RUNS),
        match_related=[_pool(settings), _flow(SWEEP_FLOW)],
        posture=Posture.Proactive,
        within=within,
    )


_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}


def _pool_itself(settings: Settings) -> ResourceSpecification:
    """Events of the work pool, not of its runs."""
    return _spec({"prefect.resource.id": "prefect.work-pool.*", "prefect.resource.name": settings.work_pool})


def _pool(settings: Settings) -> ResourceSpecification:
    """Runs in the work pool."""
    return _spec({"prefect.resource.role": "work-pool", "prefect.resource.name": settings.work_pool})


def _flow(name: str) -> ResourceSpecification:
    """Runs of a flow; with an exclamation mark before the name, of every other one."""
    return _spec({"prefect.resource.role": "flow", "prefect.resource.name": name})


def _spec(labels: dict[str, str]) -> ResourceSpecification:
    return ResourceSpecification(root={**labels})


def _span(within: timedelta) -> str:
    seconds = int(within.total_seconds())
    return f"{seconds // 60} min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds} s"
