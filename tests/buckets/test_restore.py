"""Objects put back, and that taken back: never more than asked, never over what somebody wrote, never wrong bytes."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import RestoreFailed, RestoreRefused, SettingsError
from blocks.object_store import BackupStore
from blocks.source_bucket import SourceBucket
from flows.buckets import backup as backing_up
from flows.buckets import steps as stepping
from flows.buckets.compare import Wanted, compare_bucket
from flows.buckets.packs import pack_key
from flows.buckets.plan import kept_folder, need_plan, phase_of, restores_of
from flows.buckets.prove import prove_packs
from flows.buckets.restore import Restored, restore_objects
from flows.buckets.undo import forget_objects, undo_objects
from shared.engines.process import wait_until
from tests.buckets.conftest import ODD_KEYS, Content, Nights
from tests.forks import Forked
from tests.stores import seen_through

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of 16 KiB, so that a few objects fill some."""
    monkeypatch.setattr(backing_up, "PACK_BYTES", 16 * 1024)


@pytest.fixture
def taken(content: Content, nights: Nights) -> Content:
    """A bucket of 60 objects, most of them plain, that is in a set."""
    for number in range(60 - len(ODD_KEYS)):
        content.put(f"events/p{number % 2}/{number:03}", secrets.token_bytes(1000))
    for number, key in enumerate(ODD_KEYS):
        content.put(key, b"" if key.endswith("/") else secrets.token_bytes(number * 50))
    nights.backup()
    return content


@pytest.fixture
def server_copies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the server copies what is kept, or it goes through us."""
    if not request.param:
        monkeypatch.setattr(stepping, "copied_by_server", lambda *_: False)
    return bool(request.param)


def _damage(content: Content) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Lose 50 objects, alter three, and add one; return what was, and what is left."""
    was = dict(content.objects)
    lost = [key for key in sorted(was) if key not in ("a", "a/b", "a-b", "media/😀.png", "new\nline")][:50]
    content.remove(*lost)
    content.put("a-b", b"altered, with another size")
    content.put("media/😀.png", secrets.token_bytes(len(was["media/😀.png"])))
    put = content.source.client.put_object
    put(Bucket=content.source.name, Key="new\nline", Body=b"typed", ContentType="image/png", Metadata={"who": "me"})
    content.objects["new\nline"] = b"typed"
    content.put("later", b"was not there then")
    return was, dict(content.objects)


def _about(content: Content, key: str) -> tuple[str, dict[str, str]]:
    head = content.source.client.head_object(Bucket=content.source.name, Key=key)
    return head["ContentType"], head["Metadata"]


# --- what is put back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_copies", [True, False], indirect=True, ids=["server copies", "through us"])
def test_fifty_lost_objects_and_altered_ones_come_back_and_undo_takes_all_of_it_back(
    taken: Content, nights: Nights, server_copies: bool
) -> None:
    was, left = _damage(taken)
    restored = nights.restore()
    assert taken.live() == was | {"later": b"was not there then"}
    assert restored.counts == {"added": 50, "replaced": 3}
    assert restored.examples["replaced"] == ["a-b", "media/😀.png", "new\nline"]
    kept = [item.key for item in nights.store.list(kept_folder(nights.store, "r1", taken.source.name))]
    assert len(kept) == 3
    assert phase_of(nights.store, "r1", taken.source.name) == "done"

    assert nights.restore("r2").counts == {}  # nothing is left to do
    again = nights.restore()  # the same one again: carried out already
    assert again.counts == {"as wanted": 53}

    undone = undo_objects(taken.source, nights.store, "r1", progress=nights.said.append)
    assert undone.counts == {"removed": 50, "put back": 3}
    assert taken.live() == left
    assert _about(taken, "new\nline") == ("image/png", {"who": "me"})
    assert undo_objects(taken.source, nights.store, "r1", progress=nights.said.append).counts == {"as wanted": 53}
    with pytest.raises(RestoreRefused, match="was taken back"):
        nights.restore()

    assert restores_of(nights.store, taken.source.name) == ["r1", "r2"]
    assert forget_objects(nights.store, "r1", taken.source.name) == 3
    assert restores_of(nights.store, taken.source.name) == ["r2"]
    with pytest.raises(RestoreRefused, match="has changed anything"):
        undo_objects(taken.source, nights.store, "r1", progress=nights.said.append)


