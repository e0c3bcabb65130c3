"""Look at every service, judge, tell people and runbooks, publish: once a minute, one coroutine, no tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact
from pydantic import BaseModel, Field

from blocks.alerts import channels
from blocks.errors import IntegrityError, ServiceError
from blocks.s3_light import LightStore
from blocks.settings import Settings
from flows.health.acknowledged import Acknowledgement
from flows.health.acknowledging import forget, read_acknowledgements
from flows.health.events import emit
from flows.health.heartbeat import ping_async
from flows.health.judge import Judgement, judge
from flows.health.links import links_of, run_url
from flows.health.maintenance import windows_async
from flows.health.memory import ANYTHING, Before, load_text, save_text
from flows.health.observe import observe
from flows.health.outbox import Outbox, deliver, owe
from flows.health.policy import Policy
from flows.health.published import Outcome, publish
from flows.health.state import State, memory_name
from flows.health.targets import Store, Targets
from flows.health.views import artifact, said, summary
from flows.health.windows import Window, during
from flows.report import flow_run_id, line, logger

__all__ = ["SweepRequest", "health", "memory_name"]

PUBLISHING_S = 30.0
"""The page and its history may take so long: a store that hangs must not keep the next sweep from starting."""


SHOWING_S = 30.0
"""The artifact may take so long."""


class SweepRequest(BaseModel):
    """How to look."""

    dry_run: bool = Field(
        default=False, description="Only look, judge and say: nothing is remembered, nobody is told, nothing is published"
    )


@flow(name="health", validate_parameters=True, timeout_seconds=110)
async def health(request: SweepRequest = SweepRequest()) -> dict[str, str]:
    """Sweep once.

    People are told before anything else is done with what was found, and what fails after that fails alone: the rest is still
    done, and the run fails at its end.

    Args:
        request: how to look.
    Returns: the verdict of each service, in a word.
    Raises:
        SettingsError: a setting is wrong; the run says which.
        ServiceError: a step failed; says which, and why. What was found is remembered and told unless it says otherwise.
    """
    settings = Settings.load()
    stack, run_id = settings.stack_name, flow_run_id()
    steps = _Steps()
    try:
        begun = datetime.now(UTC)
        targets = Targets.from_settings(settings, begun)
        windows_before, _ = await _windows(stack, steps)
        _, observations = await asyncio.gather(ping_async(settings, "start", run_id=run_id), observe(targets))
        previous, before = await _remembered(stack, steps)
        windows, problems = await _windows(stack, steps)
        for problem in problems:
            steps.failed(problem)
        now = datetime.now(UTC)
        windows = during([*windows_before, *windows], begun, now)
        acknowledged = await _acknowledged(previous, steps)
        judgement = judge(previous, observations, Policy.from_settings(settings), now, windows, acknowledged)
        verdicts, happenings = judgement.verdicts, judgement.happenings
        line(summary(verdicts, judgement.state.incidents))
        for happening in happenings:
            line(said(happening))
        if not request.dry_run:
            memory = _Memory(judgement.state, asyncio.get_running_loop(), before)
            told = channels(settings)
            memory.note(outbox=owe(memory.state.outbox, happenings, told))
            await memory.save()  # before anybody is told: a sweep that dies here says nothing twice
            async with steps.each("alerts"):
                now = judgement.state.swept_at or datetime.now(UTC)
                links = links_of(settings, run_id)
                await asyncio.to_thread(deliver, memory.state.outbox, (), told, links, now, memory.save_outbox)
            for unheard in memory.state.outbox.unheard():
                steps.failed(f"alerts: {unheard}; no other channel could be told")
            for problem in [channel.problem for channel in told if channel.problem]:
                steps.failed(f"alerts: {problem}")  # what it is owed waits until its settings are right
            async with steps.each("events"):
                if memory.state.unemitted:
                    await emit(memory.state.unemitted, run_id)
                    memory.note(unemitted=())
                    await memory.save()
            async with steps.each("acknowledgements"):
                still_open = {incident.key for incident in judgement.state.incidents}
                if over := [key for key in acknowledged or () if key not in still_open]:
                    await forget(stack, over)
            async with steps.each("status page"):
                await asyncio.wait_for(_publish(settings, targets.store, judgement, run_id), PUBLISHING_S)
            async with steps.each("artifact"):
                shown = artifact(verdicts, judgement.state)
                showing = acreate_markdown_artifact(shown.markdown(), key=f"health-{stack}", description=shown.title)
                await asyncio.wait_for(showing, SHOWING_S)
        steps.check()
    except BaseException as error:
        await ping_async(settings, "fail", run_id=run_id, said=type(error).__name__)
        raise
    await ping_async(settings, "success", run_id=run_id)
    return {service: verdict.word.value for service, verdict in verdicts.items()}


class _Steps:
    """Steps that fail alone."""

    def __init__(self) -> None:
        self._failed: list[str] = []

    def failed(self, what: str) -> None:
        """One line about something that failed, for the log now and for the run's end."""
        logger().error("%s", what)
        self._failed.append(what)

    @asynccontextmanager
    async def each(self, name: str) -> AsyncIterator[None]:
        """Let the body fail without keeping the next steps from being done."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - said now, and raised at the end
            what = "not done in time" if isinstance(error, TimeoutError) else " ".join(str(error).split())[:300]
            self.failed(f"{name}: {what or type(error).__name__}")

    def check(self) -> None:
        """Fail if something did.

        Raises:
            ServiceError: everything that failed, in one line.
        """
        if self._failed:
            raise ServiceError(f"sweep: {'; '.join(self._failed)}")


class _Memory:
    """The state, saved whenever it changes; also from the thread that sends alerts."""

    def __init__(self, state: State, loop: asyncio.AbstractEventLoop, before: Before) -> None:
        self.state = state
        self._loop = loop
        self._before = before

    def note(self, **change: object) -> None:
        """Change fields of the state."""
        self.state = self.state.model_copy(update=change)

    async def save(self) -> None:
        """Write it down, unless another sweep has done so since: then that one goes on, and this one tells nobody anything."""
        text = self.state.to_text()
        await save_text(memory_name(self.state.stack), text, instead_of=self._before)
        self._before = text

    def save_outbox(self, outbox: Outbox) -> None:
        """Write down what was told; for another thread than the loop's."""
        self.note(outbox=outbox)
        asyncio.run_coroutine_threadsafe(self.save(), self._loop).result()


