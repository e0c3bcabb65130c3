"""Where a worker's container writes down what it could not do at its start, for the sweep to see."""

from __future__ import annotations

import re

__all__ = ["undone_name"]


def undone_name(pool: str) -> str:
    """Return the name of the Prefect variable of a work pool's workers: steps that are not done, each with the reason.

    Prefect allows lower case letters, digits, dashes and underscores.
    """
    return f"worker_{re.sub('[^a-z0-9_-]', '-', pool.lower())}_undone"
