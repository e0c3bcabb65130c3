"""Processes end with the program that started them, whatever happens to either."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.engines import supervisor
from shared.engines.process import EngineError, ManagedProcess, free_port, is_port_free, wait_until
from tests.engines.programs import is_alive, program

# Forks a child into a session of its own, as Postgres does, names both, and sleeps.
FAMILY = """
import os, sys, time
child = os.fork()
if child == 0:
    os.setsid()
else:
    print(os.getpid(), child, flush=True)
time.sleep(300)
"""
# The same, but no longer killed by the kernel when its parent, the supervisor, is.
STUBBORN_FAMILY = "import ctypes; ctypes.CDLL(None).prctl(1, 0)" + FAMILY

STARTS_FAMILY = """
import sys
from pathlib import Path
from shared.engines.process import ManagedProcess
log = Path(sys.argv[1])
process = ManagedProcess("family", [sys.executable, "-c", sys.argv[2]], log=log, litter=[log.with_name("litter")])
process.start(lambda: log.read_text().endswith("\\n"))
print(process.pid, flush=True)
sys.stdin.read(1)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "family.log"


def family(log: Path, code: str = FAMILY) -> ManagedProcess:
    return ManagedProcess("family", [sys.executable, "-c", code], log=log)


def members(log: Path) -> list[int]:
    """The pids that the family printed last."""
    return [int(pid) for pid in log.read_text().splitlines()[-1].split()]


def start(process: ManagedProcess) -> list[int]:
    start_and_wait_for_a_line(process)
    return members(process.log)


def start_and_wait_for_a_line(process: ManagedProcess) -> None:
    before = process.log.read_text() if process.log.exists() else ""
    process.start(lambda: process.log.read_text() != before and process.log.read_text().endswith("\n"))


@pytest.fixture
def running(log: Path) -> Iterator[ManagedProcess]:
    process = family(log)
    start(process)
    yield process
    process.kill()


def wait_for_end(*pids: int) -> None:
    wait_until(lambda: not any(map(is_alive, pids)), timeout=10, what=f"{pids} to end")


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_the_whole_family_ends_even_members_with_a_session_of_their_own(log: Path, way: str) -> None:
    process = family(log)
    pids = start(process)
    assert process.running
    assert process.pid == pids[0]
    assert process.pid_file.exists()

    getattr(process, way)()

    assert not any(map(is_alive, pids))
    assert not process.running
    assert process.pid is None
    assert not process.pid_file.exists()


def test_a_stopped_process_starts_again(running: ManagedProcess) -> None:
    first = running.pid
    running.stop()
    assert start(running)[0] != first


def test_when_the_engine_crashes_its_children_end_too(running: ManagedProcess) -> None:
    engine, child = members(running.log)
    os.kill(engine, signal.SIGKILL)
    wait_for_end(engine, child)
    wait_until(lambda: not running.running, timeout=10, what="the crash to be noticed")


def test_a_program_that_ignores_the_stop_signal_is_killed_after_its_grace(log: Path) -> None:
    process = family(log, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + FAMILY)
    pids = start(process)
    process.stop(grace=0.1)
    assert not any(map(is_alive, pids))


def test_the_chosen_stop_signal_arrives(log: Path) -> None:
    code = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(print('asked')))" + FAMILY
    process = ManagedProcess("family", [sys.executable, "-c", code], log=log, stop_signal=signal.SIGINT)
    start(process)
    process.stop()
    assert log.read_text().endswith("asked\n")


def test_a_program_that_ends_at_once_is_reported_with_its_own_words(log: Path) -> None:
    process = ManagedProcess("reader", [sys.executable, "-c", "raise SystemExit('no such volume')"], log=log)
    with pytest.raises(EngineError, match=r"(?s)reader ended with status 1 while it started.*no such volume"):
        process.start(lambda: False)


def test_a_missing_program_is_reported(log: Path) -> None:
    process = ManagedProcess("reader", ["/nonexistent/program"], log=log)
    with pytest.raises(EngineError, match=r"(?s)status 127.*/nonexistent/program: No such file"):
        process.start(lambda: False)


