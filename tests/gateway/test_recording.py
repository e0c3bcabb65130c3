"""What people decide through the gateway is in the same audit trail as everything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from blocks.object_store import BackupStore
from blocks.s3_light import LightStore, Place
from flows.runbook.audit import Entry, read
from railway.gateway.recording import Recorder
from shared.engines.object_store import S3Engine
from shared.engines.process import free_port

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)


def entry(minute: int) -> Entry:
    return Entry(at=NOW + timedelta(minutes=minute), kind="decided", actor="approval", result="approved", by="slack U042")


def light(engine: S3Engine, store: BackupStore, endpoint: str) -> LightStore:
    secret = SecretStr(engine.secret_key)
    return LightStore(Place(endpoint, store.name, engine.region, engine.access_key, secret), store.root, timeout=5)


def test_an_entry_of_the_gateways_is_read_by_who_reads_the_trail(s3_engine: S3Engine, store: BackupStore) -> None:
    with light(s3_engine, store, s3_engine.endpoint_url) as small:
        one = entry(0)
        Recorder(store.stack, small).record(one)
        assert read(store, NOW, NOW) == read(small, NOW, NOW) == [one]


def test_what_the_store_did_not_take_is_written_with_the_next_one(s3_engine: S3Engine, store: BackupStore) -> None:
    with light(s3_engine, store, f"http://127.0.0.1:{free_port()}") as gone:
        recorder = Recorder(store.stack, gone)
        recorder.record(entry(0))
        gone._place = light(s3_engine, store, s3_engine.endpoint_url)._place
        recorder.record(entry(1))
    assert [one.at.minute for one in read(store, NOW, NOW + timedelta(hours=1))] == [0, 1]


def test_without_a_store_nothing_fails() -> None:
    Recorder("prod", None).record(entry(0))
