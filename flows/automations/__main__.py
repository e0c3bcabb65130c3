"""`python -m flows.automations`: create or update this project's automations on the Prefect server that PREFECT_API_URL names.

Safe to run at every deploy, after `prefect deploy --all`: a second run changes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import httpx
from prefect.client.orchestration import get_client
from rich.console import Console

from blocks.errors import SettingsError
from blocks.settings import Settings
from flows.automations.upsert import Change, upsert

_DONE = {"create": "created", "update": "updated", "keep": "unchanged", "delete": "deleted", "left over": "no longer wanted"}


def main(arguments: list[str] | None = None) -> int:
    """Upsert, and say what was done.

    Returns: exit status: 0, or 1 with one line that says what is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m flows.automations", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="change nothing; print the differences")
    parser.add_argument("--prune", action="store_true", help="delete automations of ours that are no longer wanted")
    options = parser.parse_args(arguments)
    out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True, style="red")
    try:
        found = asyncio.run(_upsert(Settings.load(), dry_run=options.dry_run, prune=options.prune))
    except SettingsError as error:
        err.print(str(error), markup=False, highlight=False)
        return 1
    except httpx.HTTPError as error:
        message = f"prefect server: no proper answer ({type(error).__name__}); is PREFECT_API_URL right and the server up?"
        err.print(message, markup=False, highlight=False)
        return 1
    for change in found:
        _show(out, change, dry_run=options.dry_run)
    return 0


async def _upsert(settings: Settings, *, dry_run: bool, prune: bool) -> list[Change]:
    async with get_client() as client:
        return await upsert(client, settings, dry_run=dry_run, prune=prune)


def _show(out: Console, change: Change, *, dry_run: bool) -> None:
    words = f"would {change.verb}" if dry_run and change.verb in ("create", "update", "delete") else _DONE[change.verb]
    hint = "; --prune deletes it" if change.verb == "left over" else ""
    out.print(f"{change.name}: {words}{hint}", markup=False, highlight=False)
    if dry_run:
        for line in change.difference:
            out.print(f"    {line}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
