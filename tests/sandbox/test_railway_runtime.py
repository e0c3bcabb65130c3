"""The sandbox's containers are started, watched, probed and ended as Railway's are."""

from __future__ import annotations

import http.client
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from shared.engines.process import wait_until
from shared.sandbox.railway_runtime.catalogue import Image
from shared.sandbox.railway_runtime.container import LocalContainer
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState, ImageMissing, Mount, Runtime
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from tests.engines.programs import is_alive, program

PASSWORD = "canary-of-redis"
REDIS_COMMAND = (
    "/bin/sh -c \"rm -rf $RAILWAY_VOLUME_MOUNT_PATH/lost+found/ && printf 'requirepass %s\\n' $REDIS_PASSWORD"
    ' | exec docker-entrypoint.sh redis-server - --appendonly yes --dir $RAILWAY_VOLUME_MOUNT_PATH"'
)
# A web server in one line: the tools of every machine are enough for Python's own, and this one also says its Host header.
SERVER = """
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sys.stderr.write(f"{self.headers['Host']} asks for {self.path}\\n")
        self.send_response({"/ok": 200, "/moved": 301}.get(self.path.partition("?")[0], 503)); self.end_headers()
        self.wfile.write(os.environ["WHO"].encode())
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever()
"""


@pytest.fixture(scope="module")
def runtime(state_directory: Path) -> Iterator[LocalRuntime]:
    with LocalRuntime(state_directory / "runtime") as one:
        yield one


def shell(runtime: LocalRuntime, command: str, **more: str) -> LocalContainer:
    return runtime.start(ContainerSpec("job", "busybox:1.37", more, start_command=f"sh -c '{command}'"))


def end_of(container: LocalContainer) -> ContainerState:
    wait_until(lambda: container.state is not ContainerState.RUNNING, timeout=20, what="the container to end")
    return container.state


def text(container: LocalContainer) -> str:
    return "\n".join(line.message for line in container.logs(1000))


def web(runtime: LocalRuntime, who: str) -> LocalContainer:
    variables = {"WHO": who, "CODE": SERVER}
    command = "sh -c 'exec python -c \"$CODE\"'"
    return runtime.start(ContainerSpec("web", "python:3.11-slim", variables, start_command=command, port=8080))


def ask(address: str) -> str | None:
    """What the server behind a public address says it is; None where nobody listens."""
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", "/ok")
        return connection.getresponse().read().decode()
    except OSError:
        return None
    finally:
        connection.close()


def test_an_image_that_is_gone_can_neither_be_pulled_nor_started(runtime: Runtime) -> None:
    assert runtime.pull("redis:8.2.1").startswith("sha256:")
    with pytest.raises(ImageMissing):
        runtime.pull("minio/minio")
    with pytest.raises(ImageMissing):
        runtime.start(ContainerSpec("redis", "bitnami/redis:7.2", {}))


@pytest.mark.long
def test_redis_runs_with_railways_start_command_and_keeps_its_volume(runtime: LocalRuntime, tmp_path: Path) -> None:
    mount = Mount(tmp_path / "volume", "/data")
    spec = ContainerSpec("redis", "redis:8.2.1", {"REDIS_PASSWORD": PASSWORD}, start_command=REDIS_COMMAND, mount=mount)
    (mount.directory / "lost+found").mkdir(parents=True)
    port = int(runtime.public_address("redis", 6379).rpartition(":")[2])
    with redis.Redis(port=port, password=PASSWORD, socket_timeout=5) as client:
        container = runtime.start(spec)
        wait_until(lambda: "Ready to accept connections" in text(container), timeout=20, what="redis")
        client.set("kept", "yes")
        assert not (mount.directory / "lost+found").exists()
        assert client.config_get("dir")["dir"] == str(mount.directory.resolve())
        container.stop(grace=10)
        assert container.state is ContainerState.EXITED
        with pytest.raises(redis.ConnectionError):
            client.ping()

        again = runtime.start(spec)
        wait_until(lambda: "Ready to accept connections" in text(again), timeout=20, what="redis")
        assert client.get("kept") == b"yes"
        again.stop(grace=10)


def test_a_status_of_zero_is_an_exit_and_any_other_a_crash(runtime: LocalRuntime) -> None:
    fine, bad, killed = shell(runtime, "exit 0"), shell(runtime, "echo why >&2; exit 3"), shell(runtime, "kill -9 $$")
    assert [end_of(one) for one in (fine, bad, killed)] == [
        ContainerState.EXITED,
        ContainerState.CRASHED,
        ContainerState.CRASHED,
    ]
    assert [one.exit_status for one in (fine, bad, killed)] == [0, 3, 128 + signal.SIGKILL]
    assert text(bad) == "why"


def test_a_start_command_is_no_shell_command(runtime: LocalRuntime) -> None:
    plain = runtime.start(ContainerSpec("job", "busybox:1.37", {"WHO": "me"}, start_command="echo $WHO; exit 3"))
    assert (end_of(plain), text(plain)) == (ContainerState.EXITED, "$WHO; exit 3")
    broken = runtime.start(ContainerSpec("job", "busybox:1.37", {}, start_command="sh -c 'never closed"))
    assert end_of(broken) is ContainerState.CRASHED
    assert "No closing quotation" in text(broken)
    unknown = runtime.start(ContainerSpec("job", "busybox:1.37", {}, start_command="no-such-program --at all"))
    assert (end_of(unknown), unknown.exit_status) == (ContainerState.CRASHED, 127)


