"""The sets of a store as a person and the other flows see them, on the real store."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from blocks.errors import IntegrityError, ObjectMissing, RestoreRefused, StoreError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from flows import catalogue
from flows.backup.manifest import Manifest
from flows.catalogue import age, load_manifest, manifest_key, set_prefix, size, time_of
from flows.side_file import Check, DrillRecord, SideFile, record, side_file_key, update_side_file
from shared.engines.object_store import S3Engine
from shared.faults.proxy import S3Proxy
from shared.faults.traffic import Match, Rule, Traffic
from tests.manifests import NIGHT, clickhouse, commit, manifest, postgres, signed
from tests.stores import seen_through

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def drill(store: BackupStore, made: Manifest, *, ok: bool = True, full: bool = True, at: datetime = NIGHT + HOUR) -> None:
    """Record a drill beside a set."""
    outcome = DrillRecord(
        set_id=made.id,
        at=at,
        ok=ok,
        full=full,
        recovery_seconds=42,
        compare_seconds=7,
        components=["postgres/litellm"],
        scratch="embedded engines",
        differences=[] if ok else ["postgres litellm: sequence s: expected 1, found 2"],
    )
    record(store, made.id, drill=outcome)


# --- what is there -------------------------------------------------------------------------------------------------------


def test_an_empty_store_has_no_sets(store: BackupStore, keys: BackupKeys) -> None:
    assert catalogue.read(store, keys) == catalogue.Catalogue(entries=[], halves=[])


def test_sets_are_listed_newest_first_and_halves_apart(store: BackupStore, keys: BackupKeys) -> None:
    made = [commit(store, keys, NIGHT + day * DAY) for day in (1, 0, 2)]
    store.put(set_prefix(store, "20261129T030000Z-halfaa") + "postgres/litellm.dump.zst.age", b"")
    found = catalogue.read(store, keys)
    assert [entry.id for entry in found.entries] == [made[2].id, made[0].id, made[1].id]
    assert [entry.manifest for entry in found.entries] == [made[2], made[0], made[1]]
    assert found.halves == ["20261129T030000Z-halfaa"]


def test_a_drill_s_outcome_is_part_of_the_entry(store: BackupStore, keys: BackupKeys) -> None:
    proven, in_part, failed, never = [commit(store, keys, NIGHT + day * DAY) for day in (3, 2, 1, 0)]
    drill(store, proven)
    drill(store, in_part, full=False)
    drill(store, failed, ok=False)
    entries = {entry.id: entry for entry in catalogue.read(store, keys).entries}
    facts = {set_id: entry.facts() for set_id, entry in entries.items()}
    assert {set_id: item.drilled_at is not None for set_id, item in facts.items()} == {
        proven.id: True,
        in_part.id: False,
        failed.id: False,
        never.id: False,
    }
    assert [set_id for set_id, item in facts.items() if not item.good] == [failed.id]


def test_a_damaged_side_file_says_nothing_and_is_written_anew(store: BackupStore, keys: BackupKeys) -> None:
    made = commit(store, keys)
    store.put(side_file_key(store, made.id), b"{")
    entry = catalogue.read(store, keys).entries[0]
    assert entry.good
    assert entry.drill is None
    drill(store, made)
    assert catalogue.read(store, keys).entries[0].drill is not None


def test_two_who_write_down_findings_at_the_same_time_both_get_heard(store: BackupStore, keys: BackupKeys) -> None:
    made, present = commit(store, keys), Check(at=NIGHT, ok=True, what="3 objects")

    def slowly(known: SideFile) -> SideFile:
        if known.drill is None:
            drill(store, made)  # somebody else, between our reading and our writing
        return known.model_copy(update={"presence": present})

    written = update_side_file(store, made.id, slowly)
    assert written.presence == present
    assert written.drill is not None
    assert catalogue.read(store, keys).entries[0].checks == written


@pytest.mark.parametrize("level", ["presence", "hashes"])
def test_a_set_that_a_check_finds_damaged_is_not_good(store: BackupStore, keys: BackupKeys, level: str) -> None:
    older, made = commit(store, keys, NIGHT - DAY), commit(store, keys)
    missing = Check(at=NIGHT, ok=False, what="postgres/litellm.dump.zst.age is missing")
    record(store, made.id, **{level: missing})
    found = catalogue.read(store, keys)
    assert not found.find(made.id).good
    assert found.find("latest").id == older.id


def test_retention_is_told_what_the_manifest_says(store: BackupStore, keys: BackupKeys) -> None:
    base = commit(store, keys, NIGHT - DAY, components=[clickhouse()])
    made = commit(store, keys, components=[clickhouse(base=base.id), postgres()], protected=True)
    facts = catalogue.read(store, keys).entries[0].facts()
    assert (facts.id, facts.created_at, facts.protected) == (made.id, NIGHT, True)
    assert facts.bases == {base.id}


# --- what must not be believed -------------------------------------------------------------------------------------------


def _changed(made: Manifest, **changes: object) -> bytes:
    return json.dumps(json.loads(made.to_json()) | changes).encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda made, keys: _changed(made, label="forged"), "signature does not fit BACKUP_VERIFY_KEY"),
        (lambda made, keys: _changed(made, protected=True), "signature does not fit BACKUP_VERIFY_KEY"),
        (lambda made, keys: _changed(made, signature=None), "carries no signature"),
        (lambda made, keys: _changed(made, format=2), "not a manifest of format v1"),
        (lambda made, keys: _changed(made, extra="x"), "not a manifest of format v1"),
        (lambda made, keys: made.to_json()[:-2], "not a manifest of format v1"),
        (lambda made, keys: b"[]", "not a manifest of format v1"),
        (lambda made, keys: signed(manifest(NIGHT + HOUR, stack=made.stack), keys).to_json(), "somebody copied it here"),
        (lambda made, keys: signed(manifest(NIGHT, stack="another"), keys).to_json(), "that of another/"),
    ],
)
def test_a_manifest_that_is_not_what_was_signed_is_shown_as_faulty(
    store: BackupStore, keys: BackupKeys, change: object, says: str
) -> None:
    made = commit(store, keys)
    store.put(manifest_key(store, made.id), change(made, keys))  # type: ignore[operator]  # a lambda above
    with pytest.raises(IntegrityError, match=f"^set {made.id}: .*{says}"):
        load_manifest(store, keys, made.id)
    entry = catalogue.read(store, keys).entries[0]
    assert (entry.id, entry.manifest, entry.good) == (made.id, None, False)
    assert says in entry.fault
    assert entry.created_at == NIGHT
    assert not entry.facts().readable


def test_another_key_s_sets_are_faulty_and_stay(store: BackupStore, keys: BackupKeys) -> None:
    commit(store, keys)
    other = keys.model_copy(update={"signing_key": SecretStr(secrets.token_hex(32))})
    facts = catalogue.read(store, other).entries[0].facts()
    assert not facts.good
    assert not facts.readable


def test_a_manifest_of_a_run_that_died_while_writing_it_is_none(store: BackupStore, keys: BackupKeys) -> None:
    store.put(manifest_key(store, "20261123T030000Z-abcdef"), b"")
    with pytest.raises(ObjectMissing, match="its manifest is empty"):
        load_manifest(store, keys, "20261123T030000Z-abcdef")
    assert catalogue.read(store, keys).halves == ["20261123T030000Z-abcdef"]


def test_a_store_that_refuses_or_breaks_off_is_not_an_empty_catalogue(
    store: BackupStore, keys: BackupKeys, s3_engine: S3Engine
) -> None:
    """Or prune would think that there is nothing, and a backup that there is no base."""
    made, traffic = commit(store, keys), Traffic()
    with S3Proxy(s3_engine.port, traffic) as proxy:
        broken = seen_through(store, url=proxy.url)
        traffic.begin(Rule("403", Match("GET", r"/manifest\.json$", 1, 0)))
        with pytest.raises(StoreError):
            catalogue.read(broken, keys)
        traffic.begin(Rule("truncate", Match("GET", r"/manifest\.json$", 1, 1)))
        assert [entry.id for entry in catalogue.read(broken, keys).entries] == [made.id]
        assert traffic.hits
        traffic.end()


# --- choosing ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def week(store: BackupStore, keys: BackupKeys) -> list[Manifest]:
    """Five nights, oldest first; the last one failed its drill, the one before cannot be read."""
    made = [commit(store, keys, NIGHT + day * DAY) for day in range(5)]
    store.put(manifest_key(store, made[3].id), b"{}")
    drill(store, made[4], ok=False)
    return made


@pytest.mark.parametrize(
    ("choice", "night"),
    [
        ("latest", 2),
        ("20261123T030000Z-abcdef", 0),
        ("20261127T030000Z-abcdef", 4),
        ("2026-11-24", 0),
        ("2026-11-24 03:00", 1),
        ("2026-11-24T02:59:59", 0),
        ("2026-11-24T03:30:00+01:00", 0),
        ("2026-11-24T03:30:00Z", 1),
        ("2030-01-01", 2),
    ],
)
def test_a_set_is_chosen_as_a_person_names_it(
    store: BackupStore, keys: BackupKeys, week: list[Manifest], choice: str, night: int
) -> None:
    assert catalogue.read(store, keys).need(choice).id == week[night].id


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("yesterday", "no set 'yesterday' here; give latest, an id or a time; the newest are: 20261127T030000Z-abcdef, "),
        ("20261122T030000Z-abcdef", "no set '20261122T030000Z-abcdef' here"),
        ("2026-11-01", "no good set is as old as 2026-11-01 00:00 UTC; the oldest is 20261123T030000Z-abcdef"),
        ("20261126T030000Z-abcdef", "set 20261126T030000Z-abcdef: manifest.json is not a manifest"),
    ],
)
@pytest.mark.usefixtures("week")
def test_what_cannot_be_chosen_is_refused_with_what_can(store: BackupStore, keys: BackupKeys, choice: str, says: str) -> None:
    with pytest.raises(RestoreRefused) as refused:
        catalogue.read(store, keys).need(choice)
    assert str(refused.value).startswith(says)


def test_without_a_good_set_latest_is_refused() -> None:
    with pytest.raises(RestoreRefused, match="run backup/on-demand"):
        catalogue.Catalogue().find("latest")
    with pytest.raises(RestoreRefused, match="the oldest is none"):
        catalogue.Catalogue().find("2026-11-01")


def test_a_difference_s_base_is_the_newest_good_full_backup(store: BackupStore, keys: BackupKeys) -> None:
    """Never another difference (no chains), never a set that a drill found wanting, never another database's."""
    older = commit(store, keys, NIGHT, components=[clickhouse()])
    full = commit(store, keys, NIGHT + DAY, components=[clickhouse()])
    difference = commit(store, keys, NIGHT + 2 * DAY, components=[clickhouse(base=full.id)])
    commit(store, keys, NIGHT + 3 * DAY, components=[clickhouse("other"), postgres()])
    found = catalogue.read(store, keys)
    base = found.base_of("langfuse")
    assert base is not None
    assert base.id == full.id
    newest = found.newest_of("langfuse")
    assert newest is not None
    assert newest.id == difference.id
    assert found.base_of("nothing") is None
    drill(store, full, ok=False)
    base = catalogue.read(store, keys).base_of("langfuse")
    assert base is not None
    assert base.id == older.id


# --- words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (2 * 86400, "2 d")],
)
def test_ages_are_said_in_one_unit(seconds: int, words: str) -> None:
    assert age(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (10**9, "1.0 GB"), (5 * 10**15, "5000.0 TB")],
)
def test_sizes_are_said_in_one_unit(count: int, words: str) -> None:
    assert size(count) == words


def test_a_set_s_id_tells_its_time() -> None:
    assert time_of("20261123T030000Z-abcdef") == NIGHT
    assert time_of("no id") == datetime(1970, 1, 1, tzinfo=UTC)
