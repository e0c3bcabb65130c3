"""LiteLLM's logs of what was spent grow until they fill Postgres' volume."""

from __future__ import annotations

from flows.health.targets import Limits
from shared.engines.process import wait_until
from shared.gameday.causes.cause import Cause

__all__ = ["SpendGrows"]

_TABLE = '"LiteLLM_SpendLogs"'
_ROWS = 4000
"""Of one insert; each of 6 kB, as a request takes (litellm#41499), and from a month ago."""
_PIECES = 190
"""Of 32 digits each."""
_DAYS = 7
_SHRINK_S = 120.0


class SpendGrows(Cause):
    """Nobody set a retention: every request of the last months is in LiteLLM_SpendLogs, with its messages.

    What deletes data is for a person, who runs `retention`. It gives files back only where their ends are empty, and what it
    wrote on its way stands in the WAL: the person sees to both.
    """

    key, numbers, what = "spend-logs", (13,), "spend logs of a month ago fill Postgres' volume"
    service, aspects = "postgres", ("database-sizes",)

    def cause(self) -> None:
        """As in `Cause`."""
        number = 0
        while not self._over(1.05):  # a checkpoint may make it a little smaller
            number += 1
            self.ground.postgres("litellm", _FILL, [f"gameday-{number}-", _PIECES, _ROWS])
            self.ground.postgres("litellm", "CHECKPOINT")  # else it is the WAL that grows

    def undo(self) -> None:
        """As in `Cause`."""
        if self._rows():
            kept = {"traces_days": 0, "failed_days": 0, "spend_days": _DAYS}
            self.ground.run("retention/runbook", {**kept, "confirm": self.ground.name, "by": "game day", "why": self.what})
        if self.left() or self._over():
            self.ground.postgres("litellm", f"VACUUM FULL {_TABLE}")
            wait_until(self._has_shrunk, timeout=_SHRINK_S, what="Postgres to give back what its WAL takes", pause=0.1)

    def left(self) -> str:
        """As in `Cause`."""
        if rows := self._rows():
            return f"{rows} rows are left"
        ((size,),) = self.ground.postgres("litellm", "SELECT pg_total_relation_size(%s)", [_TABLE])
        return f"the files still take {float(str(size)) / 1e6:.0f} MB" if float(str(size)) > 1e7 else ""

    def _rows(self) -> int:
        ((rows,),) = self.ground.postgres("litellm", f"SELECT count(*) FROM {_TABLE} WHERE request_id LIKE 'gameday-%%'", [])
        return int(str(rows))

    def _over(self, share: float = 1.0) -> bool:
        """Whether databases and WAL take more than that share of what they may."""
        ((size,),) = self.ground.postgres("postgres", _SIZE)
        most = 1e9 * float(self.ground.environment["POSTGRES_VOLUME_GB"]) * Limits().volume_percent / 100
        return float(str(size)) > share * most

    def _has_shrunk(self) -> bool:
        """End a segment of the WAL, which a checkpoint may then remove, and look."""
        self.ground.postgres("postgres", "SELECT pg_switch_wal()")
        self.ground.postgres("postgres", "CHECKPOINT")
        return not self._over(0.9)


_FILL = f"""
INSERT INTO {_TABLE} (request_id, call_type, "startTime", "endTime", messages)
SELECT %s || i, 'acompletion', past, past,
  to_jsonb((SELECT string_agg(md5(random()::text || i || piece), '') FROM generate_series(1, %s) AS piece))
FROM (SELECT now() AT TIME ZONE 'UTC' - interval '30 days' AS past) AS once, generate_series(1, %s) AS i
"""
_SIZE = "SELECT (SELECT sum(pg_database_size(oid)) FROM pg_database) + (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir())"
