"""What an upgrade asks of a stack, asked of the real one: how far it is migrated, a set under its lock, the data put back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from blocks.errors import GuardRefused
from flows.upgrade.journal import UpgradeJournal, save
from flows.upgrade.live import Live
from flows.upgrade.resume import start_run
from shared.sandbox.railway_runtime.catalogue import Catalogue
from shared.sandbox.railway_runtime.registry import IMAGES
from shared.sandbox.registry import RegistryDouble
from tests.nights.night import Night

pytestmark = pytest.mark.long


def test_what_a_migration_did_to_the_data_is_taken_back_from_the_set_of_the_start(night: Night) -> None:
    outside = Live(night.stack)

    @flow(name="an upgrade's data", log_prints=False)
    def there_and_back() -> str:
        with night.stack.exclusive("upgrade") as lease:
            set_id = outside.take_set("before an upgrade", lease, drill=False)
            night.clickhouse_command("TRUNCATE TABLE langfuse.scores")
            _in_litellm(night, 'ALTER TABLE "LiteLLM_SpendLogs" DROP COLUMN spend')
            outside.put_back(set_id, ("clickhouse/langfuse", "postgres/litellm"), lease)
        return set_id

    with night.as_worker():
        before = outside.databases()
        set_id = there_and_back()
        after = outside.databases()
    night.call("restore", action="forget", confirm="sandbox")  # what the way back has put aside
    assert before.litellm_schema is not None
    assert before.litellm_schema.applied > 50
    assert before.clickhouse_schema is not None
    assert before.foreign_tables == ()
    assert after == before
    assert night.differences(night.manifest(set_id)) == []
    assert night.manifest(set_id).protected
    assert not night.lease_holder(), "the set and the restore used the upgrade's lock, and gave nothing back early"


def test_requests_of_the_gateway_and_those_that_failed_are_counted(night: Night) -> None:
    counted = Live(night.stack).requests(datetime(2026, 11, 1, tzinfo=UTC))
    assert counted is not None
    every, failed = counted
    assert 0 < failed < every / 10


def test_an_image_is_asked_for_at_its_registry(night: Night) -> None:
    with RegistryDouble(Catalogue(IMAGES)) as registry:
        settings = night.stack.settings.model_copy(update={"registry_url": registry.url})
        stack = type(night.stack)(**{**vars(night.stack), "settings": settings})
        assert Live(stack).need_image("ghcr.io/berriai/litellm:v1.103.0").startswith("sha256:")
        with pytest.raises(GuardRefused, match="its registry has no such tag"):
            Live(stack).need_image("ghcr.io/berriai/litellm:v9.9.9")


def test_the_start_of_a_worker_starts_one_run_for_an_upgrade_that_was_left(night: Night) -> None:
    journal = UpgradeJournal(id="20261126T010000Z-abcdef", kind="litellm")
    save(night.store, journal)
    with night.as_worker():
        run = start_run(journal)
        assert start_run(journal) == run, "two containers that start at once"
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(run)
            client.delete_flow_run(run)
    assert found.parameters == {
        "service": "litellm",
        "request": {"action": "finish", "upgrade_id": journal.id},
    }


def _in_litellm(night: Night, statement: str) -> None:
    with night.admin.connect("litellm") as connection:
        connection.execute(statement.encode())
