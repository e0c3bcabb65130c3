"""The one retry policy: what is worth trying again, how often, how long between.

Three tries with growing pauses cover a service that restarts or throttles; anything longer is for the next scheduled run.
Only work that is safe to repeat is wrapped in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from prefect.cache_policies import NO_CACHE, CachePolicy
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from blocks.errors import StackError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task

T = TypeVar("T")

ATTEMPTS = 3
TASK_RETRIES = ATTEMPTS - 1
TASK_RETRY_DELAYS = [5.0, 20.0]
"""Seconds before the second and the third try of a task."""


def is_transient(error: BaseException) -> bool:
    """Say whether trying again can help: only errors that say so themselves."""
    return isinstance(error, StackError) and not error.permanent


def retrying(work: Callable[[], T], *, attempts: int = ATTEMPTS, first_wait: float = 0.5, max_wait: float = 8.0) -> T:
    """Call `work` until it succeeds, fails for good, or the attempts are used up.

    Args:
        work: safe to repeat; raises `StackError` with `permanent=False` for what a retry can mend.
        attempts: calls at most.
        first_wait, max_wait: seconds between calls, growing and jittered.
    Returns: what `work` returned.
    Raises: the last error, as it was raised.
    """
    for attempt in Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(attempts),
        wait=wait_exponential_jitter(multiplier=first_wait, max=max_wait),
        reraise=True,
    ):
        with attempt:
            return work()
    raise AssertionError("tenacity either returns or raises")


class TaskOptions(TypedDict):
    """What `@task` is told for every step that does real work."""

    retries: int
    retry_delay_seconds: list[float]
    retry_condition_fn: Callable[[Task[..., Any], TaskRun, State[Any]], bool]
    timeout_seconds: float
    cache_policy: CachePolicy


def retry_task(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Decide for Prefect whether a failed task is tried again (its `retry_condition_fn`)."""
    try:
        state.result()
    except Exception as error:  # noqa: BLE001 - whatever the task raised is what is judged
        return is_transient(error)
    return False


RETRIED: TaskOptions = {
    "retries": TASK_RETRIES,
    "retry_delay_seconds": TASK_RETRY_DELAYS,
    "retry_condition_fn": retry_task,
    "timeout_seconds": 12 * 3600.0,
    "cache_policy": NO_CACHE,
}
"""`@task(name=..., **RETRIED)`: tried again where that can help, ended after half a day, never answered from a cache."""
