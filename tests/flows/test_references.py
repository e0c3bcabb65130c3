"""References between stores: what leads nowhere is counted, and only more of it than at the backup is a difference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flows.backup.manifest import Dangling
from flows.compare.references import MEDIA, PROJECTS, DeadEnds, compare_dangling, dangling, without_object, without_project

keys = st.lists(st.text(max_size=4), unique=True).map(sorted)


@given(keys, keys)
def test_every_key_without_an_object_is_counted(media: list[str], objects: list[str]) -> None:
    found = without_object(media, objects)
    missing = [key for key in media if key not in objects]
    assert (found.count, found.examples) == (len(missing), missing[:100])


def test_a_project_that_postgres_lacks_is_named() -> None:
    assert without_project({"a", "b", "c"}, {"b"}) == DeadEnds(2, ["a", "c"])


def test_worse_than_then_is_a_difference_and_equal_or_better_is_not() -> None:
    then = [Dangling(name=PROJECTS, count=1, examples=["gone"]), Dangling(name=MEDIA, count=2, examples=["a", "b"])]
    assert compare_dangling(then, then) == []
    assert compare_dangling(then, dangling(DeadEnds(0), DeadEnds(1, ["b"]))) == []
    worse = compare_dangling(then, dangling(DeadEnds(2, ["gone", "lost"]), DeadEnds(2, ["a", "b"])))
    assert [str(item) for item in worse] == [f"all stores together: {PROJECTS}: expected 1, found 2, such as lost"]


def test_what_was_not_counted_then_is_not_judged() -> None:
    assert compare_dangling([], dangling(DeadEnds(5, ["x"]), None)) == []
