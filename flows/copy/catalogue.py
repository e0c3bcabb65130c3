"""The copies in the second store, as the same catalogue as that of the stack's own store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from blocks.retry import retrying
from flows import catalogue
from flows.backup.manifest import Manifest
from flows.catalogue import Catalogue
from flows.copy.view import reading_from, view_of
from flows.stack import Stack

__all__ = ["holding", "load_from_either", "read"]


def read(stack: Stack) -> Catalogue:
    """Read every manifest of the second store, decrypted and verified.

    Raises:
        SettingsError: there is no second store, or nothing to open the copies with.
    """
    with closing(view_of(stack)) as view:
        return catalogue.read(view, stack.keys)


def load_from_either(stack: Stack, set_id: str) -> Manifest:
    """Read the manifest of a set with its definitions, from the second store where the stack's own has it no more.

    Raises:
        ObjectMissing: it is in neither.
    """
    with holding(stack, set_id) as source:
        return catalogue.with_definitions(source.store, source.keys, catalogue.load_manifest(source.store, source.keys, set_id))


@contextmanager
def holding(stack: Stack, set_id: str) -> Iterator[Stack]:
    """Give the stack as one set is read from: its own store, or the copies where that has the set no more."""
    own = stack.copy is None or retrying(lambda: stack.store.find(catalogue.manifest_key(stack.store, set_id))) is not None
    with reading_from(stack, "store" if own else "copy") as source:
        yield source
