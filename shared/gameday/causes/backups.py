"""The backups are gone, or one of them cannot be restored."""

from __future__ import annotations

from flows import catalogue
from shared.gameday.causes.cause import Cause

__all__ = ["DrillFailed", "SetsGone"]


class SetsGone(Cause):
    """A rule of somebody's deletes every backup set in the store."""

    key, numbers, what = "stale-backup", (23,), "every backup set is deleted from the store"
    service, aspects = "backups", ("newest-set",)
    runbook = "stale-backup"

    def cause(self) -> None:
        """As in `Cause`."""
        store = self.ground.stack.store
        store.remove([item.key for folder in ("sets", "packs") for item in store.list(f"{store.root}{folder}/")])

    def left(self) -> str:
        """As in `Cause`."""
        found = catalogue.read(self.ground.stack.store, self.ground.stack.keys).entries
        return "" if any(one.good for one in found) else "there is no good set"


class DrillFailed(Cause):
    """A stored object of the newest of several sets is damaged, and the next drill finds out."""

    key, numbers, what = "failed-drill", (23,), "a dump in the newest set is damaged; the next drill notices"
    service, aspects = "backups", ("newest-drill",)
    runbook = "failed-drill"

    def cause(self) -> None:
        """As in `Cause`."""
        ground = self.ground
        ground.run("backup/on-demand", {})  # so that there is another good one, as there is on any day but the first
        newest = catalogue.read(ground.stack.store, ground.stack.keys).need("latest")
        dump = newest.postgres[0].object
        key = f"{ground.stack.store.root}sets/{newest.id}/{dump.key}"
        data = bytearray(ground.stack.store.get(key))
        data[len(data) // 2] ^= 0xFF
        ground.stack.store.put(key, bytes(data))
        ground.control.wait(ground.control.start_run("drill/on-demand", {"request": {}}))
