"""The one retry policy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prefect.states import Completed, Failed

from blocks.errors import IntegrityError, ServiceError, StackError
from blocks.retry import ATTEMPTS, TASK_RETRIES, TASK_RETRY_DELAYS, is_transient, retry_task, retrying


class Work:
    """Fails as told, then returns."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> str:
        """Fail or return."""
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def _tried(work: Callable[[], str], attempts: int = ATTEMPTS) -> str:
    return retrying(work, attempts=attempts, first_wait=0.001, max_wait=0.002)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ServiceError("x"), True),
        (ServiceError("x", permanent=True), False),
        (IntegrityError("x"), False),
        (IntegrityError("x", permanent=False), True),
        (ValueError("x"), False),
        (TimeoutError("x"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_an_error_that_says_so_itself_is_worth_another_try(error: BaseException, transient: bool) -> None:
    assert is_transient(error) is transient


def test_work_is_repeated_until_it_succeeds() -> None:
    work = Work(ServiceError("1"), ServiceError("2"))
    assert _tried(work) == "done"
    assert work.calls == 3


def test_the_last_error_is_raised_as_it_was() -> None:
    work = Work(*(ServiceError(str(n)) for n in range(9)))
    with pytest.raises(ServiceError, match=r"^2$"):
        _tried(work)
    assert work.calls == ATTEMPTS


@pytest.mark.parametrize("error", [IntegrityError("x"), ValueError("x"), KeyboardInterrupt()])
def test_a_permanent_error_is_raised_at_once(error: BaseException) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        _tried(work)
    assert work.calls == 1


def test_tasks_are_retried_by_the_same_rule() -> None:
    def verdict(error: Exception) -> bool:
        return retry_task(None, None, Failed(data=error))  # type: ignore[arg-type]  # neither task nor run is looked at

    assert verdict(ServiceError("gone"))
    assert not verdict(StackError("wrong"))
    assert not verdict(ValueError("bug"))
    assert not retry_task(None, None, Completed(data=1))  # type: ignore[arg-type]  # as above


def test_there_is_a_delay_for_each_retry_of_a_task() -> None:
    assert len(TASK_RETRY_DELAYS) == TASK_RETRIES
