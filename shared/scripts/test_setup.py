"""Does this stack work: a request through LiteLLM, and its trace read back from Langfuse. Needs no Prefect server.

    export LITELLM_MASTER_KEY=sk-... LANGFUSE_PUBLIC_KEY=pk-lf-... LANGFUSE_SECRET_KEY=sk-lf-...
    python shared/scripts/test_setup.py --litellm-url https://... --langfuse-url https://...

Keys are read from the environment only: arguments are visible to everybody on the machine. Exit status: 0, 1 where a check
failed, 2 where it was called wrongly. It asks one model three times for a few words, which costs a fraction of a cent.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a script finds its own folder only

from pydantic import SecretStr, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.smoke.checks import run
from flows.smoke.results import SmokeResult, failures, verdict
from flows.smoke.targets import NAMES, SmokeTargets

_COLOURS = {"ok": "green", "failed": "red", "skipped": "yellow"}


def main(arguments: list[str] | None = None) -> int:
    """Test, print the table; returns the exit status."""
    options = _options(arguments)
    out, err = Console(), Console(stderr=True, soft_wrap=True)
    try:
        targets = SmokeTargets.model_validate(
            {
                "litellm_url": options.litellm_url,
                "litellm_key": SecretStr(os.environ.get("LITELLM_MASTER_KEY", "")),
                "langfuse_url": options.langfuse_url,
                "public_key": os.environ.get("LANGFUSE_PUBLIC_KEY", ""),
                "secret_key": SecretStr(key) if (key := os.environ.get("LANGFUSE_SECRET_KEY", "")) else None,
                "model": options.model,
                "dual": options.dual,
                "skip": tuple(options.skip),
            }
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        err.print(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}", style="red", markup=False)
        return 2
    if not targets.litellm_key.get_secret_value():
        err.print("LITELLM_MASTER_KEY is not set; export the gateway's master key", style="red", markup=False)
        return 2

    def say(result: SmokeResult) -> None:
        err.print(f"{result.name}: {result.word} after {result.seconds:.1f} s", style="dim", markup=False, highlight=False)

    try:
        results = run(targets, report=say)
    except KeyboardInterrupt:
        err.print("interrupted; what was created is deleted", style="red", markup=False)
        return 1
    if options.json:
        sys.stdout.write(json.dumps([result.model_dump() for result in results], indent=2) + "\n")
    else:
        out.print(_table(results))
        out.print(verdict(results), markup=False, highlight=False)
    return 1 if failures(results) else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm-url", default=os.environ.get("LITELLM_URL", ""), required="LITELLM_URL" not in os.environ)
    parser.add_argument(
        "--langfuse-url", default=os.environ.get("LANGFUSE_WEB_URL", ""), help="without it no trace is read back"
    )
    parser.add_argument("--model", default=os.environ.get("SMOKE_MODEL", ""), help="default: the cheapest that LiteLLM has")
    parser.add_argument("--dual", action="store_true", help="Langfuse 4 in dual mode: wait 15 minutes for the trace")
    parser.add_argument("--skip", action="append", default=[], choices=NAMES, metavar="CHECK", help=", ".join(NAMES))
    parser.add_argument("--json", action="store_true", help="print the results for machines")
    return parser.parse_args(arguments)


def _table(results: list[SmokeResult]) -> Table:
    table = Table("check", "result", "s", "detail", title="Smoke test", title_justify="left")
    for result in results:
        colour = _COLOURS[result.word]
        table.add_row(result.name, f"[{colour}]{result.word}[/]", f"{result.seconds:.1f}", escape(result.detail))
    return table


if __name__ == "__main__":
    sys.exit(main())