async def _remembered(stack: str, steps: _Steps) -> tuple[State, Before]:
    """What earlier sweeps remembered, and as which text. Damage makes nobody blind: it is begun anew, and the run says so."""
    try:
        text = await load_text(memory_name(stack))
    except IntegrityError as error:
        steps.failed(f"memory: {error}")
        return State(stack=stack), ANYTHING
    state = State.from_text(text, stack)
    if state.note:
        steps.failed(f"memory: {state.note}")
    return state, text


async def _acknowledged(previous: State, steps: _Steps) -> dict[str, Acknowledgement] | None:
    """Who works on which incident; None where nobody knows. Where none is open nobody asks."""
    if not previous.episodes:
        return None
    async with steps.each("acknowledgements"):
        return await read_acknowledgements(previous.stack)
    return None


async def _windows(stack: str, steps: _Steps) -> tuple[list[Window], list[str]]:
    """The windows, and what is wrong with them."""
    async with steps.each("maintenance windows"):
        return await windows_async(stack)
    return [], []


async def _publish(settings: Settings, target: Store | None, judgement: Judgement, run_id: str) -> None:
    state = judgement.state
    outcome = Outcome(
        stack=state.stack,
        at=state.swept_at or datetime.now(UTC),
        interval=settings.check_interval,
        verdicts=list(judgement.verdicts.values()),
        incidents=[*state.incidents, *state.closed],
        happenings=judgement.happenings,
        run_url=run_url(run_id),
    )
    if target is None:
        await publish(outcome, None)
        return
    with LightStore(target.place, target.root, timeout=settings.check_timeout) as store:
        await publish(outcome, store)


if __name__ == "__main__":
    asyncio.run(health())
