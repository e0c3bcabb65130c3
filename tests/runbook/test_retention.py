"""retention on real engines: what is old goes when a person approves and a set is proven; what is young never does."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from pydantic import SecretStr, ValidationError
from redis import Redis

from blocks.clickhouse import ClickHouseServer
from blocks.errors import ApprovalMissing, LeaseHeld, NotHealed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.redis import RedisServer
from flows.lease import acquire, utc_now
from flows.runbook.frame import RunbookRequest
from flows.runbook.old_rows import Old, facts_of
from flows.runbook.old_spend import DeleteSpend
from flows.runbook.old_traces import ends_before
from flows.runbook.retention import OldJobs, OldSpend, OldTraces, RetentionRequest, runbooks_of
from flows.side_file import DrillRecord, record
from flows.stack import Stack
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.postgres import PostgresEngine
from shared.engines.redis import RedisEngine
from tests import manifests
from tests.runbook.cases import Desk

BEFORE = datetime(2026, 9, 15, 12, tzinfo=UTC)


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


@pytest.fixture
def stack(store: BackupStore, keys: BackupKeys) -> Stack:
    return manifests.stack_of(store, keys)


def prove(stack: Stack, *, postgres: str = "litellm", clickhouse: str = "langfuse", hours: float = 1) -> None:
    """Put a set into the store that was taken so long ago and drilled since."""
    taken = utc_now() - timedelta(hours=hours)
    parts = [manifests.postgres(postgres), manifests.clickhouse(clickhouse)]
    made = manifests.commit(stack.store, stack.keys, taken, components=parts)
    numbers = {"recovery_seconds": 1, "compare_seconds": 1, "components": [postgres, clickhouse], "scratch": "here"}
    record(stack.store, made.id, drill=DrillRecord(set_id=made.id, at=utc_now(), ok=True, full=True, **numbers))


# --- ClickHouse ----------------------------------------------------------------------------------------------------------


class Traces:
    """A database with tables as Langfuse partitions them."""

    def __init__(self, engine: ClickHouseEngine) -> None:
        self.name = f"old_{secrets.token_hex(4)}"
        login = {"host": engine.host, "port": engine.port, "user": engine.user, "password": SecretStr(engine.password)}
        self.server = ClickHouseServer.model_validate({**login, "databases": [self.name]})
        self.run(f"CREATE DATABASE {self.name} ENGINE = Atomic")
        for table, column in {"traces": "timestamp", "observations": "start_time"}.items():
            self.run(
                f"CREATE TABLE {self.name}.{table} (id String, {column} DateTime64(3), event_ts DateTime64(3), "
                f"is_deleted UInt8) ENGINE = ReplacingMergeTree(event_ts, is_deleted) PARTITION BY toYYYYMM({column}) "
                f"ORDER BY (toDate({column}), id)"
            )
        self.run(
            f"CREATE TABLE {self.name}.blob_storage_file_log (id String, event_ts DateTime64(3)) ENGINE = MergeTree ORDER BY id"
        )
        for table in ("traces", "observations"):
            for day, rows in {"2026-07-03": 30, "2026-08-31": 20, "2026-09-15": 24, "2026-10-20": 10}.items():
                self.run(
                    f"INSERT INTO {self.name}.{table} SELECT '{day}-' || toString(number), "
                    f"toDateTime64('{day} 00:30:00', 3, 'UTC') + toIntervalHour(number % 24), now64(3), 0 FROM numbers({rows})"
                )
        self.run(f"INSERT INTO {self.name}.blob_storage_file_log SELECT toString(number), '2026-01-01' FROM numbers(5)")

    def run(self, statement: str) -> object:
        with self.server.client() as client:
            return client.command(statement)

    def state(self) -> list[list[object]]:
        """Every table with its rows and the hours that they have."""
        found = []
        with self.server.client() as client:
            for table, column in {
                "traces": "timestamp",
                "observations": "start_time",
                "blob_storage_file_log": "event_ts",
            }.items():
                sql = f"SELECT '{table}', count(), min({column}), max({column}), sum(cityHash64(id)) FROM {self.name}.{table}"
                found += [list(row) for row in client.rows(sql)]
        return found

    def rows(self, table: str) -> int:
        return next(int(str(row[1])) for row in self.state() if row[0] == table)


@pytest.fixture
def traces(clickhouse_engine: ClickHouseEngine) -> Iterator[Traces]:
    made = Traces(clickhouse_engine)
    yield made
    made.run(f"DROP DATABASE {made.name} SYNC")


def test_months_that_are_over_are_dropped_the_month_in_question_loses_its_old_rows_and_no_other_one(
    traces: Traces, stack: Stack, desk: Desk
) -> None:
    prove(stack, clickhouse=traces.name)
    runbook = OldTraces(stack, traces.server, BEFORE)
    before = traces.state()
    assert desk.heal(runbook, RunbookRequest(dry_run=True)) == "can heal"
    assert (traces.state(), desk.trail(), desk.asked) == (before, [], [])
    assert f"{traces.name}.traces | 62 of 84 rows are older" in desk.shown[0].markdown()
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(runbook)
    assert traces.state() == before
    desk.approves = True
    assert desk.heal(runbook) == "healed"
    assert (traces.rows("traces"), traces.rows("observations")) == (22, 22)
    assert "100 rows were dropped with their partitions, 24 deleted" in desk.text()
    with traces.server.client() as client:
        left = client.rows(f"SELECT min(timestamp) >= '2026-09-15 12:00:00' FROM {traces.name}.traces")
    assert left[0][0] == 1
    assert traces.rows("blob_storage_file_log") == 5, "Langfuse finds objects by it"
    assert f"{traces.name}.traces partition 202607: 30 of 30 rows, as a whole" in desk.asked[-1]
    assert desk.heal(runbook) == "nothing to do"


@pytest.mark.long
def test_a_table_that_is_not_partitioned_by_its_months_is_only_deleted_from(traces: Traces, stack: Stack, desk: Desk) -> None:
    prove(stack, clickhouse=traces.name)
    traces.run(f"DROP TABLE {traces.name}.traces SYNC")
    traces.run(
        f"CREATE TABLE {traces.name}.traces (id String, timestamp DateTime64(3), event_ts DateTime64(3)) "
        "ENGINE = MergeTree ORDER BY id"
    )
    traces.run(f"INSERT INTO {traces.name}.traces VALUES ('old', '2026-01-01', now()), ('young', '2026-11-01', now())")
    assert desk.heal(OldTraces(stack, traces.server, BEFORE)) == "healed"
    assert traces.rows("traces") == 1


@pytest.mark.parametrize("hours", [27.0, None])
def test_without_a_fresh_proven_set_of_that_database_nothing_goes(
    traces: Traces, stack: Stack, desk: Desk, hours: float | None
) -> None:
    prove(stack, clickhouse=traces.name if hours else "another", hours=hours or 1)
    manifests.commit(stack.store, stack.keys, utc_now(), components=[manifests.clickhouse(traces.name)])  # never drilled
    before = traces.state()
    with pytest.raises(NotHealed, match=r"no backup set of the last 26 h that holds clickhouse .* proven by a drill; run"):
        desk.heal(OldTraces(stack, traces.server, BEFORE))
    assert (traces.state(), desk.asked) == (before, [])


def test_while_another_flow_is_at_work_nothing_goes(traces: Traces, stack: Stack, desk: Desk) -> None:
    prove(stack, clickhouse=traces.name)
    lease = acquire(stack.store, flow="backup", holder="a test", seconds=60, wait=0)
    try:
        with pytest.raises(NotHealed, match="backup is at work; run this again when it has ended"):
            desk.heal(OldTraces(stack, traces.server, BEFORE))
        assert traces.rows("traces") == 84
    finally:
        lease.release()


# --- Postgres ------------------------------------------------------------------------------------------------------------


class Spend:
    """A database with LiteLLM's logs, one of them partitioned, and a table that has to stay."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.name, self.admin = f"old_{secrets.token_hex(4)}", psycopg.connect(engine.url(), autocommit=True)
        self.admin.execute(f'CREATE DATABASE "{self.name}"'.encode())
        self.server = PostgresServer(url=SecretStr(engine.url()))
        self.db = psycopg.connect(engine.url(self.name), autocommit=True)
        index = '"LiteLLM_SpendLogToolIndex"'
        days = "timestamp '2026-08-01' + (i % 90) * interval '1 day'"
        for statement in (
            'CREATE TABLE "LiteLLM_SpendLogs" (request_id text PRIMARY KEY, "startTime" timestamp(3) NOT NULL, messages text)',
            f"""INSERT INTO "LiteLLM_SpendLogs" SELECT 'r' || i, {days}, repeat('x', 200) FROM generate_series(1, 900) i""",
            f"CREATE TABLE {index} (request_id text, start_time timestamp(3)) PARTITION BY RANGE (start_time)",
            f"CREATE TABLE tools_8 PARTITION OF {index} FOR VALUES FROM ('2026-08-01') TO ('2026-09-01')",
            f"CREATE TABLE tools_9 PARTITION OF {index} FOR VALUES FROM ('2026-09-01') TO ('2027-09-01')",
            f"INSERT INTO {index} SELECT 'r' || i, {days} FROM generate_series(1, 900) i",
            'CREATE TABLE "LiteLLM_AuditLog" (id text PRIMARY KEY, updated_at timestamp(3))',
            """INSERT INTO "LiteLLM_AuditLog" VALUES ('a', '2020-01-01')""",
        ):
            self.db.execute(statement.encode())

    def rows(self, table: str) -> tuple[int, str]:
        column = "start_time" if table.endswith("Index") else "updated_at" if table.endswith("AuditLog") else '"startTime"'
        row = self.db.execute(f'SELECT count(*), min({column})::text FROM "{table}"'.encode()).fetchone()
        assert row is not None
        return int(row[0]), str(row[1])

    def state(self) -> list[tuple[int, str]]:
        return [self.rows(f"LiteLLM_{name}") for name in ("SpendLogs", "SpendLogToolIndex", "AuditLog")]

    def close(self) -> None:
        self.db.close()
        self.admin.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)'.encode())
        self.admin.close()


