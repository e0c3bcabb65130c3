"""A change whose answer was lost: look whether it was made, and only then make it again.

Railway has no idempotency keys, so that sending it twice may create two services or two deployments (facts: railway.md,
appendix B).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from blocks.errors import Uncertain

__all__ = ["certainly"]

T = TypeVar("T")


def certainly(
    change: Callable[[], T], look: Callable[[], T | None], *, attempts: int = 3, patience: float = 10.0, poll: float = 2.0
) -> T:
    """Make a change exactly once, as far as its traces can be seen.

    Args:
        change: makes it; raises `Uncertain` where its answer was lost.
        look: reads the state and returns what `change` would have, or None where there is no trace of it.
        attempts: how often it is made at most.
        patience: seconds for which it is looked again, every `poll` seconds, before it is taken for not made.
    Returns: what the change returned, or what was found of it.
    Raises:
        Uncertain: the last answer was lost, too, and nothing was found.
    """
    for attempt in range(1, attempts + 1):
        try:
            return change()
        except Uncertain:
            found = _look(look, patience, poll)
            if found is not None:
                return found
            if attempt == attempts:
                raise
    raise AssertionError("attempts is at least 1")


def _look(look: Callable[[], T | None], patience: float, poll: float) -> T | None:
    deadline = time.monotonic() + patience
    while (found := look()) is None and time.monotonic() + poll < deadline:
        time.sleep(poll)
    return found
