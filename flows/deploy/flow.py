"""Bring the stack on Railway to what `railway/stack.py` says, from the worker. The first deploy is `python -m flows.deploy`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect import flow
from pydantic import Field

from blocks.errors import SettingsError, SmokeFailed, StoreError
from blocks.railway import PROTECTED, RailwayApi, RailwayEnvironment, from_settings
from blocks.settings import Settings
from flows.approval import approve
from flows.deploy.actions import Deploy
from flows.deploy.asked import WORKER, Asked, given_secrets, order_of, with_worker_image
from flows.deploy.converge import Done, Report, converge, preview
from flows.deploy.plan import Order, Plan
from flows.deploy.proof import addresses, targets
from flows.documents import optional
from flows.health.maintenance import maintenance
from flows.health.windows import ALL
from flows.report import Summary, line
from flows.smoke import checks
from flows.smoke.results import SmokeResult, failures, verdict
from flows.stack import Stack

__all__ = ["DeployRequest", "deploy"]

WINDOW = 180.0
"""Minutes that the watch is told to expect, at most; the window ends with the run."""


class DeployRequest(Asked):
    """Which stack, and how."""

    dry_run: bool = Field(default=False, description="Only say what would be changed")
    confirm: str = Field(default="", description="The stack's name, to go on without asking; empty: the run pauses and asks")
    smoke: bool = Field(default=True, description="Send a request through the whole stack afterwards; costs a little money")


# No retries: what a fault leaves undone is planned anew inside, and by the next run.
@flow(name="deploy", validate_parameters=True, timeout_seconds=3 * 3600)
def deploy(request: DeployRequest = DeployRequest()) -> list[str]:
    """Look at the project, plan, ask, carry out in the order of who needs whom, prove it. Services of others are left alone.

    Secrets that are there are never changed. Prefect's server and this worker come last; where the worker itself changes this
    run ends with it, and the next one says whether it came up.

    Args:
        request: which stack, and whether to change anything.
    Returns: the plan: a line for each change.
    Raises:
        GuardRefused: it must not begin: somebody's unapplied changes, a rule of the stack, another major version.
        ApprovalMissing: nobody approved; nothing was changed.
        LeaseHeld: a backup, restore or upgrade is under way.
        DeploymentFailed: a service did not come up; running it again goes on from there.
        SmokeFailed: everything is deployed, and a request does not get through.
    """
    settings = Settings.load()
    stack = settings.stack_name
    with environment_of(settings).open(allow=PROTECTED) as api, ExitStack() as held:
        order = order_for(api, settings, request)
        if request.dry_run:
            plan = preview(api, order)
            publish(stack, plan, dry_run=True)
            return plan.lines()

        def go_on(plan: Plan) -> None:
            approve(stack, request.confirm, described(stack, plan))
            held.enter_context(nobody_else())
            held.enter_context(maintenance(stack, changed(plan), "deploy", WINDOW))

        report = converge(api, order, approve=go_on, told=say, prove=lambda report: prove(api, order, report, request))
        return report.plan.lines()


def environment_of(settings: Settings) -> RailwayEnvironment:
    """Return the environment that the stack runs in.

    Raises:
        SettingsError: there is no block of it, and no token.
    """
    found = optional(RailwayEnvironment, settings.stack_name) or from_settings(settings)
    if found is None:
        raise SettingsError(
            f"block railway-environment/{settings.stack_name} does not exist; set RAILWAY_API_TOKEN on the worker (sealed), "
            "and run `python -m blocks`"
        )
    return found


def order_for(api: RailwayApi, settings: Settings, request: Asked) -> Order:
    """Word the order: which stack, and in which of its services this run works.

    The worker keeps the image that it runs where no other is named.
    """
    there = api.inventory().services
    running = there[WORKER].image if WORKER in there else None
    asked = with_worker_image(request, settings.worker_image or running or "")
    own = next((name for name, one in there.items() if one.service_id == settings.railway_service_id), "")
    order = order_of(asked, settings.stack_name, own_service=own)
    return order_of(asked, settings.stack_name, own_service=own, given=given_secrets(order.stack, os.environ))


@contextmanager
def nobody_else() -> Iterator[None]:
    """Hold the stack's lock, so that no backup, restore or upgrade is half-way when a database is deployed.

    Where the store does not answer there is no lock, and no backup either: a deploy may be what mends it.

    Raises:
        LeaseHeld: one of them is under way.
    """
    with ExitStack() as held:
        try:
            held.enter_context(Stack.load().exclusive("deploy"))
        except (StoreError, SettingsError) as error:
            line(f"without the stack's lock: {error}")
        yield


def changed(plan: Plan) -> list[str]:
    """Name the services that the watch should not be alarmed about."""
    return sorted({action.service for action in plan.actions if isinstance(action, Deploy)}) or [ALL]


def described(stack: str, plan: Plan) -> str:
    """Say what will happen, for the person who approves it."""
    lines = "\n".join(f"- `{one}`" for one in plan.lines())
    return f"Deploy of {stack}:\n\n{lines}\n\nSecrets that are there stay. Way back: deploy the earlier version of the project."


def say(done: Done) -> None:
    """Log a step."""
    line(f"{done.line}: {done.outcome} ({done.seconds:.0f} s)")


def prove(api: RailwayApi, order: Order, report: Report, request: DeployRequest) -> None:
    """Publish what was done, and send a request through the stack, before Prefect's own services change.

    Raises:
        SmokeFailed: it does not get through.
    """
    results: list[SmokeResult] = []
    if request.smoke and (target := targets(api, addresses(api, order.stack))):
        results = checks.run(target)
    publish(order.stack.name, report.plan, report=report, results=results)
    if bad := failures(results):
        raise SmokeFailed(f"deploy: everything is deployed, but {verdict(results)}; {bad[0].detail}")


def publish(
    stack: str, plan: Plan, *, dry_run: bool = False, report: Report | None = None, results: list[SmokeResult] | None = None
) -> None:
    """Make the artifact `deploy-<stack>`: the plan, what came of it, and the smoke test."""
    shown = Summary(f"Deploy of {stack}{' (dry run)' if dry_run else ''}", ("Step", "Outcome", "Seconds"))
    done = {one.line: one for one in report.done} if report else {}
    for step in plan.lines():
        one = done.get(step)
        shown.row(f"`{step}`", one.outcome if one else "would be done" if dry_run else "", f"{one.seconds:.0f}" if one else "")
    if not plan.lines():
        shown.note("Nothing to do: everything is as it should be.")
    for note in [*plan.notes, *(report.setup if report else []), *([verdict(results)] if results else [])]:
        shown.note(note)
    shown.publish(f"deploy-{stack}")


if __name__ == "__main__":
    deploy()