@pytest.fixture
def spend(postgres_engine: PostgresEngine) -> Iterator[Spend]:
    made = Spend(postgres_engine)
    yield made
    made.close()


def test_spend_logs_go_in_batches_also_out_of_partitions_and_the_audit_log_stays(
    spend: Spend, stack: Stack, desk: Desk
) -> None:
    runbook = OldSpend(stack, spend.server, spend.name, BEFORE, batch=100)
    before = spend.state()
    with pytest.raises(NotHealed, match="no backup set of the last 26 h that holds postgres old_"):
        desk.heal(runbook)
    prove(stack, postgres=spend.name)
    assert desk.heal(runbook, RunbookRequest(dry_run=True)) == "can heal"
    assert spend.state() == before
    assert desk.heal(runbook) == "healed"
    young = (440, "2026-09-16 00:00:00")
    assert spend.state() == [young, young, (1, "2020-01-01 00:00:00")]
    assert "LiteLLM_SpendLogs 460, tools_8 310, tools_9 150" in desk.text()
    assert "LiteLLM_SpendLogs: 460 of 900 rows" in desk.asked[-1]
    assert desk.heal(runbook) == "nothing to do"


@pytest.mark.long
def test_a_run_that_breaks_off_between_two_batches_is_gone_on_with_by_the_next(spend: Spend, stack: Stack, desk: Desk) -> None:
    prove(stack, postgres=spend.name)
    spend.db.execute(b"""CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
        IF (SELECT count(*) < 700 FROM "LiteLLM_SpendLogs") THEN RAISE EXCEPTION 'the disk is full'; END IF; RETURN NULL;
        END $f$""")
    spend.db.execute(b'CREATE TRIGGER stop AFTER DELETE ON "LiteLLM_SpendLogs" EXECUTE FUNCTION stop()')
    runbook = OldSpend(stack, spend.server, spend.name, BEFORE, batch=100)
    with pytest.raises(NotHealed, match=r"720 rows are older.*failed: postgres .*: delete old rows: the disk is full"):
        desk.heal(runbook)
    assert spend.rows("LiteLLM_SpendLogs")[0] == 700
    spend.db.execute(b'DROP TRIGGER stop ON "LiteLLM_SpendLogs"')
    assert desk.heal(runbook) == "healed"
    assert spend.rows("LiteLLM_SpendLogs")[0] == 440


