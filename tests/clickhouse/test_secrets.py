"""The store's secret key and ClickHouse's password are nowhere they could be read."""

from __future__ import annotations

import logging

import pytest

from blocks.clickhouse_client import ClickHouseClient
from blocks.errors import ServiceError
from flows.backup.clickhouse import merges_stopped
from shared.engines.clickhouse import ClickHouseEngine
from tests.clickhouse.conftest import WITH_NULLS, Lab

TABLES = ("backups", "backup_log", "query_log", "processes", "named_collections", "errors")


def secrets_of(lab: Lab) -> list[str]:
    """What must not appear."""
    return [lab.store.secret_key.get_secret_value(), lab.server.password.get_secret_value()]


def test_no_secret_is_in_the_backup_the_servers_tables_its_log_or_ours(
    lab: Lab, client: ClickHouseClient, clickhouse_engine: ClickHouseEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    name = lab.database(*WITH_NULLS)
    full = lab.backup(name)
    client.command(f"INSERT INTO {name}.t VALUES (1, NULL, NULL)")
    difference = lab.backup(name, base=full)
    lab.restore(difference)
    client.command("SYSTEM FLUSH LOGS")
    stored = [item.key for one in (full, difference) for item in lab.store.list(one.prefix)]
    texts = {key: lab.store.get(key).decode(errors="replace") for key in stored}
    assert f"{full.prefix}{full.component.path}.backup" in texts
    for table in TABLES:
        texts[f"system.{table}"] = str(client.rows(f"SELECT * FROM system.{table}"))
    texts["the server's log"] = clickhouse_engine.log.read_text(errors="replace")
    texts["our log"] = caplog.text + "".join(lab.progress)
    texts["the manifest"] = full.component.model_dump_json() + difference.component.model_dump_json()
    assert f"{lab.server.collection}" in texts["system.backups"]
    for secret in secrets_of(lab):
        assert [where for where, text in texts.items() if secret in text] == []


def test_no_secret_is_in_an_error(lab: Lab) -> None:
    name = lab.database(*WITH_NULLS)
    unreachable = lab.server.model_copy(update={"collection": "odd collection`", "store_endpoint": "http://127.0.0.1:1"})
    with pytest.raises(ServiceError, match="was not done after 1 s and is ended") as caught:
        lab.backup(name, server=unreachable, deadline=1.0)
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    for secret in secrets_of(lab):
        assert not any(secret in repr(error) for error in chain)
    assert merges_stopped(lab.server, [name]) == []
