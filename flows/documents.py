"""Block documents, by the stack's name."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from prefect.blocks.core import Block

from blocks.errors import SettingsError

__all__ = ["optional", "required"]

B = TypeVar("B", bound=Block)


def optional(block: type[B], name: str) -> B | None:
    """Load a document, or None where there is none of that name."""
    try:
        found: Any = block.load(name, _sync=True)  # type: ignore[call-arg]  # prefect adds _sync to its sync-compatible methods
        return cast(B, found)
    except ValueError as error:
        if "Unable to find" in str(error):
            return None
        raise


def required(block: type[B], name: str) -> B:
    """Load a document.

    Raises:
        SettingsError: there is none of that name; says how to make it.
    """
    found = optional(block, name)
    if found is None:
        slug = block.get_block_type_slug()
        raise SettingsError(f"block {slug}/{name} does not exist; set its variables and run `python -m blocks`")
    return found