def test_nothing_is_deleted_without_the_stacks_lock(spend: Spend, stack: Stack) -> None:
    lease = acquire(stack.store, flow="backup", holder="a test", seconds=60, wait=0)
    quick = Stack(**{**vars(stack), "settings": stack.settings.model_copy(update={"backup_lock_wait_seconds": 0})})
    found = (Old("LiteLLM_SpendLogs", 460, 900),)
    try:
        with pytest.raises(LeaseHeld):
            DeleteSpend(quick, found, BEFORE, spend.server, spend.name, 100).do()
    finally:
        lease.release()
    assert spend.rows("LiteLLM_SpendLogs")[0] == 900


# --- Redis, and the request ----------------------------------------------------------------------------------------------


def test_jobs_that_failed_long_ago_are_forgotten_when_a_person_approves(redis_engine: RedisEngine, desk: Desk) -> None:
    prefix = f"t{secrets.token_hex(4)}"
    key = f"{prefix}:ingestion-queue:"
    with Redis.from_url(redis_engine.url) as client:
        try:
            for number, day in enumerate((1, 10, 20)):
                client.hset(f"{key}{number}", mapping={"data": json.dumps({})})
                client.zadd(f"{key}failed", {str(number): 1000 * datetime(2026, 9, day, tzinfo=UTC).timestamp()})
            runbook = OldJobs(RedisServer(url=SecretStr(redis_engine.url)), prefix, BEFORE)
            desk.approves = False
            with pytest.raises(ApprovalMissing):
                desk.heal(runbook)
            assert client.zcard(f"{key}failed") == 3
            desk.approves = True
            assert desk.heal(runbook) == "healed"
            assert (client.zrange(f"{key}failed", 0, -1), client.exists(f"{key}0", f"{key}1")) == ([b"2"], 0)
            assert desk.heal(runbook) == "nothing to do"
        finally:
            client.delete(*[f"{key}{name}" for name in ("0", "1", "2", "failed")])


