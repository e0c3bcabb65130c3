"""`make crash`: kill flows at every point, break the store under them, restart engines, damage objects; see what holds."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from rich.console import Console

from shared.engines.process import EngineError
from shared.faults.campaign import Campaign
from shared.faults.cases import Case, cases_of, representative
from shared.faults.duties import DUTIES
from shared.faults.ground import Ground
from shared.sandbox.stack import ROOT, STATE

WIDTH = 140


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; returns the exit status: 0 when everything held."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--flow", choices=list(DUTIES), action="append", help="only this flow; may be given again")
    parser.add_argument("--fault", default="", help="only this fault, or those whose name contains this")
    parser.add_argument("--at", default="*", help="only at this point, as the report names it; may have wildcards: 'journal*'")
    parser.add_argument("--only", type=int, default=0, metavar="N", help="N cases of each flow, spread evenly")
    parser.add_argument("--quick", action="store_true", help="a dozen representative cases")
    parser.add_argument("--directory", type=Path, default=STATE / "faults", help="folder for everything it makes")
    parser.add_argument("--report", type=Path, default=ROOT / "faults-report.json", help="where the outcome of each case goes")
    options = parser.parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print("Starting the stack and taking the sets that every case begins with ...", highlight=False)
    with Ground(options.directory) as ground:
        ground.prepare()
        campaign = Campaign(ground, console, options.report)
        for flow in options.flow or DUTIES:
            try:
                measured = campaign.measure(flow)
            except EngineError as error:
                campaign.broken(flow, error)
                continue
            console.print(f"[bold]{flow}[/]: {len(measured.requests)} requests undisturbed", highlight=False)
            cases: list[Case] = cases_of(flow, measured, ground)
            if options.quick:
                cases = list(representative(cases))
            cases = [case for case in cases if options.fault in case.fault and fnmatchcase(case.at, options.at)]
            step = max(1.0, len(cases) / options.only) if options.only else 1.0
            for case in (cases[int(number * step)] for number in range(int(len(cases) / step))):
                campaign.run(case)
        status = campaign.finish()
    console.print(f"{options.report.name} has them for machines.", highlight=False)
    return status


if __name__ == "__main__":
    sys.exit(main())
