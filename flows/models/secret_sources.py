"""Fetching the secrets that the file names."""

from __future__ import annotations

import os
from collections.abc import Iterable

from prefect.blocks.system import Secret

from blocks.errors import SettingsError
from flows.documents import optional
from flows.models.wanted import SecretSource, WantedModel

__all__ = ["fetch"]


def fetch(wanted: Iterable[WantedModel]) -> dict[SecretSource, str]:
    """Fetch every secret once.

    Raises:
        SettingsError: some are not there; names all of them.
    """
    sources = {source: model.identity for model in wanted for source in model.secrets.values()}
    found = {source: _one(source) for source in sources}
    missing = [f"{source} (for {sources[source]})" for source, value in found.items() if not value]
    if missing:
        raise SettingsError(f"models: not set, or empty: {', '.join(missing)}; set them where the worker runs")
    return found


def _one(source: SecretSource) -> str:
    if source.environment:
        return os.environ.get(source.environment, "")
    block = optional(Secret, source.block)
    return "" if block is None else str(block.get())
