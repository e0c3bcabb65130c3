"""`python -m flows.backup.start_merges`: start ClickHouse's merges again after a backup was killed while it held them.

The worker's container does so when a run has died without a word (`railway/worker/reaper.py`); every prune and the next backup
do, too. A run that holds the stack's lock may need them stopped, so then this fails, and is tried again.
"""

from __future__ import annotations

import sys

from rich.console import Console

from blocks.errors import StackError
from flows.backup.clickhouse_merges import start_all_merges
from flows.lease import exclusive
from flows.stack import Stack


def main() -> int:
    """Start them; returns the exit status: 0, or 1 with one line that says what is in the way."""
    try:
        stack = Stack.load()
        if stack.clickhouse is not None:
            seconds = stack.settings.backup_lease_seconds
            with exclusive(stack.store, flow="start merges", holder="a worker", seconds=seconds, wait=0):
                start_all_merges(stack.clickhouse, stack.clickhouse_databases())
    except StackError as error:
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
