"""`python -m flows.runbook.answer`: approve or reject a flow run that waits for a person, as in Slack or in Prefect's pages.

Without a run it lists those that wait. What they want to do is on their page; approve what you have read.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from collections.abc import Sequence
from functools import partial
from uuid import UUID

from rich.console import Console

from blocks.errors import StackError
from blocks.settings import Settings
from flows.runbook.answering import PrefectAnswers
from flows.runbook.recording import record

__all__ = ["main", "named"]

_say = Console(soft_wrap=True, highlight=False, markup=False).print


def main(argv: Sequence[str] | None = None) -> int:
    """Answer, or list; returns the exit status: 1 where the run was not answered."""
    parser = argparse.ArgumentParser(prog="python -m flows.runbook.answer", description=__doc__)
    parser.add_argument("run", nargs="?", type=UUID, help="id of the flow run; without: list those that wait")
    parser.add_argument("decision", nargs="?", choices=["approve", "reject"])
    parser.add_argument("--by", default="", help="who decides, for the audit trail; default: the user of this computer")
    options = parser.parse_args(argv)
    if options.run is not None and options.decision is None:
        parser.error("say approve or reject after the run's id")
    try:
        stack = Settings.load().stack_name
        answers = PrefectAnswers(stack, partial(record, stack))
        if options.run is None:
            for one in asyncio.run(answers.waiting()):
                _say(f"{one.run_id}  {one.name}: {one.why}")
            return 0
        approve = options.decision == "approve"
        said = asyncio.run(answers.answer(options.run, approve=approve, by=named(options.by)))
    except StackError as error:
        print(f"answer: {error}", file=sys.stderr)  # noqa: T201 - a command's own output
        return 1
    _say(said)
    return 0 if said.endswith((" is approved", " is rejected")) else 1


def named(by: str) -> str:
    """Who it is, for the record."""
    if by.strip():
        return " ".join(by.split())[:100]
    try:
        return f"cli {getpass.getuser()}"
    except (OSError, KeyError):  # a container's user that has no name
        return "cli"


if __name__ == "__main__":
    sys.exit(main())
