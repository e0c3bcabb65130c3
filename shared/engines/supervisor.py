"""Runs one program and makes sure that nothing it started outlives the program that asked for it.

    asker --(stdin)--> supervisor --> engine --> its own children, grandchildren, ...

`ManagedProcess` starts this file as `python -I -S supervisor.py PIDFILE [LITTER...] -- PROGRAM ARGUMENT...`. It imports
only the standard library, so that it costs 20 ms and 10 MB. Three properties of Linux make it work:

- The asker holds the only write end of the supervisor's stdin. However the asker ends, SIGKILL included, the kernel
  closes it and the supervisor reads end of file. (PR_SET_PDEATHSIG in the engine would be shorter, but it fires when
  the *thread* that forked ends, and engines are started from worker threads of flows.)
- The supervisor is a child subreaper (prctl(2)): a descendant whose parent died becomes its child, whatever session or
  process group it moved to. Postgres needs this: each backend is a session of its own, which killpg does not reach.
- The supervisor has one thread, so PR_SET_PDEATHSIG in the engine is right for the one case left: that the supervisor
  itself is killed. What survives even that is found through the PID file by the next start.

Protocol: the asker writes `<signal number>\\n`; 9 goes to every descendant, any other to the engine's process group.
The supervisor writes the engine's pid once, as a line, to stdout, and exits as the engine did (128 + n for signal n),
after it has removed its PID file and the LITTER, files that the engine makes outside its directory and leaves there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with the pid that names it for good. None: it has ended."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


def descendants(ancestor: int) -> list[int]:
    """All processes below `ancestor`, without it, those that were started first in front."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            parents[int(entry.name)] = int(fields[1])
    found = [ancestor]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found[1:]


def send(pid: int, number: int) -> None:
    """Signal a process that may have ended already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kill_tree(ancestor: int) -> None:
    """SIGKILL a process and its descendants; these first, because afterwards they could not be found."""
    for pid in [*reversed(descendants(ancestor)), ancestor]:
        send(pid, signal.SIGKILL)


def identity(pid: int) -> list[int]:
    """The pid and start time of a process, as PID files carry them; start time -1 when it has ended."""
    started = start_time(pid)
    return [pid, -1 if started is None else started]


def boot_id() -> str:
    """Changes with every boot: pids and start times mean nothing after one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the name (which may contain spaces and brackets): state, ppid, pgrp, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _spawn(argv: list[str]) -> int:
    """Fork and exec the engine in a process group of its own, its output on our stderr, which is the log."""
    supervisor = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(PermissionError, ProcessLookupError):  # the child, which does the same, was quicker
            os.setpgid(pid, pid)
        return pid
    try:
        os.setpgid(0, 0)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(128 + signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        # Ignored signals stay ignored across exec: Python ignores the first two, a shell's `&` the next two.
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _reap(engine: int) -> int | None:
    """Collect ended children. Returns the engine's exit status when it is among them."""
    status = None
    while True:
        try:
            pid, result = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == engine:
            code = os.waitstatus_to_exitcode(result)
            status = code if code >= 0 else 128 - code


def _kill_all(engine: int) -> int | None:
    """SIGKILL every descendant until none is left. Returns the engine's exit status if it ended here."""
    status = None
    while remaining := descendants(os.getpid()):
        for pid in remaining:
            send(pid, signal.SIGKILL)
        reaped = _reap(engine)
        status = status if reaped is None else reaped
        time.sleep(0.002)
    return status


def main(pid_file: Path, litter: list[Path], argv: list[str]) -> int:
    """Run `argv` until it ends, or until stdin does. Returns the exit status to end with."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # without a handler the wake-up pipe stays silent
    owner = identity(os.getppid())
    engine = _spawn(argv)
    record = {
        "boot": boot_id(),
        "owner": owner,
        "supervisor": identity(os.getpid()),
        "engine": identity(engine),
        "litter": [str(path) for path in litter],
    }
    draft = pid_file.with_name(pid_file.name + ".new")
    draft.write_text(json.dumps(record))
    draft.replace(pid_file)
    with contextlib.suppress(BrokenPipeError):  # the asker has gone: stdin says so too, just below
        os.write(1, f"{engine}\n".encode())
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    status: int | None = None
    while status is None:
        ready = {fd for fd, _ in poll.poll()}
        if wake_read in ready:
            os.read(wake_read, 4096)
            status = _reap(engine)
        if status is None and 0 in ready:
            orders = os.read(0, 4096).split()
            for number in (int(order) for order in orders):
                if number == signal.SIGKILL:
                    orders = []
                else:
                    send(-engine, number)
            if not orders:
                status = _kill_all(engine)
    _kill_all(engine)
    for path in (*litter, pid_file):
        path.unlink(missing_ok=True)
    return status


if __name__ == "__main__":
    separator = sys.argv.index("--")
    files = [Path(name) for name in sys.argv[1:separator]]
    sys.exit(main(files[0], files[1:], sys.argv[separator + 1 :]))
