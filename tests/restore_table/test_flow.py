"""The whole flow on the whole stack: previewed, refused, put beside, swapped, undone, forgotten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from blocks.errors import ApprovalMissing, RestoreRefused
from flows.backup.flow import BackupRequest, backup
from flows.restore_table.flow import TableRequest, restore_table
from flows.restore_table.journal import TableJournal
from shared.sandbox.stack import Sandbox

pytestmark = pytest.mark.long

DATABASE = "litellm"
PREPARE = """
CREATE TABLE item (id int PRIMARY KEY, note text);
INSERT INTO item SELECT i, 'note' FROM generate_series(1, 100) i;
"""


@contextmanager
def worker(sandbox: Sandbox) -> Iterator[None]:
    """Make this process see what a worker sees: the stack's environment and its Prefect server."""
    before = dict(os.environ)
    os.environ.update(sandbox.environment())
    try:
        with temporary_settings({PREFECT_API_URL: sandbox.prefect_api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run(**fields: object) -> TableJournal | None:
    """Run the flow."""
    request = {"component": f"postgres/{DATABASE}", "table": "item", **fields}
    return restore_table(TableRequest.model_validate(request))


@pytest.fixture
def connection(sandbox: Sandbox) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """LiteLLM's database with a small table more, and a set of it in the store."""
    with psycopg.connect(sandbox.postgres.url(DATABASE), autocommit=True) as live, worker(sandbox):
        live.execute(PREPARE)
        try:
            backup(BackupRequest(components=[f"postgres/{DATABASE}"]))
            yield live
        finally:
            live.execute("DROP TABLE item")


def test_a_table_is_previewed_put_beside_swapped_undone_and_forgotten(
    sandbox: Sandbox, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    def rows(table: str = "item") -> int:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        return int(str(row[0])) if row else 0

    def schemas() -> int:
        return rows("pg_namespace")

    connection.execute("DELETE FROM item WHERE id <= 30")
    before = schemas()
    assert run(dry_run=True, into="swap") is None
    plan = sandbox.artifact("table-restore-plan-sandbox")
    assert plan is not None
    assert "100 rows; live now: 70 rows" in plan
    assert "dry run: nothing was changed" in plan
    with pytest.raises(ApprovalMissing, match="confirmed for 'production'"):
        run(into="swap", confirm="production")
    with pytest.raises(RestoreRefused, match=r"no table itms; near names are: public\.item"):
        run(table="itms")
    assert (rows(), schemas()) == (70, before)

    beside = run()
    assert beside is not None
    told = sandbox.artifact("table-restore-sandbox")
    assert told is not None
    sql = told.partition("```sql")[2].partition("```")[0]
    with pytest.raises(RestoreRefused, match="changed nothing; forget drops it"):
        run(action="undo", confirm="sandbox")
    assert (rows(), rows(f"{beside.place('restored')}.item")) == (70, 100)
    connection.execute(sql.encode())
    assert rows() == 100
    run(action="forget", confirm="sandbox")
    connection.execute("DELETE FROM item WHERE id <= 30")
    run(into="swap", confirm="sandbox")
    assert rows() == 100
    run(action="undo", confirm="sandbox")
    assert rows() == 70
    run(action="forget", confirm="sandbox")
    assert (rows(), schemas()) == (70, before)
    assert run(action="finish") is None
