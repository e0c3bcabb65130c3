"""Deployments of an earlier version: `prefect deploy --all` makes and updates those of prefect.yaml, and deletes nothing.

What is left over goes on being scheduled, with an entrypoint that is not there any more. It is deleted only where it cannot be
anything but ours: it is in the work pool of prefect.yaml's deployments, takes its code by the very pull steps of that file, and
its entrypoint lies in this project's `flows`. `python -m railway.worker.left_over` does it, and says what.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from blocks.errors import StackError
from blocks.settings import Settings
from railway.worker.prefect_http import PrefectHttp

__all__ = ["FILE", "LeftOver", "delete_left_over", "left_over"]

FILE = Path(__file__).resolve().parents[2] / "prefect.yaml"


@dataclass(frozen=True)
class LeftOver:
    """A deployment that prefect.yaml no longer names. name: of the flow's function and the deployment."""

    id: str
    name: str


def left_over(document: Mapping[str, Any], present: Iterable[Mapping[str, Any]]) -> list[LeftOver]:
    """Say which deployments of a server are ours and no longer wanted.

    Args:
        document: prefect.yaml. present: deployments as Prefect's API shows them.
    """
    wanted = {(one["entrypoint"], one["name"]) for one in document["deployments"]}
    pools = {one["work_pool"]["name"] for one in document["deployments"]}
    found = []
    for one in present:
        entrypoint, name = str(one.get("entrypoint") or ""), str(one["name"])
        ours = one.get("work_pool_name") in pools and one.get("pull_steps") == document["pull"]
        if ours and entrypoint.startswith("flows/") and (entrypoint, name) not in wanted:
            found.append(LeftOver(str(one["id"]), f"{entrypoint.partition(':')[2]}/{name}"))
    return found


def delete_left_over(prefect: PrefectHttp, document: Mapping[str, Any], *, dry_run: bool = False) -> list[LeftOver]:
    """Delete them; their runs stay in Prefect's records.

    Args:
        document: prefect.yaml. dry_run: only say which.
    Raises:
        ServiceError: the server did not answer, or refused.
    """
    found = left_over(document, prefect.deployments())
    for one in found if not dry_run else ():
        prefect.delete_deployment(one.id)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Delete what is left over; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m railway.worker.left_over", description="Delete deployments that prefect.yaml no longer names."
    )
    parser.add_argument("--dry-run", action="store_true", help="only say which")
    options = parser.parse_args(arguments)
    try:
        document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
        with PrefectHttp(Settings.load()) as prefect:
            found = delete_left_over(prefect, document, dry_run=options.dry_run)
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if found:
        names = ", ".join(one.name for one in found)
        sys.stdout.write(
            f"{'would be deleted' if options.dry_run else 'deleted'}, as prefect.yaml no longer names them: {names}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
