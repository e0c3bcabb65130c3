"""`python -m flows.deploy`: create a stack on Railway from a laptop, or bring one back to what `railway/stack.py` says.

Needs no Prefect server, for the first deploy makes it. The token comes from RAILWAY_API_TOKEN (of a workspace) or RAILWAY_TOKEN
(of a project), never from an option. Secrets that only you have (BACKUP_RECOVERY_RECIPIENT, OPENAI_API_KEY, ...) are taken from
the environment, too. Ended half-way, by whatever, it is continued by running it again.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from pydantic import ValidationError

from blocks.errors import StackError
from flows.deploy.asked import Asked


def main(arguments: list[str] | None = None) -> int:
    """Deploy, and say what was done.

    Returns: exit status: 0; 1 with one line that says what is wrong; 2 for wrong options.
    """
    options = _parser().parse_args(arguments)
    try:
        asked = _asked(options)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        print(f"deploy: {first['loc'][0]}: {first['msg']}", file=sys.stderr)  # noqa: T201 - a program's own output
        return 2
    from flows.deploy.laptop import Laptop, complain  # late: --help must not wait for everything that a deploy needs

    try:
        return Laptop(os.environ).deploy(asked, options)
    except StackError as error:
        complain(error)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what")
    what.add_argument("--variant", choices=("production", "starter"), default="production", help="nine services, or seven")
    what.add_argument("--langfuse", type=int, choices=(3, 4), default=3, help="major version of Langfuse; default 3")
    what.add_argument("--object-store", choices=("minio", "bucket"), default="minio", help="a service of its own, or Railway's")
    what.add_argument("--bucket-region", choices=("sjc", "iad", "ams", "sin"), default="ams", help="of new Railway buckets")
    what.add_argument("--image", action="append", default=[], metavar="SERVICE=IMAGE", help="another image; can be repeated")
    what.add_argument("--name", metavar="STACK", help="the stack's name; default what is there, or STACK_NAME")
    what.add_argument("--repeat-setup", action="store_true", help="create roles, databases and buckets that are missing again")
    where = parser.add_argument_group("where")
    where.add_argument("--project", metavar="ID", help="default RAILWAY_PROJECT_ID")
    where.add_argument("--environment", metavar="ID", help="default RAILWAY_ENVIRONMENT_ID")
    where.add_argument("--new", metavar="NAME", help="make a project of this name, or go on with the one that there is")
    where.add_argument("--workspace", metavar="ID", help="where to make it")
    how = parser.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    how.add_argument("--yes", action="store_true", help="do not ask for the stack's name")
    how.add_argument("--no-smoke", action="store_true", help="leave out the smoke test, whose completions cost a little money")
    how.add_argument("--poll", type=float, default=5.0, metavar="SECONDS", help="between two looks at a deployment; default 5")
    return parser


def _asked(options: Any) -> Asked:
    images = dict(one.partition("=")[::2] for one in options.image)
    return Asked(
        variant=options.variant,
        langfuse=options.langfuse,
        object_store=options.object_store,
        bucket_region=options.bucket_region,
        images=images,
        repeat_setup=options.repeat_setup,
    )


if __name__ == "__main__":
    sys.exit(main())
