"""`make sandbox`: start the stack, say where everything is, keep it up until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared.engines.process import EngineError
from shared.sandbox.stack import STATE, Sandbox


def main(arguments: list[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM.

    Returns: exit status, 0 unless something did not start.
    """
    parser = argparse.ArgumentParser(prog="python -m shared.sandbox", description=__doc__)
    parser.add_argument("--directory", type=Path, default=STATE / "stack", help="folder for everything it makes")
    parser.add_argument("--keep", action="store_true", help="keep the data of last time instead of beginning afresh")
    parser.add_argument("--no-applications", action="store_true", help="leave out LiteLLM, Langfuse and the alert sinks")
    parser.add_argument("--langfuse", default="3.225.4", metavar="VERSION", help="3.225.4 or 4.16.0; default %(default)s")
    parser.add_argument("--schedules", action="store_true", help="let the schedules start flows, as in production")
    options = parser.parse_args(arguments)
    out, err = Console(), Console(stderr=True)
    ended = threading.Event()
    with _interrupts_are_ours():
        sandbox = Sandbox(
            options.directory,
            applications=not options.no_applications,
            langfuse_version=options.langfuse,
            fresh=not options.keep,
            schedules=options.schedules,
            report=lambda name, seconds: out.print(f"  {name} ready after {seconds:.1f} s", highlight=False),
        )
        try:
            out.print("Starting the stack ...", highlight=False)
            sandbox.start()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: ended.set())
            _describe(sandbox, out)
            ended.wait()
            out.print("\nStopping ...", highlight=False)
        except EngineError as error:
            err.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
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
    table = Table("part", "address", title="The stack", title_justify="left")
    table.add_row("Prefect UI", sandbox.prefect_ui_url)
    table.add_row("Prefect worker", "work pool ops")
    table.add_row("Postgres 16", f"{sandbox.postgres.host}:{sandbox.postgres.port}")
    table.add_row("ClickHouse", sandbox.clickhouse.url)
    table.add_row("S3", f"{sandbox.store.endpoint_url}, bucket {sandbox.bucket}")
    table.add_row("Redis", f"{sandbox.redis.host}:{sandbox.redis.port}")
    if (applications := sandbox.applications) is not None:
        table.add_row("LiteLLM", f"{applications.litellm.url}, models {', '.join(applications.litellm.model_names)}")
        table.add_row(f"Langfuse {applications.langfuse_web.version} (stand-in)", f"{applications.langfuse_web.url}, API only")
        table.add_row("Langfuse worker (stand-in)", applications.langfuse_worker.url)
        table.add_row("Slack, Discord, PagerDuty, ... (stand-ins)", applications.sinks.url)
    out.print(table)
    home = os.path.relpath(sandbox.directory)
    out.print(
        f"Logs are below {home}: postgres/postgres.log, prefect/worker.log, ...\n"
        "In another terminal, from this folder (the file holds passwords, and is yours alone):\n"
        f"  source {home}/{sandbox.environment_file.name}\n"
        "  .venv/bin/prefect deployment run backup/nightly --watch\n"
        "Ctrl-C ends it.",
        highlight=False,
        soft_wrap=True,
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
