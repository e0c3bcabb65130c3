"""The shape of settings that are lists of small statements, `<what>=<how>` each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["LIMITS", "SHAPES", "in_shape"]

LIMITS = (
    *("connections_percent", "transaction_seconds", "volume_percent", "xid_age", "disk_percent", "disk_full_percent", "parts"),
    *("mutation_seconds", "system_log_bytes", "memory_percent", "queue_depth", "queue_seconds", "stuck_seconds"),
    *("propagation_seconds", "failed_jobs", "late_seconds", "container_percent", "deploying_seconds"),
)
"""What CHECK_LIMITS may name: the fields of `flows.health.targets.Limits`, except those that have a setting of their own."""

SHAPES: Mapping[str, tuple[re.Pattern[str], str]] = {
    "runbook_switches": (
        re.compile(r"[a-z][a-z0-9-]*(/(warning|error|critical))?=(automatic|ask|never)"),
        "<service or all>[/<warning, error or critical>]=<automatic, ask or never>",
    ),
    "check_limits": (
        re.compile(rf"({'|'.join(LIMITS)})=\d+(\.\d+)?(e\d+)?"),
        f"<name>=<number>, the name one of {', '.join(LIMITS)}",
    ),
}
"""By the name of the setting: what each statement must match, and the same for people."""


def in_shape(setting: str, statements: Sequence[str]) -> list[str]:
    """Check the statements of a setting.

    Returns: the same.
    Raises:
        ValueError: one is not of its shape; says which shape, never what was written.
    """
    pattern, expected = SHAPES[setting]
    if not all(pattern.fullmatch(one) for one in statements):
        raise ValueError(f"expected {expected}")
    return list(statements)
