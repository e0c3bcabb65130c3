"""`python -m flows.runbook.acknowledge`: say that you work on an incident, so that nobody is reminded of it.

Without an incident it lists those that are open. Slack's button and PagerDuty's acknowledgement do the same. It ends with the
incident, or with `--withdraw`; what gets worse is told all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from blocks.errors import StackError
from blocks.settings import Settings
from flows.health import acknowledging
from flows.runbook.answer import named
from flows.runbook.desk import Desk
from flows.runbook.recording import record

__all__ = ["main"]

_say = Console(soft_wrap=True, highlight=False, markup=False).print


def main(argv: Sequence[str] | None = None) -> int:
    """Acknowledge, or list; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flows.runbook.acknowledge", description=__doc__)
    parser.add_argument("incident", nargs="?", default="", help="its key; without: list those that are open")
    parser.add_argument("--by", default="", help="who works on it; default: the user of this computer")
    parser.add_argument("--withdraw", action="store_true", help="nobody works on it any more: remind people again")
    options = parser.parse_args(argv)
    try:
        stack = Settings.load().stack_name
        if not options.incident:
            for one in asyncio.run(acknowledging.open_incidents(stack)):
                at_it = f" ({one.acknowledged_by} is working on it)" if one.acknowledged_at else ""
                _say(f"{one.key}  {one.severity}: {one.sentence}{at_it}")
            return 0
        desk, by = Desk(stack, partial(record, stack)), named(options.by)
        act = desk.withdraw if options.withdraw else desk.acknowledge
        _say(asyncio.run(act(options.incident, by)))
    except StackError as error:
        print(f"acknowledge: {error}", file=sys.stderr)  # noqa: T201 - a command's own output
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
