"""The short form of many pack ids, as a manifest lists them: the id of the set that wrote them -> their numbers as `1-5,9`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from blocks.errors import IntegrityError

__all__ = ["make_id", "pack_ids", "short", "split_id"]

_NUMBERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def make_id(set_id: str, number: int) -> str:
    """Return the id of a pack: the set that wrote it, and the pack's number in it, counted from 1."""
    return f"{set_id}-{number:05}"


def split_id(pack_id: str) -> tuple[str, int]:
    """Return the set id and the number in a pack's id.

    Raises:
        IntegrityError: it is no pack's id.
    """
    set_id, dash, number = pack_id.rpartition("-")
    if not (set_id and dash and number.isascii() and number.isdigit()) or make_id(set_id, int(number)) != pack_id:
        raise IntegrityError(f"{pack_id!r} is not the id of a pack; expected <set id>-<five digits>")
    return set_id, int(number)


def short(ids: Iterable[str]) -> dict[str, str]:
    """Return the short form of pack ids, sorted; `pack_ids` is its inverse."""
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    for pack_id in ids:
        set_id, number = split_id(pack_id)
        numbers[set_id].add(number)
    return {set_id: ",".join(_spans(sorted(numbers[set_id]))) for set_id in sorted(numbers)}


def pack_ids(shortened: Mapping[str, str]) -> Iterator[str]:
    """Yield the ids that a short form stands for, sorted by set and number.

    Raises:
        IntegrityError: it is not what `short` returns.
    """
    for set_id in sorted(shortened):
        if not _NUMBERS.fullmatch(shortened[set_id]):
            raise IntegrityError(f"packs of {set_id}: {shortened[set_id]!r} is not a list of numbers such as 1-5,9")
        for span in shortened[set_id].split(","):
            low, _, high = span.partition("-")
            for number in range(int(low), int(high or low) + 1):
                yield make_id(set_id, number)


def _spans(numbers: list[int]) -> Iterator[str]:
    begin = end = numbers[0]
    for number in numbers[1:]:
        if number != end + 1:
            yield _span(begin, end)
            begin = number
        end = number
    yield _span(begin, end)


def _span(begin: int, end: int) -> str:
    return str(begin) if begin == end else f"{begin}-{end}"
