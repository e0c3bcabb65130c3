"""The error tree: one line, a permanence, and survival on the way between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from blocks import errors
from blocks.errors import ServiceError, StackError

ALL = [getattr(errors, name) for name in errors.__all__]


def test_every_error_is_public_and_below_the_base() -> None:
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__}
    assert defined == set(errors.__all__)
    assert all(issubclass(kind, StackError) for kind in ALL)


@pytest.mark.parametrize("kind", ALL)
def test_the_tree_in_the_docstring_says_what_each_class_does(kind: type[StackError]) -> None:
    lines = [line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line]
    assert len(lines) == 1
    if kind is not StackError:
        assert ("(permanent)" in lines[0]) is kind.default_permanent
        assert ("(a retry can help)" in lines[0]) is not kind.default_permanent


@pytest.mark.parametrize("kind", ALL)
def test_the_tree_in_the_docstring_indents_as_the_classes_inherit(kind: type[StackError]) -> None:
    line = next(line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line)
    depth = len(kind.__mro__) - len(StackError.__mro__)
    assert line.index(kind.__name__) == 4 + 4 * depth


def test_a_message_is_one_line() -> None:
    assert str(StackError("pg_dump:\n  no\tsuch   table\r\n")) == "pg_dump: no such table"


def test_permanence_can_be_said_for_one_error() -> None:
    assert ServiceError("x").permanent is False
    assert ServiceError("x", permanent=True).permanent is True


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ServiceError("gone", permanent=True)))  # noqa: S301 - our own bytes
    assert (type(error), str(error), error.permanent) == (ServiceError, "gone", True)