def test_one_object_or_those_below_a_prefix(taken: Content, nights: Nights) -> None:
    was = dict(taken.objects)
    taken.remove(*[key for key in was if key.startswith("events/p")])
    assert nights.restore("one", key="events/p0/004").counts == {"added": 1}
    assert taken.live() == taken.objects | {"events/p0/004": was["events/p0/004"]}
    below = [key for key in was if key.startswith("events/p1/")]
    assert nights.restore("some", below="events/p1/").counts == {"added": len(below)}
    assert taken.live() == taken.objects | {key: was[key] for key in [*below, "events/p0/004"]}
    assert nights.restore("none", key="never was there").counts == {}
    with pytest.raises(SettingsError, match="not both"):
        nights.restore("both", key="a", below="b")


def test_what_was_not_there_then_is_only_deleted_when_asked_and_comes_back_by_undo(taken: Content, nights: Nights) -> None:
    was = dict(taken.objects)
    taken.put("later/1", b"one")
    taken.put("later/zero", b"")
    assert nights.restore("keep").counts == {}
    assert taken.live() == taken.objects
    assert nights.restore("delete", delete_extra=True).counts == {"deleted": 2}
    assert taken.live() == was
    assert undo_objects(taken.source, nights.store, "delete", progress=nights.said.append).counts == {"put back": 2}
    assert taken.live() == taken.objects


def test_type_metadata_and_large_objects_come_back(content: Content, nights: Nights) -> None:
    content.put("large", secrets.token_bytes(9 * MIB))
    content.put("larger", secrets.token_bytes(40 * MIB))  # in parts
    put = content.source.client.put_object
    put(Bucket=content.source.name, Key="typed", Body=b"x", ContentType="image/png", Metadata={"project": "p 1"})
    nights.backup()
    content.source.put("large", b"altered")
    content.source.remove(["larger", "typed"])
    nights.restore()
    assert content.live() == content.objects | {"typed": b"x"}
    assert _about(content, "typed") == ("image/png", {"project": "p 1"})
    undo_objects(content.source, nights.store, "r1", progress=nights.said.append)
    assert content.live() == {"large": b"altered"}


def test_a_comparison_names_what_is_missing_different_and_extra(taken: Content, nights: Nights) -> None:
    _damage(taken)
    component = nights.taken[-1][1]
    findings = list(compare_bucket(taken.source, nights.store, nights.prefix, component, Wanted()))
    kinds = [finding.kind for finding in findings]
    assert (kinds.count("missing"), kinds.count("different"), kinds.count("extra")) == (50, 3, 1)
    assert [finding.key for finding in findings] == sorted((f.key for f in findings), key=str.encode)


# --- what is left alone --------------------------------------------------------------------------------------------------


