"""The sandbox's systems as blocks in this process, made from the same settings that its worker has."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from blocks.__main__ import documents
from blocks.clickhouse import ClickHouseServer
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.railway import RailwayEnvironment
from blocks.redis import RedisServer
from blocks.settings import Settings
from blocks.source_bucket import SourceBucket
from flows.stack import Stack
from shared.sandbox.railway_api.stand_in import RailwayStandIn


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read settings from a mapping instead of this process's environment.

    Args:
        environment: variables by name; those that are no setting are ignored.
    """
    known = {name.lower(): value for name, value in environment.items() if name.lower() in Settings.model_fields}
    return Settings(**known)  # type: ignore[arg-type]  # text, as from the environment; pydantic converts it


def stack_from(environment: Mapping[str, str]) -> Stack:
    """Make the stack that `Stack.load` would load in a process with this environment, without a Prefect server.

    Args:
        environment: as `Sandbox.environment` returns it.
    """
    settings = settings_from(environment)
    made = list(documents(settings))
    postgres = {name: block for name, block in made if isinstance(block, PostgresServer)}
    stores = {name: block for name, block in made if isinstance(block, BackupStore)}
    return Stack(
        name=settings.stack_name,
        settings=settings,
        store=stores[settings.stack_name],
        keys=next(block for _, block in made if isinstance(block, BackupKeys)),
        postgres=postgres.get(f"{settings.stack_name}-backup"),
        postgres_admin=postgres.get(f"{settings.stack_name}-restore"),
        clickhouse=next((block for _, block in made if isinstance(block, ClickHouseServer)), None),
        redis=next((block for _, block in made if isinstance(block, RedisServer)), None),
        sources=tuple(block for _, block in made if isinstance(block, SourceBucket)),
        copy=stores.get(f"{settings.stack_name}-copy"),
    )


def railway_block(railway: RailwayStandIn) -> RailwayEnvironment:
    """Make the block of a stand-in's environment, with a token that may everything in its workspace."""
    return RailwayEnvironment(
        project_id=railway.project_id,
        environment_id=railway.environment_id,
        token=SecretStr(railway.token("workspace")),
        token_kind="workspace",  # noqa: S106 - a kind, no password
        api_url=railway.url,
    )
