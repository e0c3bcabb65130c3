"""Texts of any length in Prefect variables, which hold 5,000 characters each and live as long as the Prefect server's database.

A text is compressed. A short one stands in its variable, the head; of a longer one the head only says where the pieces are, and
how the whole must hash. Pieces are written before the head, and never over those that the head names: a write that was cut off
leaves the earlier text as it was.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.exceptions import ObjectAlreadyExists
from pydantic import BaseModel, ConfigDict, ValidationError

from blocks.errors import IntegrityError, ServiceError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

__all__ = ["ANYTHING", "PIECE", "SECONDS", "Anything", "Before", "load_text", "packed", "save_text", "unpacked"]

PIECE = 4800
"""Characters of a text in one variable: with the head's own words it stays below Prefect's 5,000."""

SECONDS = 30.0
"""A load or a save may take so long, repeated requests included."""

_MOST_PIECES = 40
_SIDES = ("a", "b")


class Anything(Enum):
    """The type of `ANYTHING`."""

    ANYTHING = "whatever is there"


ANYTHING = Anything.ANYTHING
Before = str | None | Anything
"""A text, None for none, or whatever is there."""


class _Head(BaseModel):
    """What the variable with the text's own name holds.

    Attributes:
        text: compressed and encoded, where it is short. side, pieces: which variables hold it otherwise.
    """

    model_config = ConfigDict(frozen=True)

    sha256: str
    text: str = ""
    side: str = ""
    pieces: int = 0


def packed(text: str) -> str:
    """Compress a text into characters that need no escape in JSON."""
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def unpacked(text: str) -> str:
    """Undo `packed`.

    Raises:
        ValueError: it is not what `packed` makes.
    """
    try:
        return zlib.decompress(base64.b85decode(text)).decode()
    except zlib.error as error:
        raise ValueError(f"not compressed text: {error}") from None


async def load_text(name: str) -> str | None:
    """Read what was saved under a name.

    Args:
        name: a variable's: lower case letters, digits, dashes and underscores.
    Returns: the text, None where nothing was ever saved.
    Raises:
        IntegrityError: what is there is not what was saved.
        ServiceError: Prefect's API does not answer.
    """
    async with _variables(name) as variables:
        return await _text(variables, name)


async def save_text(name: str, text: str, *, instead_of: Before = ANYTHING) -> None:
    """Save a text under a name, in place of what was there. One writer at a time.

    Prefect has no writes under a condition. `instead_of` is looked at right before the write: it tells two writers that overlap
    by seconds, as two sweeps would, and not two that write in the same hundredth of one.

    Args:
        name: as in `load_text`. instead_of: the text that has to be there still, None for none.
    Raises:
        IntegrityError: another text is expected there, and what is there is damaged.
        ServiceError: Prefect's API does not answer, or refused, or another text is there; that can still be read.
    """
    whole = packed(text)
    if len(whole) > PIECE * _MOST_PIECES:
        raise ServiceError(f"variable {name}: {len(whole)} characters are too many, expected at most {PIECE * _MOST_PIECES}")
    async with _variables(name) as variables:
        if not isinstance(instead_of, Anything) and await _text(variables, name) != instead_of:
            raise ServiceError(
                f"variable {name}: somebody else has written it meanwhile, expected one writer at a time; do two sweeps of "
                "this stack run at once? This one stops here"
            )
        if len(whole) <= PIECE:
            head = _Head(sha256=_hash(whole), text=whole)
        else:
            pieces = [whole[start : start + PIECE] for start in range(0, len(whole), PIECE)]
            side = _other_side(await variables.read(name))
            await asyncio.gather(*(variables.write(_piece(name, side, number), one) for number, one in enumerate(pieces)))
            head = _Head(sha256=_hash(whole), side=side, pieces=len(pieces))
        await variables.write(name, head.model_dump(exclude_defaults=True))


class _Variables:
    """Prefect's variables."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client

    async def read(self, name: str) -> Any:
        """A variable's value, None where there is none."""
        found = await self._client.read_variable_by_name(name)
        return None if found is None else found.value

    async def write(self, name: str, value: Any) -> None:
        """Set a variable, making it where it is new."""
        change = VariableUpdate.model_validate({"name": name, "value": value})
        try:
            await self._client.update_variable(change)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            try:
                await self._client.create_variable(VariableCreate.model_validate({"name": name, "value": value}))
            except ObjectAlreadyExists:  # made by somebody else meanwhile
                await self._client.update_variable(change)


@asynccontextmanager
async def _variables(name: str) -> AsyncIterator[_Variables]:
    """The variables, with a deadline, and with our error in place of Prefect's."""
    try:
        async with asyncio.timeout(SECONDS), get_client() as client:
            yield _Variables(client)
    except (TimeoutError, httpx.HTTPError) as error:
        raise ServiceError(
            f"variable {name}: Prefect's API failed ({type(error).__name__}); is the Prefect server up?"
        ) from None


async def _text(variables: _Variables, name: str) -> str | None:
    """What stands under a name now.

    Raises:
        IntegrityError: as `load_text`.
    """
    value = await variables.read(name)
    if value is None:
        return None
    head = _head(name, value)
    names = [_piece(name, head.side, number) for number in range(head.pieces)]
    pieces = [head.text, *await asyncio.gather(*(variables.read(one) for one in names))]
    whole = "".join(piece for piece in pieces if isinstance(piece, str))
    if _hash(whole) != head.sha256:
        raise IntegrityError(f"variable {name}: its pieces are not those that were saved; it is written anew at the next save")
    try:
        return unpacked(whole)
    except ValueError as error:
        raise IntegrityError(f"variable {name}: {error}; it is written anew at the next save") from None


def _head(name: str, value: object) -> _Head:
    try:
        return _Head.model_validate(value)
    except ValidationError:
        raise IntegrityError(
            f"variable {name}: not what this project wrote; it is written anew at the next save, or delete it"
        ) from None


def _other_side(value: object) -> str:
    """The side that is free to write on."""
    try:
        return _SIDES[1] if _Head.model_validate(value).side == _SIDES[0] else _SIDES[0]
    except ValidationError:
        return _SIDES[0]


def _piece(name: str, side: str, number: int) -> str:
    return f"{name}_{side}{number}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
