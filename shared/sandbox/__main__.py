"""`make sandbox`: start the stack, say where everything is, keep it up until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from shared.engines.process import EngineError
from shared.sandbox.stack import ROOT, Sandbox


def main(arguments: list[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM.

    Returns: exit status, 0 unless something did not start.
    """
    parser = argparse.ArgumentParser(prog="python -m shared.sandbox", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the data of last time instead of beginning afresh")
    parser.add_argument("--schedules", action="store_true", help="let the schedules start flows, as in production")
    options = parser.parse_args(arguments)
    out, err = Console(), Console(stderr=True)
    ended = threading.Event()
    with _interrupts_are_ours():
        sandbox = Sandbox(
            fresh=not options.keep,
            schedules=options.schedules,
            report=lambda name, seconds: out.print(f"  {name} ready after {seconds:.1f} s", highlight=False),
        )
        try:
            out.print("Starting the stack ...")
            sandbox.start()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: ended.set())
            _describe(sandbox, out)
            ended.wait()
            out.print("\nStopping ...")
        except EngineError as error:
            err.print(f"[red]{error}", highlight=False, markup=True)
            return 1
        except KeyboardInterrupt:
            out.print("\nInterrupted.")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half of it running
            sandbox.stop()
    out.print("Nothing runs any more; data and logs stay until the next start.")
    return 0


def _describe(sandbox: Sandbox, out: Console) -> None:
    """Print what there is, without a secret."""
    table = Table("part", "address", "log", title="The stack", title_justify="left")
    home = sandbox.directory.relative_to(ROOT)
    table.add_row("Prefect UI", sandbox.prefect_ui_url, f"{home}/prefect/server.log")
    table.add_row("Prefect worker", "work pool ops", f"{home}/prefect/worker.log")
    table.add_row("Postgres 16", f"{sandbox.postgres.host}:{sandbox.postgres.port}", f"{home}/postgres/postgres.log")
    table.add_row("ClickHouse", sandbox.clickhouse.url, f"{home}/clickhouse/clickhouse.log")
    table.add_row("S3", f"{sandbox.store.endpoint_url}, bucket {sandbox.bucket}", f"{home}/s3/weed.log")
    table.add_row("Redis", f"{sandbox.redis.host}:{sandbox.redis.port}", f"{home}/redis/redis.log")
    out.print(table)
    out.print(
        "In another terminal, from this folder (the file holds passwords, and is yours alone):\n"
        f"  source {sandbox.environment_file.relative_to(ROOT)}\n"
        "  .venv/bin/prefect deployment run backup/nightly --watch\n"
        "Ctrl-C ends it.",
        highlight=False,
    )


@contextlib.contextmanager
def _interrupts_are_ours() -> Iterator[None]:
    """Take the terminal, so that its Ctrl-C reaches this program and not `make` above it, which would report an error.

    Does nothing where there is no terminal, or where it is not ours to take (we are in the background).
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield
        return
    before = os.tcgetpgrp(terminal)
    if before != os.getpgrp() or before == os.getpid():
        os.close(terminal)
        yield
        return
    # A process that is not in the foreground is stopped by SIGTTOU when it hands the terminal over, unless it ignores that.
    handler = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, before)
        signal.signal(signal.SIGTTOU, handler)
        os.close(terminal)


if __name__ == "__main__":
    sys.exit(main())