def test_what_somebody_writes_after_the_plan_was_made_is_left_alone(
    taken: Content, nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = dict(taken.objects)
    taken.remove("events/p0/000", "events/p0/002")
    taken.put("a-b", b"altered")
    taken.put("later", b"extra")

    def written_meanwhile(*_: Any) -> None:
        taken.put("events/p0/000", b"of somebody else")
        taken.put("a-b", b"altered again")
        taken.put("later", b"extra, and wanted")

    monkeypatch.setattr("flows.buckets.restore.save_phase", _once(written_meanwhile))
    restored = nights.restore(delete_extra=True)
    assert restored.counts == {"left alone": 3, "added": 1}
    assert taken.live() == taken.objects | {"events/p0/002": was["events/p0/002"]}
    taken.put("events/p0/002", b"written since")
    monkeypatch.undo()
    assert undo_objects(taken.source, nights.store, "r1", progress=nights.said.append).counts == {"left alone": 4}
    assert taken.live() == taken.objects


def _once(work: Callable[..., None]) -> Callable[..., None]:
    done: list[bool] = []

    def run(*arguments: Any) -> None:
        from flows.buckets.plan import save_phase

        if not done:
            done.append(True)
            work()
        save_phase(*arguments)

    return run


# --- what is damaged -----------------------------------------------------------------------------------------------------


def test_damaged_exchanged_and_missing_packs_are_named_and_nothing_wrong_is_put(taken: Content, nights: Nights) -> None:
    set_id, component = nights.taken[-1]
    store, was = nights.store, dict(taken.objects)
    packs = [pack_key(store, f"{set_id}-{number:05}") for number in range(1, 6)]
    assert len(packs) <= int(component.pack_ids[set_id].removeprefix("1-"))
    one, two = store.get(packs[0]), store.get(packs[1])
    store.put(packs[0], two)
    store.put(packs[1], one)
    damaged = bytearray(store.get(packs[2]))
    damaged[len(damaged) // 2] ^= 1
    store.put(packs[2], bytes(damaged))
    store.remove([packs[3]])

    everything = [f"{set_id}-{number:05}" for number in range(1, 9)]
    found = prove_packs(store, nights.keys, nights.prefix, component, everything)
    named = {number for number in range(1, 9) if any(f"{set_id}-{number:05}" in str(one) for one in found)}
    assert named == {1, 2, 3, 4}
    assert all(one.component == f"bucket {taken.source.name}" for one in found)
    assert {one.where for one in prove_packs(store, nights.keys, nights.prefix, component, [])} <= {
        f"pack {set_id}-{number:05}" for number in (1, 2, 4)
    }

    taken.remove(*was)
    with pytest.raises(RestoreFailed, match="4 packs could not be restored from whole") as failed:
        nights.restore()
    assert f"pack {set_id}-00001" in str(failed.value)
    live = taken.live()
    assert 0 < len(live) < len(was)
    assert live.items() <= was.items()

    store.put(packs[0], one)  # a copy was found elsewhere: the same restore goes on
    store.put(packs[1], two)
    with pytest.raises(RestoreFailed, match="2 packs"):
        nights.restore()
    assert taken.live().items() > live.items()
    undo_objects(taken.source, store, "r1", progress=nights.said.append)
    assert taken.live() == {}


def test_a_pack_with_the_right_names_and_sizes_but_older_bytes_is_named_and_nothing_of_it_is_put(
    content: Content, nights: Nights
) -> None:
    for night in range(2):
        for number in range(5):
            content.put(f"{number}", b"%d of night %d" % (number, night))
        nights.backup()
    (older, _), (newer, component) = nights.taken
    assert component.pack_ids == {newer: "1"}
    nights.store.put(pack_key(nights.store, f"{newer}-00001"), nights.store.get(pack_key(nights.store, f"{older}-00001")))
    content.remove("0", "1")
    with pytest.raises(RestoreFailed, match=f"pack {newer}-00001: the bytes of '0' in it are not those that were"):
        nights.restore()
    assert content.live() == content.objects
    found = prove_packs(nights.store, nights.keys, nights.prefix, component, [f"{newer}-00001"])
    assert {one.where for one in found} == {*(f"object '{number}'" for number in range(5)), f"pack {newer}-00001"}


def test_a_whole_set_is_proven_and_a_wrong_index_is_not(taken: Content, nights: Nights) -> None:
    set_id, component = nights.taken[-1]
    packs = [f"{set_id}-{number:05}" for number in range(1, 9)]
    assert prove_packs(nights.store, nights.keys, nights.prefix, component, packs) == []
    nights.store.put(nights.prefix + component.index.key, b"something else")
    (only,) = prove_packs(nights.store, nights.keys, nights.prefix, component, packs)
    assert only.where == "index and list of packs"


def test_a_lost_kept_object_is_named_and_the_rest_is_taken_back(taken: Content, nights: Nights) -> None:
    _, left = _damage(taken)
    restored = nights.restore()
    assert restored.counts["replaced"] == 3
    nights.store.remove([kept_folder(nights.store, "r1", taken.source.name) + "a-b"])
    with pytest.raises(RestoreFailed, match=r"1 objects could not be put back.*a-b"):
        undo_objects(taken.source, nights.store, "r1", progress=nights.said.append)
    live = taken.live()
    del live["a-b"], left["a-b"]
    assert live == left


# --- a process that dies -------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_restore_and_an_undo_that_are_killed_half_way_are_run_again(taken: Content, nights: Nights, tmp_path: Path) -> None:
    was, left = _damage(taken)
    set_id, component = nights.taken[-1]

    def restore(source: SourceBucket, store: BackupStore, say: Callable[[str], None] = lambda _: None) -> Restored:
        return restore_objects(
            source,
            store,
            nights.keys,
            nights.prefix,
            component,
            set_id=set_id,
            restore_id="r1",
            wanted=Wanted(),
            delete_extra=True,
            progress=say,
        )

    def undo(source: SourceBucket, store: BackupStore) -> None:
        undo_objects(source, store, "r1", progress=lambda _: None)

    def killed_when(action: Callable[[SourceBucket, BackupStore], object], moment: Callable[[], bool]) -> None:
        def work() -> None:
            action(SourceBucket(bucket=taken.source.bucket), seen_through(nights.store))  # connections of its own

        with Forked(work, temporary=tmp_path) as process:
            wait_until(lambda: moment() or not process.running, timeout=120, what="the moment to kill")

    def there() -> int:
        return sum(1 for _ in taken.source.objects())

    killed_when(restore, lambda: there() > len(left))
    with need_plan(nights.store, "r1", taken.source.name, None) as plan:
        assert plan.count == 54
    for key, data in taken.live().items():
        assert data in (was.get(key), left.get(key))
    killed_when(restore, lambda: there() > len(left) + 20)
    finished = restore(taken.source, nights.store, nights.said.append)
    assert sum(finished.counts.values()) == 54
    assert "left alone" not in finished.counts
    assert taken.live() == was
    killed_when(undo, lambda: there() < len(was))
    undone = undo_objects(taken.source, nights.store, "r1", progress=nights.said.append)
    assert "left alone" not in undone.counts
    assert taken.live() == left


def test_a_plan_that_was_cut_off_has_done_nothing_and_is_made_again(taken: Content, nights: Nights) -> None:
    was, _ = _damage(taken)
    name = f"{nights.store.root}restores/r1/{taken.source.name}.plan.zst"
    for torn in (b"", b"\x28\xb5\x2f\xfd"):
        nights.store.put(name, torn)
        with pytest.raises(RestoreRefused):
            undo_objects(taken.source, nights.store, "r1", progress=nights.said.append)
    nights.restore()
    assert taken.live() == was | {"later": b"was not there then"}
    with pytest.raises(RestoreRefused, match="no plan for set"):
        restore_objects(
            taken.source,
            nights.store,
            nights.keys,
            nights.prefix,
            nights.taken[-1][1],
            set_id="another",
            restore_id="r1",
            wanted=Wanted(),
            progress=nights.said.append,
        )


def test_what_a_cut_off_request_left_of_an_object_is_written_anew(taken: Content, nights: Nights) -> None:
    """SeaweedFS stores nothing of a body that never came, but an object of no bytes."""
    was = dict(taken.objects)
    taken.remove("events/p0/000", "events/p0/002")
    nights.restore()
    taken.put("events/p0/000", b"")
    nights.restore()
    assert taken.live() == was
    taken.put("events/p0/000", b"")
    undo_objects(taken.source, nights.store, "r1", progress=nights.said.append)
    assert "events/p0/000" not in taken.live()
