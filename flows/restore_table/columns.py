"""Whether the columns of a live table are those of its restored rows."""

from __future__ import annotations

from collections.abc import Mapping

from blocks.errors import RestoreRefused


def refuse_other_columns(live: Mapping[str, str], restored: Mapping[str, str], table: str) -> None:
    """Refuse to put rows into a table that has other columns than they.

    Args:
        live, restored: type by name.
    Raises:
        RestoreRefused: which columns differ.
    """
    differing = [
        f"{name} is {live.get(name, 'missing')} in the live table and {restored.get(name, 'missing')} in the backup"
        for name in sorted(live.keys() | restored.keys())
        if live.get(name) != restored.get(name)
    ]
    if differing or not live:
        raise RestoreRefused(f"{table}: column {'; '.join(differing) or 'none at all'}; restore beside and copy what fits")
