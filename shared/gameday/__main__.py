"""`make gameday`: break the stack in every way that there is a cause for, one after the other, and see that it mends itself."""

from __future__ import annotations

import argparse
import sys
from itertools import groupby
from pathlib import Path

from shared.engines.process import EngineError
from shared.gameday.catalogue import CAUSES, chosen
from shared.gameday.ground import Ground
from shared.gameday.play import play
from shared.gameday.report import Report
from shared.gameday.score import exit_status
from shared.sandbox.demo_deploy import DeployFailed
from shared.sandbox.stack import ROOT, STATE


def main(arguments: list[str] | None = None) -> int:
    """Hold a game day.

    Returns: exit status: 0 when everything that the catalogue calls automatic was healed; 2 for wrong options.
    """
    parser = argparse.ArgumentParser(prog="make gameday", description=__doc__)
    parser.add_argument("--only", default="", metavar="KEYS", help="only these causes, with commas between them")
    parser.add_argument("--list", action="store_true", help="list the causes")
    parser.add_argument("--directory", type=Path, default=STATE / "gameday", help="folder for everything it makes")
    parser.add_argument("--report", type=Path, default=ROOT / "gameday-report.json", help="where the outcome of each goes")
    options = parser.parse_args(arguments)
    report = Report(options.report)
    if options.list:
        for one in CAUSES:
            report.say(f"{one.key}: {one.what}")
        return 0
    try:
        wanted = sorted(chosen(options.only), key=lambda one: one.langfuse)  # each has a stack of its own
    except ValueError as error:
        report.say(str(error))
        return 2
    try:
        for langfuse, causes in groupby(enumerate(wanted, 1), key=lambda one: one[1].langfuse):
            with Ground(options.directory, report.say, langfuse=langfuse) as ground:
                for number, cause in causes:
                    report.say(f"{number} of {len(wanted)}: {cause.what} ...")
                    report.add(play(cause(ground), ground))
    except (EngineError, DeployFailed) as error:
        report.say(f"gameday: the stack itself did not come up: {error}")
        return 1
    report.finish()
    return exit_status(report.outcomes)


if __name__ == "__main__":
    sys.exit(main())
