"""Do several things at once, and short-lived programs, so that one failure or Ctrl-C ends them all."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from shared.engines.process import EngineError

__all__ = ["Commands", "stop_together", "together"]

_LOG_TAIL = 2000


def together(
    steps: Mapping[str, Callable[[], None]], *, report: Callable[[str, float], None], give_up: Callable[[], None]
) -> None:
    """Run steps in threads until all are done or one fails.

    Args:
        steps: by name.
        report: told about each one that is done: its name, seconds. Called from its thread.
        give_up: called when one failed or this thread is interrupted; has to make the others end soon.
    Raises: what the first one that failed raised.
    """

    def timed(name: str, step: Callable[[], None]) -> None:
        begun = time.monotonic()
        step()
        report(name, time.monotonic() - begun)

    if not steps:
        return
    with ThreadPoolExecutor(max_workers=len(steps), thread_name_prefix="sandbox") as pool:
        futures = [pool.submit(timed, name, step) for name, step in steps.items()]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            give_up()
            raise


def stop_together(stops: Mapping[str, Callable[[], None]]) -> None:
    """Run what stops things, all at once."""
    together(stops, report=lambda name, seconds: None, give_up=lambda: None)


class Commands:
    """Runs modules of this Python to their end; `kill` ends those that run."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, name: str, arguments: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path, timeout: float) -> None:
        """Run `python -m <arguments>`.

        Args:
            name: for the message.
            log: file that gets its output.
            timeout: seconds.
        Raises:
            EngineError: it failed or took too long; with the end of its output.
        """
        # pdeathsig: should this program be killed, so is that one. It follows the thread, which waits here until the end.
        argv = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        self._running.add(process)
        try:
            status: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
            process.kill()
            process.wait()
        finally:
            self._running.discard(process)
        if status != 0:
            ended = f"did not end within {timeout:g} s" if status is None else f"ended with status {status}"
            tail = log.read_text(errors="replace").strip()[-_LOG_TAIL:]
            raise EngineError(f"{name}: `python -m {' '.join(arguments)}` {ended}; its log ({log}) ends:\n{tail}")

    def kill(self) -> None:
        """SIGKILL all that run."""
        for process in list(self._running):
            process.kill()
