"""How much memory a piece of work takes, measured in a process of its own: `python -m shared.sandbox.bench.memory <work>`."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

from flows.backup.postgres import dump_database
from flows.buckets.backup import backup_bucket
from shared.sandbox.blocks import stack_from
from shared.sandbox.stack import ROOT, Sandbox

__all__ = ["extra_memory"]


def extra_memory(sandbox: Sandbox, work: str) -> float:
    """Run a piece of work in a fresh process.

    Args:
        work: `postgres` (a backup of litellm) or `bucket` (a first backup of the bucket).
    Returns: its peak of resident memory above what it had before the work began, MB.
    """
    program = [sys.executable, "-m", "shared.sandbox.bench.memory", work]
    done = subprocess.run(program, env=sandbox.environment(), cwd=ROOT, capture_output=True, text=True, check=True)
    before, peak = (int(word) for word in done.stdout.split()[-2:])
    return (peak - before) / 1024


def main(work: str) -> int:
    """Do the work, and print resident memory before it and at its peak, kB."""
    stack = stack_from(os.environ)
    stack.need_postgres().server_version()
    stack.store.find("warm")
    next(stack.sources[0].objects(), None)
    before = _status("VmRSS")
    prefix = f"{stack.store.root}sets/bench/"
    if work == "postgres":
        dump_database(stack.need_postgres(), "litellm", stack.store, prefix, stack.keys)
    else:
        backup_bucket(
            stack.sources[0],
            stack.store,
            stack.keys,
            prefix,
            "20260101T000000Z-memory",
            previous=None,
            numbers=count(1),
            folder=None,
            progress=lambda _: None,
        )
    sys.stdout.write(f"{before} {_status('VmHWM')}\n")
    return 0


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise ValueError(field)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
