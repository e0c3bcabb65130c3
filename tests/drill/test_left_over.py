"""Scratch folders of drills that were killed go with the next drill; those of drills that run stay. Packs take turns."""

from __future__ import annotations

import signal
from datetime import date
from pathlib import Path

from blocks.object_store import BackupStore
from flows.drill.packs import load_packs_read, note_packs_read
from flows.drill.scratch import _in_use, remove_left_over
from shared.engines.process import wait_until
from tests.forks import Forked


def test_only_the_folders_that_nobody_holds_are_removed(tmp_path: Path) -> None:
    running, dead, other = tmp_path / "drill-running", tmp_path / "drill-dead", tmp_path / "notes"
    for folder in (running, dead, other):
        folder.mkdir()
    (dead / "postgres").mkdir()

    def hold() -> None:
        with _in_use(running):
            (running / "held").touch()
            signal.pause()

    with Forked(hold) as holder:
        wait_until((running / "held").exists, timeout=60, what="the drill holds its folder")
        remove_left_over(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["drill-running", "notes"]
        holder.kill()
        remove_left_over(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_packs_that_are_gone_are_forgotten_and_a_damaged_record_means_that_all_are_read_again(store: BackupStore) -> None:
    monday, tuesday = date(2026, 11, 23), date(2026, 11, 24)
    note_packs_read(store, ["a", "b"], monday, ["a", "b"])
    note_packs_read(store, ["c"], tuesday, ["b", "c"])
    assert load_packs_read(store).last_read == {"b": monday, "c": tuesday}
    store.put(f"{store.root}packs-read.json", b"")
    assert load_packs_read(store).last_read == {}
