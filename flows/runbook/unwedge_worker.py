"""unwedge-worker: Langfuse's worker is up, and takes no jobs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from prefect import flow

from blocks.errors import SettingsError, StackError
from blocks.redis import RedisServer
from flows.deploy.flow import environment_of
from flows.health.checks.langfuse_queues import QUEUES
from flows.health.targets import Targets
from flows.report import line
from flows.runbook.environment import environment_if_any
from flows.runbook.frame import Diagnosis, RunbookRequest, Verdict
from flows.runbook.heal import Pace
from flows.runbook.redis_policy import RIGHT, SetPolicy
from flows.runbook.redis_server import NoStart, Start, StartCommand, connected, read_memory
from flows.runbook.restart_service import ServiceDown
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["ASPECTS", "UnwedgeRequest", "Wedged", "unwedge_worker"]

SERVICE = "langfuse-worker"
ASPECTS = ("consumption",)


class UnwedgeRequest(RunbookRequest):
    """Nothing but what every runbook is told."""


@flow(name="unwedge-worker", validate_parameters=True, timeout_seconds=3 * 3600)
def unwedge_worker(request: UnwedgeRequest = UnwedgeRequest()) -> str:
    """Have Langfuse's worker take jobs again.

    Symptom: requests succeed and no trace appears; jobs wait, nobody works on any, and the worker says that it is healthy
    (langfuse#15509): it lost the lock of a queue, and stopped all of them.

    Diagnosis: how many jobs wait in each queue, whether Redis may throw locks away and has, how the worker's deployment is,
    whether what it needs is up.

    Remedy: set Redis' maxmemory-policy to noeviction where it is not, so that it does not happen again; restart the worker,
    which takes new locks; then the same deployment in a new container. No job is touched: they are worked on as they are.

    When not to: where ClickHouse, Postgres, Redis or the object store is down: the worker waits for them, and goes on by
    itself. Where it ends again and again on the same job (`heap out of memory`), it needs more memory, or that job dropped.

    Args:
        request: what every runbook is told.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why.
        SettingsError: Redis is not set up, or a person asks where there is no token of Railway's API.
    """
    stack = Stack.load()
    if stack.redis is None:
        raise SettingsError("redis: not set up; set REDIS_URL and run `python -m blocks`")
    environment = environment_if_any(stack.settings)
    if request.incident and environment is None:
        line(
            f"{SERVICE} is left to people, who have been told: there is no token of Railway's API, so nothing can be restarted"
        )
        return Verdict.PERSON.value
    patient = request.patient()
    with environment_of(stack.settings).open() as api:
        runbook = Wedged(
            stack,
            api,
            Targets.from_settings(stack.settings),
            SERVICE,
            (patient.aspect,) if patient else ASPECTS,
            redis=stack.redis,
            start=StartCommand(environment) if environment else NoStart(),
        )
        return carry_out(runbook, request, stack, Pace(settle=120))


@dataclass
class Wedged(ServiceDown):
    """The worker, and the Redis that it waits for.

    Attributes:
        redis: the server. start: its start command.
    """

    redis: RedisServer | None = None
    start: Start = field(default_factory=NoStart)
    name: str = "unwedge-worker"

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`: that of a restart, with the queues and Redis' policy, which is set right first."""
        found = super().diagnose()
        if self.redis is None:
            return found
        try:
            with connected(self.redis, "look at the queues") as client:
                memory = read_memory(client)
                prefix = self.targets.queue_prefix
                waiting = {queue: int(client.llen(f"{prefix}:{queue}:wait")) for queue in QUEUES}
        except StackError as error:  # Redis' own check says so: the restart is refused until it is up
            return replace(found, facts={**found.facts, "queues": str(error)})
        jobs = ", ".join(f"{count} in {queue}" for queue, count in waiting.items() if count)
        policy = f"{memory.policy}, {memory.evicted} keys thrown away since its start"
        facts = {**found.facts, "jobs that wait": jobs or "none", "Redis' policy": policy}
        first = (_Prevent(self.redis, self.start),) if memory.policy != RIGHT and found.verdict is Verdict.HEALS else ()
        return replace(found, facts=facts, actions=(*first, *found.actions))


class _Prevent(SetPolicy):
    """Sets the policy right; that alone brings no lock back."""

    @property
    def settles(self) -> bool:
        """As in `Action`."""
        return False
