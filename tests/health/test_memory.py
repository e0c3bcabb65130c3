"""Texts in Prefect variables with two writers: the second one notices, and what the first one wrote stands."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib

import pytest

from blocks.errors import IntegrityError, ServiceError
from flows.health.memory import ANYTHING, PIECE, Before, load_text, packed, save_text
from tests.health.variables import variables

LONG = "".join(chr(0x4E00 + number * 7 % 20000) for number in range(PIECE))
"""So long that it needs several pieces."""


def packed_otherwise(text: str) -> str:
    return base64.b85encode(zlib.compress(text.encode(), 0)).decode()


def save(text: str, instead_of: Before = ANYTHING) -> None:
    asyncio.run(save_text("memory", text, instead_of=instead_of))


@pytest.mark.parametrize("first", ["first", LONG])
def test_a_writer_that_another_one_has_overtaken_writes_nothing(first: str) -> None:
    with variables():
        save(first, None)
        save("second", first)
        for stale in (None, first, "third"):
            with pytest.raises(ServiceError, match="somebody else has written it meanwhile"):
                save("of a sweep that was late", stale)
        assert asyncio.run(load_text("memory")) == "second"
        save(LONG, "second")
        assert asyncio.run(load_text("memory")) == LONG


def test_what_another_version_compressed_in_another_way_is_still_the_same_text() -> None:
    with variables() as server:
        text = packed_otherwise("first")
        assert text != packed("first")
        server.values["memory"] = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text}
        save("second", "first")
        assert asyncio.run(load_text("memory")) == "second"


def test_where_nothing_was_written_yet_only_nothing_is_expected() -> None:
    with variables():
        with pytest.raises(ServiceError, match="two sweeps"):
            save("new", "old")
        save("new", None)
        assert asyncio.run(load_text("memory")) == "new"


def test_what_is_damaged_is_written_anew_by_whoever_expects_nothing_of_it() -> None:
    with variables() as server:
        server.values["memory"] = {"odd": 1}
        with pytest.raises(IntegrityError, match="not what this project wrote"):
            save("new", "old")
        save("new")
        assert asyncio.run(load_text("memory")) == "new"
