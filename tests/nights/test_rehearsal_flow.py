"""A LiteLLM upgrade rehearsed on the sandbox: its real schema out of a set, and the wheel that pip brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blocks.errors import RehearsalFailed
from flows.upgrade.rehearsal.flow import rehearse as flow
from flows.upgrade.rehearsal.record import load
from shared.sandbox import litellm_schema
from tests.documents import commands
from tests.nights.night import Night
from tests.upgrade import wheels

pytestmark = pytest.mark.long

MORE = "20991231000000_more"


def real(more: str = "") -> dict[str, str]:
    """The migrations of the package that is installed, and one more."""
    found = {file.parent.name: file.read_text(encoding="utf-8") for file in litellm_schema.migrations()}
    return {**found, **({MORE: more} if more else {})}


@pytest.fixture(scope="module")
def backed_up(loaded: Night) -> Night:
    """A stack with a set of LiteLLM's database."""
    loaded.reset()
    loaded.call("backup", components=["postgres/litellm"])
    return loaded


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def rehearse(night: Night, parameters: dict[str, Any]) -> Any:
    with night.as_worker():
        return flow(**parameters)


def test_the_newest_sets_database_takes_the_versions_migrations_and_nothing_live_is_touched(
    backed_up: Night, index: Path
) -> None:
    wheels.litellm(index, "1.108.0", 'litellm-proxy-extras==0.4.112; extra == "proxy"')
    wheels.extras(
        index, "0.4.112", real('ALTER TABLE "LiteLLM_SpendLogs" ADD COLUMN rehearsed text DEFAULT md5(random()::text);')
    )
    before = backed_up.databases()
    found = rehearse(backed_up, {"request": {"to": "ghcr.io/berriai/litellm:v1.108.0"}})
    assert [(one.name, one.outcome, one.blocked) for one in found.applied] == [(MORE, "applied", ("LiteLLM_SpendLogs",))]
    assert (found.ok, found.lost, found.extras, found.set_id) == (True, [], "0.4.112", backed_up.newest().id)
    assert load(backed_up.store, "1.108.0") == found
    assert backed_up.databases() == before
    columns = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'rehearsed'"
    with backed_up.admin.connect("litellm") as live:
        assert live.execute(columns.encode()).fetchone() == (0,)
    report = backed_up.sandbox.artifact("rehearsal-sandbox") or ""
    assert "it may be made" in report
    assert found.wheel_sha256 in report
    assert backed_up.scratch() == []


def test_a_version_whose_migration_does_not_fit_the_data_is_not_to_be_upgraded_to(backed_up: Night, index: Path) -> None:
    wheels.litellm(index, "1.109.1", 'litellm-proxy-extras==0.4.113; extra == "proxy"')
    wheels.extras(index, "0.4.113", real('ALTER TABLE "LiteLLM_SpendLogs" ALTER request_id TYPE uuid USING request_id::uuid;'))
    with pytest.raises(
        RehearsalFailed, match=rf"{MORE} fails: .*uuid.*do not upgrade to it; nothing live was touched"
    ) as raised:
        rehearse(backed_up, {"request": {"to": "1.109.1"}})
    assert "\n" not in str(raised.value)
    assert "it must NOT be made" in (backed_up.sandbox.artifact("rehearsal-sandbox") or "")
    assert backed_up.scratch() == []


def test_what_the_documents_tell_people_to_rehearse_can_be(backed_up: Night, index: Path) -> None:
    told = [one.parameters for one in commands() if one.deployment == "rehearse/litellm"]
    assert told
    for version in {one["request"]["to"] for one in told}:
        wheels.litellm(index, version, 'litellm-proxy-extras==0.4.110; extra == "proxy"')
    wheels.extras(index, "0.4.110", real())
    for parameters in told:
        assert rehearse(backed_up, parameters).ok
