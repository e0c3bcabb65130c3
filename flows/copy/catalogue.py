"""The copies in the second store, as the same catalogue as that of the stack's own store."""

from __future__ import annotations

from contextlib import closing

from blocks.errors import ObjectMissing
from flows import catalogue
from flows.backup.manifest import Manifest
from flows.catalogue import Catalogue
from flows.copy.view import view_of
from flows.stack import Stack

__all__ = ["load_from_either", "read"]


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
    try:
        manifest = catalogue.load_manifest(stack.store, stack.keys, set_id)
        return catalogue.with_definitions(stack.store, stack.keys, manifest)
    except ObjectMissing:
        if stack.copy is None:
            raise
    with closing(view_of(stack)) as view:
        return catalogue.with_definitions(view, stack.keys, catalogue.load_manifest(view, stack.keys, set_id))