@pytest.mark.parametrize(
    ("month", "over"),
    [("202608", True), ("202609", False), ("202512", True), ("202613", False), ("all", False), ("20260801", False)],
)
def test_a_partition_goes_as_a_whole_only_when_its_month_is_over(month: str, over: bool) -> None:
    assert ends_before(month, BEFORE) is over


def test_the_very_end_of_a_month_is_over() -> None:
    assert ends_before("202608", datetime(2026, 9, 1, tzinfo=UTC))
    assert not ends_before("202608", datetime(2026, 8, 31, 23, 59, 59, tzinfo=UTC))


def test_a_slip_of_days_is_refused_and_zero_keeps_everything(stack: Stack) -> None:
    with pytest.raises(ValidationError, match="expected 0, which keeps all, or at least 7"):
        RetentionRequest(traces_days=1)
    assert runbooks_of(stack, RetentionRequest()) == []
    quick = Stack(**{**vars(stack), "redis": RedisServer(url=SecretStr("redis://127.0.0.1:1/0"))})
    assert [one.service for one in runbooks_of(quick, RetentionRequest())] == ["redis"]
    assert runbooks_of(quick, RetentionRequest(failed_days=0)) == []


def test_what_is_old_is_added_up_by_table() -> None:
    found = [
        Old("l.traces", 3, 5, 1_000_000, id="202608"),
        Old("l.traces", 0, 5, 2_000_000, id="202609"),
        Old("l.scores", 1, 1),
    ]
    assert facts_of(found) == {
        "l.traces": "3 of 10 rows are older (3.0 MB in all)",
        "l.scores": "1 of 1 rows are older (0.0 MB in all)",
    }
