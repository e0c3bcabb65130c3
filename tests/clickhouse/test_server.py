"""The block: what it finds, what it refuses, and that its errors help."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient, StatementFailed, identifier, literal
from blocks.errors import AccessDenied, ServiceError, SettingsError
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.process import free_port
from tests.clickhouse.conftest import WITH_NULLS, Lab, server_of


def test_a_good_server_passes_its_check(server: ClickHouseServer) -> None:
    server.check()
    text, numbers = server.version()
    assert text.startswith(".".join(str(number) for number in numbers[:2]))


def test_a_wrong_password_is_said_without_it(server: ClickHouseServer) -> None:
    wrong = server.model_copy(update={"password": SecretStr("canary-password")})
    with pytest.raises(AccessDenied, match="check CLICKHOUSE_USER, CLICKHOUSE_PASSWORD and the grants") as caught:
        wrong.check()
    assert caught.value.permanent
    assert "canary-password" not in str(caught.value)
    assert "canary-password" not in repr(wrong)


def test_a_server_that_is_not_there_may_be_tried_again() -> None:
    with pytest.raises(ServiceError, match="no answer \\(connection refused\\)") as caught:
        ClickHouseServer(host="127.0.0.1", port=free_port()).check()
    assert not caught.value.permanent
    assert "\n" not in str(caught.value)


def test_a_refused_statement_is_one_line_with_its_code(client: ClickHouseClient) -> None:
    with pytest.raises(StatementFailed) as caught:
        client.rows("SELECT * FROM no_such_database.t")
    assert caught.value.code == 81
    assert caught.value.permanent
    assert "Database no_such_database does not exist. (UNKNOWN_DATABASE) [code 81]" in str(caught.value)
    assert "http" not in str(caught.value)


def test_settings_the_server_does_not_have_are_left_out(client: ClickHouseClient) -> None:
    assert client.known({"max_threads": 1, "no_such_setting": 2, "query_id": "x"}) == {"max_threads": 1, "query_id": "x"}
    assert client.rows("SELECT getSetting('max_threads')", settings={"max_threads": 3, "no_such_setting": 2}) == [(3,)]


def test_databases_are_those_that_hold_data_and_are_nobodys_copy(lab: Lab) -> None:
    mine, copy = lab.database(*WITH_NULLS), lab.database(suffix="__kept_abc123")
    found = lab.server.database_names()
    assert mine in found
    assert copy not in found
    assert not {"system", "INFORMATION_SCHEMA", "information_schema"} & set(found)
    assert lab.server.model_copy(update={"databases": [mine]}).database_names() == [mine]
    with pytest.raises(SettingsError, match="there is no database 'nowhere'; set CLICKHOUSE_DB to some of"):
        lab.server.model_copy(update={"databases": ["nowhere"]}).check()


def test_an_empty_default_database_is_left_out(tmp_path: Path) -> None:
    engine = ClickHouseEngine(tmp_path / "fresh")
    engine.start()
    try:
        assert server_of(engine).database_names() == []
    finally:
        engine.stop()


def test_the_collection_is_made_once_and_follows_new_keys(lab: Lab, client: ClickHouseClient) -> None:
    other = lab.server.model_copy(update={"collection": "tests_collection"})
    wrong = other.model_copy(update={"store_endpoint": "http://127.0.0.1:1"})
    for server in (wrong, other, other):
        server.ensure_collection(lab.store)
    taken = lab.backup(lab.database(*WITH_NULLS), server=other)
    assert lab.drill(taken, server=other) == []
    assert client.rows("SELECT count() FROM system.named_collections WHERE name = 'tests_collection'") == [(1,)]


def test_an_address_that_clickhouse_would_take_for_aws_is_refused(lab: Lab) -> None:
    with pytest.raises(SettingsError, match=r"'s3://bucket' is not http\(s\)://host"):
        lab.server.model_copy(update={"store_endpoint": "s3://bucket"}).ensure_collection(lab.store)


@pytest.mark.parametrize("name", ["plain", "with `ticks`", "back\\slash", "new\nline", "quote's"])
def test_names_and_strings_survive_quoting(client: ClickHouseClient, name: str) -> None:
    assert client.rows(f"SELECT 1 AS {identifier(name)}, {literal(name)}") == [(1, name)]
