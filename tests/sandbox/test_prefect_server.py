"""What the sandbox's Prefect server keeps between starts."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from shared.sandbox.prefect_server import keep_copy


def test_several_sandboxes_keep_a_prepared_database_at_once(tmp_path: Path) -> None:
    database, kept = tmp_path / "server.sqlite", tmp_path / "cache" / "prepared.sqlite"
    with closing(sqlite3.connect(database)) as server:
        server.execute("PRAGMA journal_mode = WAL")
        server.execute(
            "CREATE TABLE run AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000) SELECT i FROM n"
        )
        server.commit()
        with ThreadPoolExecutor(8) as pool:
            for copied in [pool.submit(keep_copy, database, kept) for _ in range(24)]:
                copied.result()
    with closing(sqlite3.connect(kept)) as copy:
        assert copy.execute("SELECT count(*) FROM run").fetchone() == (50000,)
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
