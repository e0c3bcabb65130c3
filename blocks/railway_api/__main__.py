"""`python -m blocks.railway_api`: what the token of this environment may do, as a table; changes nothing."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from blocks.errors import SettingsError, StackError
from blocks.railway import from_settings
from blocks.settings import Settings

_WORDS = {True: "yes", False: "no", None: "not known"}


def main() -> int:
    """Ask, and print.

    Returns: exit status: 0, or 1 where not even the environment may be read.
    """
    err = Console(stderr=True, soft_wrap=True, style="red")
    try:
        environment = from_settings(Settings.load())
        if environment is None:
            raise SettingsError("railway: there is no token; set RAILWAY_TOKEN (of a project) or RAILWAY_API_TOKEN")
        with environment.open() as api:
            found = api.capabilities()
    except StackError as error:
        err.print(str(error), markup=False, highlight=False)
        return 1
    table = Table("may", "answer", "note", title=f"{environment.token_kind} token")
    for one in found:
        table.add_row(one.name, _WORDS[one.allowed], one.note)
    Console().print(table)
    return 0 if found[0].allowed else 1


if __name__ == "__main__":
    sys.exit(main())
