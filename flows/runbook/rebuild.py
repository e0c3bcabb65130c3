"""`python -m flows.runbook.rebuild`: the runbook rebuild-stack from a laptop, where no Prefect server is left to run it on.

All it needs stands in the environment: STACK_NAME of the stack that was lost, COPY_ENDPOINT, COPY_BUCKET and the keys of the
second store, RAILWAY_API_TOKEN of a workspace, WORKER_IMAGE, BACKUP_RECOVERY_RECIPIENT, and the keys that the data was written
with: LITELLM_SALT_KEY, ENCRYPTION_KEY, SALT, BACKUP_SIGNING_KEY, BACKUP_AGE_IDENTITY. Ended half-way, it is run again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping

from pydantic import ValidationError
from rich.console import Console

from blocks.__main__ import copy_store
from blocks.errors import ApprovalMissing, StackError
from blocks.keys import BackupKeys
from blocks.settings import Settings
from flows.runbook.audit import Trail
from flows.runbook.heal import Means, Pace, heal
from flows.runbook.rebuild_facts import keys_of
from flows.runbook.rebuild_stack import RebuildRequest, rebuild_of
from flows.stack import Stack

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Rebuild, and say what was done.

    Returns: exit status: 0; 1 with one line that says what is wrong; 2 for wrong options.
    """
    options = _parser().parse_args(arguments)
    out, complain = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True, style="red")
    try:
        request = _request(options)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        complain.print(f"rebuild: {first['loc'][0]}: {first['msg']}", markup=False, highlight=False)
        return 2

    def tell(text: str) -> None:
        out.print(text, markup=False, highlight=False)

    try:
        ended = _rebuild(request, os.environ, Terminal(out, options.yes), tell)
    except StackError as error:
        complain.print(str(error), markup=False, highlight=False)
        return 1
    tell(f"rebuild-stack: {ended}")
    return 0


class Terminal:
    """Asks the person at the keyboard.

    Args:
        yes: who gave it has approved already.
    """

    def __init__(self, out: Console, yes: bool) -> None:
        self._out, self._yes = out, yes

    def ask(self, stack: str, what: str) -> str:
        """Ask for the stack's name.

        Returns: who approved.
        Raises:
            ApprovalMissing: nobody is there, or it was another name.
        """
        self._out.print(what, markup=False, highlight=False)
        if self._yes:
            return "--yes"
        if not sys.stdin.isatty():
            raise ApprovalMissing("rebuild: nobody to ask; read the plan with --dry-run, then give --yes; nothing was made")
        if self._out.input(f"Type the stack's name, {stack}, to do this: ").strip() != stack:
            raise ApprovalMissing("rebuild: not the stack's name; nothing was made")
        return "at the terminal"


def _rebuild(request: RebuildRequest, environment: Mapping[str, str], terminal: Terminal, tell: Callable[[str], None]) -> str:
    """As the flow does it, with what the environment says in the place of Prefect's blocks."""
    stack = _stack(environment)
    runbook = rebuild_of(stack, request, environment)
    runbook.builder.tell = tell
    means = Means(
        stack=stack.name,
        trail=Trail(runbook.stack.store),
        ask=lambda what: terminal.ask(stack.name, what),
        show=lambda summary: tell(summary.markdown()),
        tell=tell,
        pace=Pace(settle=300, look=30),
    )
    return heal(runbook, request, means)


def _stack(environment: Mapping[str, str]) -> Stack:
    """The stack as its copies are read: there may be nothing else of it.

    Raises:
        SettingsError: the second store, or a key, is not set.
    """
    settings = Settings.load()
    settings.require("copy_bucket")
    store = copy_store(settings)
    recovery = environment.get("BACKUP_RECOVERY_RECIPIENT", "")
    known = BackupKeys(recipients=[recovery] if recovery else [], verify_key=settings.backup_verify_key)
    keys = keys_of(environment, known)
    return Stack(settings.stack_name, settings, store, keys, None, None, None, None, copy=store)


def _request(options: argparse.Namespace) -> RebuildRequest:
    return RebuildRequest(
        project=options.project,
        workspace=options.workspace,
        set_id=options.set,
        components=options.component,
        smoke=not options.no_smoke,
        dry_run=options.dry_run,
        langfuse=options.langfuse,
        object_store=options.object_store,
        bucket_region=options.bucket_region,
        images=dict(one.partition("=")[::2] for one in options.image),
        by="at the terminal",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.runbook.rebuild", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", required=True, metavar="NAME", help="of the new project: none is there, or an empty one")
    parser.add_argument("--workspace", required=True, metavar="ID", help="where it is made")
    parser.add_argument("--set", default="latest", metavar="ID", help="latest, the id of a set, or a time; default latest")
    parser.add_argument(
        "--component", action="append", default=[], metavar="NAME", help="only this of the set; can be repeated"
    )
    parser.add_argument("--langfuse", type=int, choices=(3, 4), default=3, help="major version of Langfuse; default 3")
    parser.add_argument("--object-store", choices=("minio", "bucket"), default="minio", help="a service, or Railway's buckets")
    parser.add_argument("--bucket-region", choices=("sjc", "iad", "ams", "sin"), default="ams", help="of new Railway buckets")
    parser.add_argument("--image", action="append", default=[], metavar="SERVICE=IMAGE", help="another image; can be repeated")
    parser.add_argument("--dry-run", action="store_true", help="only diagnose, and print the plan")
    parser.add_argument("--yes", action="store_true", help="do not ask for the stack's name")
    parser.add_argument("--no-smoke", action="store_true", help="leave out the smoke test, which costs a little money")
    return parser


if __name__ == "__main__":
    sys.exit(main())