def test_a_program_that_is_not_ready_in_time_is_ended(log: Path) -> None:
    process = family(log)
    with pytest.raises(EngineError, match=r"waited 0\.5 s in vain for family to be ready"):
        process.start(lambda: False, timeout=0.5)
    assert not process.running
    wait_for_end(*members(log))


def test_an_error_in_the_readiness_check_ends_the_program_and_passes(log: Path) -> None:
    process = family(log)
    with pytest.raises(ZeroDivisionError):
        process.start(lambda: 1 // 0 == 0)
    assert not process.running


def test_the_environment_is_clean(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-parent")
    code = "import json, os, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(300)"
    process = ManagedProcess("env", [sys.executable, "-c", code], log=log, env={"EXTRA": "1"})
    start_and_wait_for_a_line(process)
    process.kill()
    assert json.loads(log.read_text()) == {"PATH": os.environ["PATH"], "HOME": str(log.parent), "LANG": "C.UTF-8", "EXTRA": "1"}


def test_the_log_is_private(running: ManagedProcess) -> None:
    assert running.log.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "normal exit"])
def test_nothing_outlives_the_program_that_started_it(log: Path, end: str) -> None:
    litter = log.with_name("litter")
    litter.write_text("")
    with program(STARTS_FAMILY, log, FAMILY) as (parent, engine):
        pids = members(log)
        assert pids[0] == int(engine)
        if end == "normal exit":
            parent.communicate("x")
        else:
            parent.send_signal(signal.Signals[end])
            parent.wait()
        wait_for_end(*pids)
        wait_until(lambda: not litter.exists(), timeout=10, what="the litter to be removed")


def test_what_survived_its_parent_and_its_supervisor_is_ended_by_the_next_start(log: Path) -> None:
    litter = log.with_name("litter")
    litter.write_text("")
    with program(STARTS_FAMILY, log, STUBBORN_FAMILY) as (parent, _):
        left_over = members(log)
        guard = json.loads(log.with_suffix(".pid").read_text())["supervisor"][0]
        os.kill(guard, signal.SIGKILL)
        parent.kill()
        wait_for_end(guard, parent.pid)
    assert all(map(is_alive, left_over))

    process = family(log)
    start(process)

    assert not any(map(is_alive, left_over))
    assert not litter.exists()  # although it is not what this start calls its litter
    process.kill()


def test_a_directory_in_use_by_a_living_program_is_refused_and_not_touched(log: Path) -> None:
    with program(STARTS_FAMILY, log, FAMILY) as (parent, engine):
        with pytest.raises(EngineError, match=rf"family already runs in .*, started by pid {parent.pid}"):
            family(log).start(lambda: True)
        assert is_alive(int(engine))


@pytest.mark.parametrize("boot", ["this boot", "another boot"])
def test_a_pid_that_now_belongs_to_another_process_is_left_alone(log: Path, boot: str) -> None:
    with program("print(flush=True); input()") as (innocent, _):
        pid, started = supervisor.identity(innocent.pid)
        if boot == "this boot":
            record = {"boot": supervisor.boot_id(), "owner": [1, 1], "supervisor": [pid, started - 1]}
        else:
            record = {"boot": "another", "owner": [1, 1], "supervisor": [pid, started]}
        log.with_suffix(".pid").write_text(json.dumps({**record, "engine": record["supervisor"], "litter": []}))
        process = family(log)
        start(process)
        process.kill()
        assert innocent.poll() is None


def test_an_engine_outlives_the_thread_that_started_it(log: Path) -> None:
    process = family(log)
    thread = threading.Thread(target=start, args=(process,))
    thread.start()
    thread.join()
    engine, child = members(log)
    assert is_alive(engine)
    assert is_alive(child)
    process.kill()


def test_the_end_of_a_forked_child_does_not_end_the_engine(running: ManagedProcess) -> None:
    child = multiprocessing.get_context("fork").Process(target=running.kill)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert running.running


def test_starting_twice_is_refused(running: ManagedProcess) -> None:
    with pytest.raises(EngineError, match="already running as pid"):
        running.start(lambda: True)


def test_a_free_port_is_free_and_given_once() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not is_port_free(ports[0])
    assert is_port_free(ports[0])


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(EngineError, match=r"waited 0\.05 s in vain for the tide to turn"):
        wait_until(lambda: False, timeout=0.05, what="the tide to turn")
