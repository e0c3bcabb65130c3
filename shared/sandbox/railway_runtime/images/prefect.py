"""`prefect`: the real one. `prefect server start` listens on the port of this machine.

A new SQLite database begins as a copy of one that is prepared, with its migrations done, which saves ten seconds of them.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from shared.sandbox.railway_runtime.images.inside import HOST, Inside, become
from shared.sandbox.railway_runtime.images.options import option, without

PREPARED = Path(__file__).resolve().parents[4] / ".sandbox" / "cache"
"""Where prepared databases are."""

_PORT = 4200
_SQLITE = "sqlite+aiosqlite:///"
_OFFLINE = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}


def main(arguments: list[str]) -> None:
    """Become prefect."""
    variables = {**os.environ, **_OFFLINE}
    if arguments[:2] == ["server", "start"]:
        said = option(arguments, "--port") or variables.get("PREFECT_SERVER_API_PORT") or str(_PORT)
        port = Inside.read().port(int(said))
        arguments = [*without(arguments, "--host", "--port"), "--host", HOST, "--port", str(port)]
        variables |= _begin_with_prepared(variables)
        variables.pop("PYTHONPATH", None)  # the server's image has nothing of this project
    become(sys.executable, ["-m", "prefect", *arguments], variables)


def _begin_with_prepared(variables: dict[str, str]) -> dict[str, str]:
    """Copy the prepared database where there is none yet; returns the variables that say that nothing is left to migrate."""
    url = variables.get("PREFECT_SERVER_DATABASE_CONNECTION_URL") or variables.get("PREFECT_API_DATABASE_CONNECTION_URL")
    home = Path(variables.get("PREFECT_HOME") or f"{variables['HOME']}/.prefect")
    database = Path(url.removeprefix(_SQLITE)) if url else home / "prefect.db"
    prepared = PREPARED / f"prefect-{version('prefect')}.sqlite"
    if (url and not url.startswith(_SQLITE)) or database.exists() or not prepared.exists():
        return {}
    database.parent.mkdir(parents=True, exist_ok=True)
    draft = database.with_name(database.name + ".new")
    shutil.copyfile(prepared, draft)
    draft.replace(database)
    return {"PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false", "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false"}


if __name__ == "__main__":
    main(sys.argv[1:])
