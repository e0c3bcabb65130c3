"""The scratch place of a drill: engines of our own beside the worker, or scratch databases on the live servers.

Embedded engines (the default) prove that a backup restores on a machine that has nothing, and cost the live servers nothing.
Whatever happens in a drill, the scratch is gone afterwards.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from pydantic import SecretStr

from blocks.clickhouse import ClickHouseServer
from blocks.errors import ServiceError, SettingsError
from blocks.postgres import PostgresServer
from flows.backup.manifest import ClickHouseDatabase, PostgresDatabase
from flows.catalogue import size
from flows.stack import Stack
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.postgres import PostgresEngine
from shared.engines.process import EngineError

ROOM = 1.5
"""Times the data's size that must be free: indexes are built anew, and both engines write more than they keep."""


@dataclass(frozen=True)
class Scratch:
    """Where a drill restores to.

    Attributes:
        name: for people. own: True for engines of our own, which hold nothing else.
        postgres, clickhouse: the servers; None where the drill does not need them.
    """

    name: str
    own: bool
    postgres: PostgresServer | None
    clickhouse: ClickHouseServer | None


@contextmanager
def embedded(stack: Stack, postgres: list[PostgresDatabase], clickhouse: list[ClickHouseDatabase]) -> Iterator[Scratch]:
    """Start the engines that the components need, in a folder that is removed afterwards.

    Args:
        stack: for the folder's place. postgres, clickhouse: what will be restored.
    Raises:
        SettingsError: there is no room, or the engines here are older than the data or lack an extension.
        ServiceError: an engine did not start.
    """
    parent = Path(stack.settings.drill_directory or tempfile.gettempdir())
    remove_left_over(parent)
    _refuse_without_room(parent, sum(c.database_bytes for c in postgres) + sum(c.plain_bytes for c in clickhouse))
    with ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="drill-", dir=parent))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        ending.enter_context(_in_use(folder))
        try:
            yield Scratch(
                name="embedded engines",
                own=True,
                postgres=_start_postgres(folder / "postgres", postgres, ending) if postgres else None,
                clickhouse=_start_clickhouse(folder / "clickhouse", ending) if clickhouse else None,
            )
        except EngineError as error:
            raise ServiceError(f"drill: a scratch engine failed: {error}") from error


def remove_left_over(parent: Path) -> None:
    """Remove the folders of drills that were killed: those that nobody holds. Their engines have ended with them."""
    for folder in parent.glob("drill-*"):
        with suppress(OSError), _in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Hold a folder; the kernel lets go of it when this process ends in whatever way.

    Raises:
        OSError: somebody else holds it.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


@contextmanager
def on_live_server(stack: Stack) -> Iterator[Scratch]:
    """Use scratch databases on the live servers; the drill drops them one by one."""
    yield Scratch(name="live servers", own=False, postgres=stack.postgres_admin, clickhouse=stack.clickhouse)


def _refuse_without_room(folder: Path, data: int) -> None:
    free = shutil.disk_usage(folder).free
    needed = int(data * ROOM)
    if free < needed:
        raise SettingsError(
            f"drill: {folder} has {size(free)} free, the restored data needs about {size(needed)}; "
            "set DRILL_DIRECTORY to a larger disk, or drill with scratch: server"
        )


def _start_postgres(folder: Path, components: list[PostgresDatabase], ending: ExitStack) -> PostgresServer:
    newest = max(component.server_major for component in components)
    majors = [major for major in PostgresEngine.available_majors() if major >= newest]
    if not majors:
        raise SettingsError(f"drill: no embedded Postgres {newest} or newer here; drill with scratch: server")
    engine = PostgresEngine(folder, major=min(majors), durable=False)
    ending.callback(engine.kill)
    engine.start()
    _refuse_without_extensions(engine, components)
    return PostgresServer(url=SecretStr(engine.url()), bin_dirs=[str(engine.bin_dir)])


def _refuse_without_extensions(engine: PostgresEngine, components: list[PostgresDatabase]) -> None:
    with psycopg.connect(engine.url()) as connection:
        available = {str(row[0]) for row in connection.execute("SELECT name FROM pg_available_extensions")}
    for component in components:
        missing = sorted(component.extensions.keys() - available)
        if missing:
            raise SettingsError(
                f"drill: the embedded Postgres has no extension {', '.join(missing)}, which database {component.name} uses; "
                "drill with scratch: server"
            )


def _start_clickhouse(folder: Path, ending: ExitStack) -> ClickHouseServer:
    engine = ClickHouseEngine(folder)
    ending.callback(engine.kill)
    engine.start()
    return ClickHouseServer(host=engine.host, port=engine.port, user=engine.user, password=SecretStr(engine.password))
