"""The program: `python -m shared.sandbox.litellm_front CONFIGURATION`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psycopg
import uvicorn

from shared.sandbox import litellm_schema
from shared.sandbox.litellm_front.configuration import Configuration
from shared.sandbox.litellm_front.front import Front
from shared.sandbox.litellm_front.store import schema_is_there


async def _main(configuration: Configuration) -> None:
    front = Front(configuration)
    server = uvicorn.Server(
        uvicorn.Config(
            front.application(),
            host="127.0.0.1",
            port=configuration.port,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
    )
    try:
        async with front.ledger:
            await server.serve()
    finally:
        await front.passing.close()


def _migrate(url: str) -> None:
    """As LiteLLM does before it listens."""
    if not schema_is_there(url):
        litellm_schema.apply(url)


if __name__ == "__main__":
    read = Configuration.read(Path(sys.argv[1]))
    try:
        _migrate(read.database_url)
    except psycopg.OperationalError as error:
        sys.exit(f"error: the database does not answer: {type(error).__name__}")
    asyncio.run(_main(read))
