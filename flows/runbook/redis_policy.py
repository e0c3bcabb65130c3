"""redis-policy: Redis may throw keys away, and with them jobs and locks of Langfuse's queues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefect import flow

from blocks.errors import SettingsError, StackError
from blocks.redis import RedisServer
from flows.health.targets import Targets
from flows.runbook.environment import environment_if_any
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.redis_server import Memory, NoStart, Start, StartCommand, connected, read_memory, set_option
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["RedisPolicyRequest", "ThrowsAway", "decide", "redis_policy"]

SERVICE, OPTION, RIGHT = "redis", "maxmemory-policy", "noeviction"
ASPECTS = ("eviction-policy",)


class RedisPolicyRequest(RunbookRequest):
    """Nothing but what every runbook is told."""


@flow(name="redis-policy", validate_parameters=True, timeout_seconds=1800)
def redis_policy(request: RedisPolicyRequest = RedisPolicyRequest()) -> str:
    """Have Redis throw nothing away: `maxmemory-policy noeviction`.

    Symptom: Langfuse's log says `IMPORTANT! Eviction policy is ...`; traces are missing; the worker takes no more jobs although
    it is healthy (langfuse#15509), because the lock of a queue was thrown away.

    Diagnosis: the policy of the running server and the one in its start command on Railway, how full it is, how many keys it
    has thrown away since its start.

    Remedy: CONFIG SET in the running server, which takes effect at once and loses nothing; then the start command on Railway,
    if it says otherwise, so that the next deployment has it too. Nothing is restarted.

    When not to: never. A Redis that is full refuses writes from then on instead of losing jobs in silence, so that requests
    fail visibly: run redis-memory next. What was thrown away before is not brought back: replay the events of that time.

    Args:
        request: what every runbook is told.
    Returns: how it ended.
    Raises:
        NotHealed: the server does not take the setting; a managed Redis has it in its provider's dashboard.
    """
    stack = Stack.load()
    if stack.redis is None:
        raise SettingsError("redis: not set up; set REDIS_URL and run `python -m blocks`")
    environment = environment_if_any(stack.settings)
    start: Start = StartCommand(environment) if environment else NoStart()
    runbook = ThrowsAway(stack.redis, Targets.from_settings(stack.settings), start)
    return carry_out(runbook, request, stack, Pace(settle=10))


def decide(wrong: Sequence[str], memory: Memory, configured: str, action: Action) -> Diagnosis:
    """Conclude from what is known.

    Args:
        configured: the policy in the start command; empty where it says nothing. action: sets it right in both places.
    """
    facts = {
        "policy of the running server": memory.policy,
        "policy in its start command": configured or "not named there",
        "memory": memory.words,
        "keys thrown away since its start": str(memory.evicted),
    }
    if not wrong and configured in ("", RIGHT):
        return Diagnosis(Verdict.NOTHING, f"the policy is {RIGHT}", facts)
    sentence = wrong[0] if wrong else f"the running server has {RIGHT}, but its start command says {configured}"
    if memory.most and memory.used >= memory.most:
        sentence += "; it is full, so that it will refuse writes afterwards: run redis-memory next"
    return Diagnosis(Verdict.HEALS, sentence, facts, (action,))


@dataclass
class ThrowsAway(Runbook):
    """One Redis. start: its start command, wherever that is kept."""

    server: RedisServer
    targets: Targets
    start: Start
    name: str = "redis-policy"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        wrong = self.wrong()
        with connected(self.server, "read its policy") as client:
            memory = read_memory(client)
        try:
            configured = self.start.says(OPTION)
        except StackError:
            configured = ""  # the running server comes first; what its start command says is told by the action
        return decide(wrong, memory, configured, SetPolicy(self.server, self.start))

    def wrong(self) -> list[str]:
        """As in `Runbook`."""
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, ASPECTS)


@dataclass(frozen=True)
class SetPolicy(Action):
    """Sets it in the running server, then where it is started from."""

    server: RedisServer
    start: Start

    def describe(self) -> str:
        """As in `Action`."""
        return f"set {OPTION} {RIGHT} in the running server, and in its start command where that says otherwise"

    def do(self) -> str:
        """As in `Action`."""
        with connected(self.server, f"set {OPTION}") as client:
            lasts = set_option(client, OPTION, RIGHT)
        return f"{OPTION} is {RIGHT} {lasts}{self.start.say(OPTION, RIGHT)}"
