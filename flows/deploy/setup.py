"""`python -m flows.deploy.setup`: create roles, databases and private buckets, from inside the private network.

Runs once a deploy in the service `stack-setup`, which is deleted afterwards; safe to run again at any time. It waits for
servers that are starting, for Railway calls a database active as soon as its container is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from pydantic import SecretStr

from blocks.errors import StackError
from blocks.settings import Settings
from flows.deploy.setup_buckets import create_buckets
from flows.deploy.setup_postgres import Roles, create_roles_and_databases

PATIENCE = 180.0
"""Seconds that a server may take to start."""
PAUSE = 2.0
DONE = "setup: everything is there"


def main(arguments: list[str] | None = None) -> int:
    """Do it; returns the exit status: 0, or 1 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m flows.deploy.setup", description=__doc__)
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds to wait for servers that are starting")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.load()
        for work in steps(settings):
            for line in patiently(work, options.patience):
                _say(line)
    except StackError as error:
        print(f"setup: {error}", file=sys.stderr)  # noqa: T201 - the container's log
        return 1
    _say(DONE)
    return 0


def steps(settings: Settings) -> list[Callable[[], list[str]]]:
    """Name what there is to do; all that is missing is told before anything is done.

    Raises:
        SettingsError: a setting is missing.
    """
    url, roles = SecretStr(settings.require("setup_postgres_url")), Roles.from_settings(settings)
    work: list[Callable[[], list[str]]] = [lambda: create_roles_and_databases(url, roles)]
    if settings.setup_buckets:
        work.append(lambda: create_buckets(settings))
    return work


def patiently(work: Callable[[], list[str]], patience: float) -> list[str]:
    """Try until it succeeds, fails for good, or the patience is at an end.

    Args:
        patience: seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except StackError as error:
            if error.permanent or time.monotonic() + PAUSE > deadline:
                raise
        time.sleep(PAUSE)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the container's log


if __name__ == "__main__":
    sys.exit(main())
