"""`postgres` of the image postgres-ssl: a real server of the image's major version, in PGDATA.

As the image: it refuses a volume in another place than its own, and a PGDATA that is not below it; POSTGRES_PASSWORD, _USER and
_DB only mean something at the first boot; the server itself refuses data of another major. Not there: TLS, and the image's
pgBackRest.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path

from shared.engines.files import write_private
from shared.engines.postgres import PostgresEngine
from shared.sandbox.railway_runtime.catalogue import version
from shared.sandbox.railway_runtime.images.engines import serve
from shared.sandbox.railway_runtime.images.inside import Inside, die

_MOUNT = "/var/lib/postgresql/data"
_PORT = 5432
_DURABLE_ENOUGH = {"synchronous_commit": "on"}  # against a killed server; nothing here survives the machine's crash


def main(arguments: list[str]) -> int:
    """Run the server; returns the exit status."""
    inside = Inside.read()
    data = _data_directory(inside)
    password = os.environ.get("POSTGRES_PASSWORD", "")
    is_new = not data.exists()
    if is_new and not password:
        die("Error: Database is uninitialized and superuser password is not specified; set POSTGRES_PASSWORD")
    directory = inside.path("/engine")
    directory.mkdir(mode=0o711)
    if is_new:
        write_private(directory / "password", password + "\n")
    engine = PostgresEngine(
        directory,
        data=data,
        major=int(version(inside.image).partition(".")[0]),
        port=inside.port(_PORT),
        settings={**_DURABLE_ENOUGH, **_settings(arguments)},
        durable=False,
    )
    engine.superuser = os.environ.get("POSTGRES_USER", "postgres")
    return serve(engine, started=lambda: _create_database(engine) if is_new else None)


def _data_directory(inside: Inside) -> Path:
    """PGDATA, where the image takes it."""
    if inside.mount is not None and inside.mount != _MOUNT:
        die(f"Railway volume not mounted to the correct path, expected {_MOUNT} but got {inside.mount}; update it and redeploy")
    data = Path(os.environ.get("PGDATA") or inside.path(_MOUNT))
    if inside.path(_MOUNT) not in data.parents:
        die(
            f"PGDATA is {inside.seen(data)}, expected a folder below {_MOUNT}, as {_MOUNT}/pgdata: "
            "the volume's own folder is not empty (lost+found), and what is outside it does not last"
        )
    return data


def _settings(arguments: list[str]) -> dict[str, str]:
    """Server parameters of the command line, `-c name=value`."""
    following = [value for flag, value in pairwise(arguments) if flag == "-c"]
    return dict(value.split("=", 1) for value in following if "=" in value)


def _create_database(engine: PostgresEngine) -> None:
    """POSTGRES_DB, if it is another than those that every server has; default the user's name."""
    name = os.environ.get("POSTGRES_DB") or engine.superuser
    if name not in ("postgres", "template0", "template1"):
        import psycopg  # not at the top: most starts have no use for it
        from psycopg import sql

        with psycopg.connect(engine.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