def test_a_container_has_its_own_variables_and_files(runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_OF_THE_HOST", "leaked")
    container = shell(runtime, "env; echo $TMPDIR; touch /tmp/mine && ls /tmp", NAME="value")
    end_of(container)
    assert "NAME=value" in text(container)
    assert "CANARY_OF_THE_HOST" not in text(container)
    assert "mine" in text(container).splitlines()
    assert not Path("/tmp/mine").exists()  # noqa: S108
    other = shell(runtime, "ls /tmp")
    end_of(other)
    assert text(other) == "", "its file system is new"


def test_lines_carry_the_time_at_which_they_were_written(runtime: LocalRuntime) -> None:
    container = shell(runtime, "echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; printf second")
    wait_until(lambda: text(container) == "first", timeout=20, what="the first line")
    between = datetime.now(UTC)
    (container.folder / "root/tmp/go").touch()
    end_of(container)
    first, second = container.logs(10)
    assert first.at <= between <= second.at <= datetime.now(UTC)
    assert between - first.at < timedelta(seconds=20)
    assert [line.message for line in container.logs(1)] == ["second"]


def test_stop_asks_the_first_program_and_kills_all_of_them_when_their_time_is_up(runtime: LocalRuntime) -> None:
    polite = shell(runtime, 'trap "echo asked; exit 0" TERM; echo ready; while :; do sleep 0.05; done')
    wait_until(lambda: text(polite) == "ready", timeout=20, what="the program")
    polite.stop(grace=20)
    assert (polite.state, text(polite)) == (ContainerState.EXITED, "ready\nasked")

    deaf = shell(runtime, 'trap "" TERM; sleep 600 & echo $!; while :; do sleep 0.05; done')
    wait_until(lambda: text(deaf).isdigit(), timeout=20, what="the program")
    begun = time.monotonic()
    deaf.stop(grace=0.3)
    assert 0.3 <= time.monotonic() - begun < 60
    assert not is_alive(int(text(deaf)))
    assert deaf.state is ContainerState.EXITED


def test_a_probe_is_railways_and_sees_the_status_whatever_it_is(runtime: LocalRuntime) -> None:
    container = web(runtime, "one")
    wait_until(lambda: container.probe("/ok") == 200, timeout=20, what="the server")
    assert [container.probe(path) for path in ("/ok?deep=1", "/moved", "/other")] == [200, 301, 503]
    assert "healthcheck.railway.app asks for /ok?deep=1" in text(container)
    container.kill()
    assert (container.state, container.probe("/ok")) == (ContainerState.CRASHED, None)


def test_a_later_container_of_a_service_gets_its_requests_when_the_earlier_one_ends(runtime: LocalRuntime) -> None:
    address = runtime.public_address("web", 8080)
    old = web(runtime, "old")
    wait_until(lambda: old.probe("/ok") == 200, timeout=20, what="the old one")
    new = web(runtime, "new")
    wait_until(lambda: new.probe("/ok") == 200, timeout=20, what="the new one")
    assert ask(address) == "old", "the new one is not active yet"
    old.stop(grace=5)
    wait_until(lambda: ask(address) == "new", timeout=20, what="an answer of the new one")
    newest = web(runtime, "newest")
    wait_until(lambda: newest.probe("/ok") == 200, timeout=20, what="the newest one")
    new.stop(grace=5)
    wait_until(lambda: ask(address) == "newest", timeout=20, what="an answer of the newest one")
    newest.stop(grace=5)
    assert ask(address) is None, "a service that is down refuses connections, on the same port"
    assert runtime.public_address("web", 8080) == address


def test_a_published_image_runs_as_its_entry_says(runtime: LocalRuntime) -> None:
    runtime.catalogue.publish(Image(("ghcr.io/acme/broken",), ("1",), ("sh", "-c", "echo cannot start; exit 1")))
    container = runtime.start(ContainerSpec("job", "ghcr.io/acme/broken:1", {}))
    assert (end_of(container), text(container)) == (ContainerState.CRASHED, "cannot start")


def test_containers_end_with_the_program_that_made_them(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from shared.sandbox.railway_runtime.containers import ContainerSpec
from shared.sandbox.railway_runtime.runtime import LocalRuntime
runtime = LocalRuntime(Path(sys.argv[1]))
container = runtime.start(ContainerSpec("job", "busybox:1.37", {}, start_command="sh -c 'sleep 600 & echo $!; wait'"))
while not container.logs(1): time.sleep(0.02)
print(container.logs(1)[0].message, flush=True)
sys.stdin.read()
"""
    with program(code, tmp_path) as (process, line):
        assert is_alive(int(line))
        process.kill()
        process.wait()
        wait_until(lambda: not is_alive(int(line)), timeout=10, what="the container to end")
