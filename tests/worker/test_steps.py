"""The programs that the container runs before and beside its worker: real ones, on a clock that the test moves."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from blocks.__main__ import documents
from blocks.errors import SettingsError
from blocks.settings import Settings
from railway.worker.environments import Redactor
from railway.worker.preflight import refuse_incomplete
from railway.worker.processes import Child
from railway.worker.steps import (
    DEPLOYED_TO,
    LATER,
    LIMIT,
    MERGES,
    PATIENCE,
    PAUSES,
    REGISTRATION,
    TELL_AGAIN,
    Step,
    Steps,
    Tell,
)
from shared.engines.process import wait_until

CANARY = "canary-5e91"


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Ground:
    """Steps whose programs leave their names in a file."""

    def __init__(self, folder: Path, *roles: str, tell: Tell | None = None) -> None:
        self.trace, self.clock = folder / "trace", Clock()
        self.environment = {"GATEWAY_TOKEN": CANARY, "PATH": os.environ["PATH"]}
        hide = Redactor(self.environment).hide
        self.steps = Steps([self.step(role) for role in roles], self._spawn, hide=hide, tell=tell, now=self.clock)

    def step(self, role: str) -> Step:
        return Step(role, "tests.worker.step_program", (role, str(self.trace)))

    def mend(self, role: str) -> None:
        """Let a role that fails work from now on."""
        self.trace.with_name(f"{role}-mended").touch()

    def _spawn(self, step: Step, output: int) -> Child:
        return Child.spawn(step.name, step.module, step.arguments, self.environment, output=output)

    def turn(self) -> bool:
        """One turn, after its program's end was noticed: not by `reap`, for this process has other children."""
        for child in self.steps.children:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                child.status = os.waitstatus_to_exitcode(status)
        return self.steps.turn()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Take turns until it holds."""
        wait_until(lambda: (self.turn(), condition())[1], timeout=60, what=what)

    def ran(self) -> list[str]:
        """The roles that were played so far."""
        return self.trace.read_text(encoding="utf-8").split() if self.trace.exists() else []


def test_steps_run_one_after_the_other_and_once_before_the_worker(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "one", "two", "three")
    assert not ground.turn()
    wait_until(ground.turn, timeout=60, what="the steps to be done")
    assert ground.ran() == ["one", "two", "three"]
    ground.clock.seconds += 2 * LATER
    assert ground.turn()
    assert ground.steps.children == []


def _said(caplog: pytest.LogCaptureFixture, rounds: int) -> bool:
    return caplog.text.count("not done: fails") == rounds


def test_a_step_that_fails_is_said_in_one_line_tried_again_and_keeps_the_worker_only_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ground = Ground(tmp_path, "fails", "works")
    ready: list[bool] = []
    with caplog.at_level(logging.INFO, "railway.worker"):
        for tries, pause in enumerate([*PAUSES, LATER, LATER], start=1):
            ground.until(partial(_said, caplog, tries), "the round to end")
            ready.append(ground.turn())
            assert ground.steps.children == [], "not before its time"
            ground.clock.seconds += pause
    assert ready == [False, False, True, True]
    assert ground.ran() == ["fails", "works", "fails", "fails", "fails"]
    assert caplog.text.count("fails: ended with status 1: it did not work with ***\n") == 4
    assert CANARY not in caplog.text


def test_the_worker_starts_while_a_step_runs_that_nothing_waits_for(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "works")
    ground.steps.add(replace(ground.step("hangs"), keeps_worker=False))
    assert not ground.turn()
    ground.until(lambda: ground.ran() == ["works", "hangs"], "the second one to run")
    assert ground.turn()
    ground.steps.end()


def test_a_step_that_hangs_is_killed_with_what_it_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ground = Ground(tmp_path, "hangs")
    ground.until(lambda: bool(ground.steps.children and psutil.Process(ground.steps.children[0].pid).children()), "its child")
    program = psutil.Process(ground.steps.children[0].pid)
    family = [program, *program.children()]
    ground.clock.seconds += LIMIT + 1
    ground.until(lambda: "took longer" in caplog.text, "the end of the step")
    assert "hangs: was ended by SIGKILL, as it took longer than 240 s: it said nothing" in caplog.text
    wait_until(lambda: not any(one.is_running() for one in family), timeout=30, what="its programs to be gone")


def test_programs_that_hang_do_not_keep_the_worker_from_work(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "hangs")
    assert not ground.turn()
    ground.clock.seconds += PATIENCE
    assert ground.steps.turn()
    (child,) = ground.steps.children
    ground.steps.end()
    os.waitpid(child.pid, 0)


def test_a_step_that_comes_later_does_not_wait_for_the_next_try_of_others(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "fails")
    ground.until(lambda: bool(ground.ran()) and not ground.steps.children, "the first try")
    ground.steps.add(ground.step("later"))
    ground.steps.add(ground.step("later"))
    ground.until(lambda: "later" in ground.ran() and not ground.steps.children, "the new step")
    assert ground.ran().count("later") == 1


COMPLETE = {
    "prefect_api_url": "http://127.0.0.1:1/api",
    "minio_access_key": "key",
    "backup_age_recipients": "age1x5v0d3jzzdpzdzz62yhaxq8d5xv5xcqy3e3jyhq0f3qkx3c4p4qsn2w9xf",
    "backup_signing_key": "11" * 32,
    "copy_bucket": "copies",
    "copy_access_key": "key",
}


@pytest.mark.parametrize("missing", sorted(COMPLETE.keys() - {"copy_bucket"}))
def test_what_registration_could_not_do_without_is_refused_before_the_gateway_starts(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name.upper(), value)
    refuse_incomplete(Settings.load())
    monkeypatch.delenv(missing.upper())
    settings = Settings.load()
    with pytest.raises(SettingsError, match=missing.upper()):
        refuse_incomplete(settings)
    if missing not in ("prefect_api_url", "backup_signing_key"):  # of these it only says later that they are missing
        with pytest.raises(SettingsError, match=missing.upper()):
            list(documents(settings))


def test_a_worker_of_another_pool_needs_no_settings_of_backups() -> None:
    assert Settings().work_pool == DEPLOYED_TO
    refuse_incomplete(Settings(prefect_api_url="http://127.0.0.1:1/api", work_pool="drills"))


def test_steps_are_started_with_nothing_secret_in_their_arguments() -> None:
    modules = ["blocks", "prefect", "railway.worker.left_over", "flows.automations", "flows.upgrade.resume"]
    assert [step.module for step in REGISTRATION] == modules
    for step in (*REGISTRATION, MERGES):
        assert all(word.replace("-", "").isalpha() for word in step.arguments)


def test_operators_are_told_what_is_not_done_until_it_is_and_again_where_that_failed(tmp_path: Path) -> None:
    told: list[dict[str, str]] = []
    takes_it = [False, True, True, True]

    def tell(undone: Mapping[str, str]) -> bool:
        told.append(dict(undone))
        return takes_it[len(told) - 1]

    ground = Ground(tmp_path, "works", "fails", tell=tell)
    why = {"fails": "ended with status 1: it did not work with ***"}
    ground.until(lambda: told == [why], "the first word")
    ground.until(lambda: ground.ran().count("fails") == 1 and not ground.steps.children, "the end of the step")
    assert (ground.turn(), told) == (False, [why]), "not before its time"
    ground.clock.seconds += TELL_AGAIN
    ground.until(lambda: told == [why, why], "the second word")
    ground.mend("fails")
    ground.clock.seconds += sum(PAUSES)
    ground.until(lambda: told[2:] == [{}], "the end of it")
    ground.turn()
    assert len(told) == 3


def test_what_a_step_says_when_it_is_done_is_in_the_log_where_that_is_worth_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ground = Ground(tmp_path, "quiet")
    ground.steps.add(replace(ground.step("talks"), talks=True))
    with caplog.at_level(logging.INFO, "railway.worker"):
        ground.until(lambda: "done: talks" in caplog.text, "its end")
    assert re.search(r"done: talks \(.* s\): deleted two things of \*\*\*$", caplog.text, re.MULTILINE)
    assert re.search(r"done: quiet \(.* s\)$", caplog.text, re.MULTILINE)
