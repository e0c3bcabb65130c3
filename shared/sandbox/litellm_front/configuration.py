"""What the program is told at its start, in a private file: secrets must not be arguments."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from shared.engines.files import write_private

__all__ = ["Configuration"]


@dataclass(frozen=True, repr=False)
class Configuration:
    """Where everything is. Has secrets.

    Attributes:
        port: to listen on. upstream: base URL of the real gateway.
        master_key, salt_key: LITELLM_MASTER_KEY, LITELLM_SALT_KEY. database_url: DATABASE_URL, as its owner.
        batch: seconds between two writes of spend (proxy_batch_write_at).
        store_models: STORE_MODEL_IN_DB. version: the release that it says it is; empty for the gateway's own.
    """

    port: int
    upstream: str
    master_key: str
    salt_key: str
    database_url: str
    batch: float = 0.3
    store_models: bool = True
    version: str = ""

    def write(self, path: Path) -> None:
        """Put it in a file that only its owner can read."""
        write_private(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text()))
