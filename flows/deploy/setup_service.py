"""SETUP as a service of its own for a minute: it works from inside the private network, so nothing is opened to the public."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection

from blocks.errors import DeploymentFailed, RailwayDenied, StackError
from blocks.railway_api.api import RailwayApi
from blocks.railway_api.models import Deployment, ServiceSettings
from flows.deploy import setup
from flows.deploy.actions import RunSetup
from flows.deploy.carry_out import Hands
from flows.deploy.fingerprint import setup_fingerprint
from flows.deploy.present import PENDING, SETUP_DONE, Present
from flows.deploy.rollout import Pace, deploy_now

__all__ = ["COMMAND", "run_setup"]

COMMAND = "python -m flows.deploy.setup"
_LOGS_LATE = 60.0
"""Seconds that the platform's logs may be behind."""


def run_setup(
    api: RailwayApi, hands: Hands, action: RunSetup, look: Callable[[Collection[str]], Present], pace: Pace
) -> list[str]:
    """Run SETUP to its end, delete its service, and note on Postgres what was created.

    Returns: the lines that it wrote: what was created, and what was there.
    Raises:
        DeploymentFailed: it ended with an error; its last lines are in `log`. Its service is deleted all the same.
    """
    present = look([action.home, *action.holders])
    mark = fingerprint_of(action, present)
    api.set_variables(hands.id_of(action.home), {SETUP_DONE: PENDING})
    hands.create_service(action.service)
    service = hands.id_of(action.service)
    try:
        api.set_variables(service, dict(action.variables))
        api.update_service(service, ServiceSettings(image=action.image, start_command=COMMAND, restart_policy="NEVER"))
        deployment = deploy_now(api, service)
        timeout = pace.deployment + pace.setup
        ended = api.wait_for_deployment(deployment, timeout=timeout, poll=pace.poll, image=action.image, until="finished")
        lines = _lines(api, ended, pace)
    except BaseException:
        with contextlib.suppress(StackError):  # what went wrong first is what is told; the next deploy deletes it
            _delete(api, hands, action)
        raise
    _delete(api, hands, action)
    api.set_variables(hands.id_of(action.home), {SETUP_DONE: mark})
    return lines


def fingerprint_of(action: RunSetup, present: Present) -> str:
    """Recognise what is about to be created, and where."""
    volumes = [service.volume.id for name in action.holders if (service := present.services[name]).volume]
    return setup_fingerprint(present.services[action.home], dict(action.variables), volumes, present)


def _delete(api: RailwayApi, hands: Hands, action: RunSetup) -> None:
    api.delete_service(hands.id_of(action.service))
    hands.forget(action.service)


def _lines(api: RailwayApi, ended: Deployment, pace: Pace) -> list[str]:
    """Return what it wrote, if its last word was that all is there: its exit status cannot be asked for."""
    deadline = time.monotonic() + _LOGS_LATE
    while True:
        log = _log(api, ended.id)
        if setup.DONE in log:
            return [line for line in log if line != setup.DONE]
        if time.monotonic() + pace.poll > deadline:
            said = next((line for line in reversed(log) if line.startswith("setup: ")), "no word of why")
            raise DeploymentFailed(
                f"stack-setup: ended without having created everything: {said}; mend that, then deploy again",
                status=ended.status.value,
                log=log,
            )
        time.sleep(pace.poll)


def _log(api: RailwayApi, deployment: str) -> tuple[str, ...]:
    try:
        return tuple(line.message for line in api.logs(deployment))
    except RailwayDenied as error:
        raise StackError(f"stack-setup: nobody can see whether it succeeded: {error}") from None
