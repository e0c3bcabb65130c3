"""Journals outlive a writer that dies in the middle of a request, which leaves an empty object on some servers."""

from __future__ import annotations

import pytest

from blocks.errors import IntegrityError
from blocks.object_store import BackupStore
from flows import journals
from flows.journals import Journal

FOLDER = "restores"


class Note(Journal):
    """A journal that says one thing."""

    text: str


def written(store: BackupStore, *texts: str) -> list[str]:
    """Write a journal once for each text; returns the key that each writing went to."""
    note, keys = Note(id="r1", text=""), []
    for text in texts:
        before = {item.key: item.etag for item in store.list(store.root)}
        note.text = text
        journals.save(store, FOLDER, note)
        keys += [item.key for item in store.list(store.root) if before.get(item.key) != item.etag]
    return keys


def read(store: BackupStore) -> list[str]:
    """What the journals say."""
    return [note.text for note in journals.load_all(store, FOLDER, Note)]


def test_the_last_writing_holds(store: BackupStore) -> None:
    written(store, "one", "two", "three")
    assert read(store) == ["three"]


@pytest.mark.parametrize("torn", [b"", b'{"id": "r1", "wri'])
def test_a_torn_writing_leaves_the_one_before(store: BackupStore, torn: bytes) -> None:
    keys = written(store, "one", "two", "three")
    store.put(keys[-1], torn)
    assert read(store) == ["two"]


def test_after_a_torn_writing_it_goes_on(store: BackupStore) -> None:
    keys = written(store, "one", "two")
    store.put(keys[-1], b"")
    (note,) = journals.load_all(store, FOLDER, Note)
    note.text = "again"
    journals.save(store, FOLDER, note)
    assert read(store) == ["again"]


def test_a_torn_first_writing_is_no_journal(store: BackupStore) -> None:
    (key,) = written(store, "one")
    store.put(key, b"")
    assert read(store) == []


def test_one_that_nobody_can_read_is_named(store: BackupStore) -> None:
    (key,) = written(store, "one")
    store.put(key, b"not a journal")
    with pytest.raises(IntegrityError, match=r"restores/r1\.json is not the journal of a restore"):
        read(store)


def test_folders_below_are_not_journals(store: BackupStore) -> None:
    written(store, "one")
    store.put(f"{store.root}{FOLDER}/r2/bucket.plan.zst", b"x")
    assert read(store) == ["one"]
