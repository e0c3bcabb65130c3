"""Upgrades by image, each kind through the same body: on the sandbox's Railway, with a real store for journals and lock."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from blocks.errors import GuardRefused, UpgradeFailed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.railway import PROTECTED
from flows.deploy.converge import converge, preview
from flows.deploy.plan import Order
from flows.deploy.present import DEPLOYED
from flows.deploy.rollout import Pace as DeployPace
from flows.lease import utc_now
from flows.upgrade.carry_out import upgrade_services
from flows.upgrade.look import Eyes
from flows.upgrade.orders import KINDS, Kind, UpgradeRequest
from flows.upgrade.rehearsal.record import Rehearsal, save
from railway.variants import build
from shared.engines.process import wait_until
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.options import Behaviour
from tests.documents import commands
from tests.upgrade.place import CANARY, FIRST, NEW, OLD, PACE, QUICK, Place, environment_of, new_image, stack_of
from tests.upgrade.town import Town, TownRuntime

DEPLOY_PACE = DeployPace(deployment=120, poll=0.02, setup=60)
ALL: tuple[Kind, ...] = get_args(Kind)
each = pytest.mark.parametrize("kind", ALL)
SHORT = ("litellm", "clickhouse")
each_in_time = pytest.mark.parametrize(
    "kind", [kind if kind in SHORT else pytest.param(kind, marks=pytest.mark.long) for kind in ALL]
)
"""One without and one with a volume; that the others do the same is proven where there is time."""


# --- success -------------------------------------------------------------------------------------------------------------


@each
def test_an_upgrade_ends_with_the_new_image_running_and_everything_noted(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, kind: Kind
) -> None:
    with Place(tmp_path, store, keys, kind) as place:
        journal = place.run()
        assert journal is not None
        assert (journal.phase, journal.fault) == ("done", "")
        for name in place.services:
            assert place.images()[name] == (new_image(name, kind),) * 3
        assert all(one.state == "done" for one in place.journal().steps)
        assert place.variables(FIRST[kind])[DEPLOYED] not in ("pending", f"mark of {FIRST[kind]}")
        assert CANARY not in place.journal_text()
        assert place.run() is None, "the second time there is nothing to do"


# --- what fails is undone ------------------------------------------------------------------------------------------------


@each
def test_a_service_that_is_not_well_after_its_deploy_is_taken_back_and_everything_is_as_before(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, kind: Kind
) -> None:
    with Place(tmp_path, store, keys, kind) as place:
        before = place.everything()
        place.town.tell("broken", new_image(FIRST[kind], kind))
        with pytest.raises(UpgradeFailed, match=r"undone: .*as well as before") as raised:
            place.run()
        assert raised.value.undone
        assert place.journal().phase == "undone"
        after = place.everything()
        if kind == "litellm":  # the newer resolver leaves a newer schema alone: no row is lost, and no restore is needed
            after["data"] = before["data"]
        assert after == before
        assert CANARY not in str(raised.value) + place.journal_text()


def test_a_migration_that_cannot_go_back_brings_the_data_back_from_the_set(
    tmp_path: Path, store: BackupStore, keys: BackupKeys
) -> None:
    """Langfuse's older image does not start on ClickHouse migrations that it does not know."""
    with Place(tmp_path, store, keys, "langfuse") as place:
        before = place.everything()
        place.town.tell("mute", new_image("langfuse-web", "langfuse"))
        with pytest.raises(UpgradeFailed, match="smoke test: langfuse-web: a completion is answered 500"):
            place.run()
        assert place.everything() == before
        assert "ClickHouse is at migration 226, 3.225.4 knows 225 at most" in place.journal().record("the data").outcome


def test_the_older_way_of_migrating_litellm_never_meets_a_newer_schema(
    tmp_path: Path, store: BackupStore, keys: BackupKeys
) -> None:
    with Place(tmp_path, store, keys, "litellm", variables={"litellm": {"USE_V2_MIGRATION_RESOLVER": ""}}) as place:
        before = place.everything()
        place.town.tell("broken", new_image("litellm", "litellm"))
        with pytest.raises(UpgradeFailed):
            place.run()
        assert place.everything() == before


def test_a_gateway_that_fails_requests_while_it_is_watched_is_taken_back(
    tmp_path: Path, store: BackupStore, keys: BackupKeys
) -> None:
    with Place(tmp_path, store, keys, "litellm") as place:
        place.town.tell("failing", new_image("litellm", "litellm"))
        with pytest.raises(UpgradeFailed, match="soak: 100 of 200 requests of the gateway have failed"):
            place.run()
        assert place.images()["litellm"] == (OLD["litellm"],) * 3


@each_in_time
def test_an_image_that_vanishes_after_the_gate_is_taken_back(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, kind: Kind
) -> None:
    with Place(tmp_path, store, keys, kind) as place:
        before = place.everything()
        place.town.need_image = lambda image: ""  # type: ignore[method-assign]  # it was there when the gate looked
        place.town.tell("gone", new_image(FIRST[kind], kind))
        with pytest.raises(UpgradeFailed, match=r"manifest unknown|FAILED"):
            place.run()
        assert place.everything() == before


@each_in_time
def test_an_api_that_throttles_and_loses_answers_is_waited_for(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, kind: Kind
) -> None:
    with Place(tmp_path, store, keys, kind) as place:
        place.railway.throttle(times=2, retry_after=0.02)
        place.railway.throttle(times=2, retry_after=0.02, field="serviceInstanceUpdate")
        place.railway.lose_answer(field="serviceInstanceDeployV2")
        place.railway.outage(times=1, field="variableCollectionUpsert")
        journal = place.run()
        assert journal is not None
        assert journal.phase == "done"
        assert place.images()[FIRST[kind]] == (new_image(FIRST[kind], kind),) * 3


# --- gates ---------------------------------------------------------------------------------------------------------------


def refusal(place: Place, **request: Any) -> str:
    """Why it does not begin; nothing may have been changed."""
    before = place.everything()
    with pytest.raises(GuardRefused) as raised:
        place.run(**request)
    assert place.everything() == before
    return str(raised.value)


def test_nothing_begins_on_a_stack_that_is_not_fit_for_it(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> None:
    with Place(tmp_path, store, keys, "litellm") as place:
        place.town.tell("gone", new_image("litellm", "litellm"))
        assert "its registry has no such tag" in refusal(place)
        place.town.tell("gone")
        assert "1.82.8 is a compromised release" in refusal(place, to="v1.82.8")
        assert "floats" in refusal(place, to="main-stable")
        place.town.tell("broken", OLD["litellm"])
        assert "litellm is down: litellm answers 503" in refusal(place)
        place.town.tell("broken")
        place.railway.stage({"sharedVariables": {"X": {"value": "1"}}})
        assert "1 changes wait in the dashboard" in refusal(place)


def test_a_preview_shows_the_last_rehearsal_and_one_that_found_problems_keeps_the_upgrade_from_beginning(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, caplog: pytest.LogCaptureFixture
) -> None:
    def rehearsed(*problems: str) -> None:
        wheel = {"litellm": "1.103.0", "extras": "0.5.1", "wheel_sha256": "0" * 64}
        save(store, Rehearsal(stack=store.stack, set_id="S1", at=utc_now(), problems=list(problems), **wheel))

    with Place(tmp_path, store, keys, "litellm") as place, caplog.at_level("INFO"):
        assert place.run(dry_run=True) is None
        assert (
            "rehearsal: none of this version; rehearse/litellm applies its migrations to a copy of the data" in caplog.messages
        )
        rehearsed("migration 7 finds two rows with one key")
        assert "LiteLLM 1.103.0 rehearsed with S1: migration 7 finds two rows with one key" in refusal(place)
        rehearsed()
        assert place.run(dry_run=True) is None
        assert "rehearsal: LiteLLM 1.103.0 rehearsed with S1: 0 migrations in 0.0 s, nothing is dropped (" in caplog.text


def test_a_preview_lists_every_step_and_a_run_refuses_the_hash_of_other_facts(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, caplog: pytest.LogCaptureFixture
) -> None:
    with Place(tmp_path, store, keys, "redis") as place, caplog.at_level("INFO"):
        before = place.everything()
        assert place.run(dry_run=True, confirm="") is None
        assert place.everything() == before
        shown = [one.message for one in caplog.records]
        plan_hash = next(one for one in shown if one.startswith("plan_hash: ")).removeprefix("plan_hash: ")
        assert any(one.startswith("2. take a backup set") and "back up the volume of redis" in one for one in shown)
        assert any("[irreversible: " in one for one in shown)
        assert "plan " + plan_hash in refusal(place, plan_hash=plan_hash, to="8.2.4")
        with place.api() as api:
            api.deploy(place.railway.service_id("redis"))  # somebody deploys meanwhile
        wait_until(lambda: set(place.states().values()) == {"SUCCESS"}, timeout=30, what="the deployment")
        assert "the facts have changed" in refusal(place, plan_hash=plan_hash)


def test_where_a_new_image_deploys_by_itself_it_ends_the_same(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> None:
    with Place(tmp_path, store, keys, "clickhouse", behaviour=Behaviour(source_update_deploys=True)) as place:
        before = place.everything()
        place.town.tell("broken", new_image("clickhouse", "clickhouse"))
        with pytest.raises(UpgradeFailed, match="undone"):
            place.run()
        assert place.everything() == before
        place.town.tell("broken")
        journal = place.run()
        assert journal is not None
        assert journal.phase == "done"


def test_the_last_upgrade_can_be_taken_back_afterwards(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> None:
    with Place(tmp_path, store, keys, "langfuse") as place:
        before = place.everything()
        place.run()
        journal = place.run(action="undo")
        assert journal is not None
        assert journal.phase == "undone"
        assert place.everything() == before
        assert json.loads(place.town.data()["postgres-langfuse.json"])["rows"] == ["first", "second"]


# --- Langfuse 3 to 4, and what the documents say -------------------------------------------------------------------------

FOR_FOUR = ("postgres", "redis", "clickhouse", "litellm")
BEFORE_FOUR = {"litellm": {"LITELLM_CONFIG": "litellm_settings:\n  success_callback: [langfuse]\n"}}


@pytest.mark.long
def test_langfuse_3_becomes_4_with_what_it_needs_clickhouse_first_and_back_again(
    tmp_path: Path, store: BackupStore, keys: BackupKeys
) -> None:
    with Place(tmp_path, store, keys, "langfuse", also=FOR_FOUR, variables=BEFORE_FOUR) as place:
        before = place.everything()
        place.town.tell("mute", "langfuse/langfuse:4.16.0")
        with pytest.raises(UpgradeFailed, match="smoke test"):
            place.run(to="4.16.0")
        assert place.everything() == before
        place.town.tell("mute")
        begun = len(place.runtime.started)
        journal = place.run(to="4.16.0")
        assert journal is not None
        assert journal.phase == "done"
        order = [one.service for one in place.runtime.started[begun:]]
        assert order == ["clickhouse", "litellm", "langfuse-web", "langfuse-worker"]
        for name in KINDS["langfuse"]:
            assert place.images()[name][2].endswith(":4.16.0")
            assert place.variables(name)["LANGFUSE_MIGRATION_V4_WRITE_MODE"] == "dual"
        assert "langfuse_otel" in place.variables("litellm")["LITELLM_CONFIG"]


def test_a_sealed_variable_that_could_not_be_put_back_is_not_changed(
    tmp_path: Path, store: BackupStore, keys: BackupKeys
) -> None:
    mode = "LANGFUSE_MIGRATION_V4_WRITE_MODE"
    with Place(tmp_path, store, keys, "langfuse", also=FOR_FOUR, variables={"langfuse-web": {mode: "legacy"}}) as place:
        place.railway.seal("langfuse-web", mode)
        with pytest.raises(GuardRefused, match=f"{mode} has to change and is sealed"):
            place.run(to="4.16.0")
        assert place.phase() == ""


def test_what_the_documents_tell_people_to_run_is_run(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> None:
    told = [one for one in commands() if one.deployment.startswith("upgrade/") and one.deployment != "upgrade/postgres"]
    kinds = {one.deployment.partition("/")[2] for one in told}
    assert kinds >= {"litellm", "langfuse", "prefect"}
    for number, kind in enumerate(kind for kind in ALL if kind in kinds):
        also = FOR_FOUR if kind == "langfuse" else ()
        mine = store.model_copy(update={"stack": f"{store.stack}-{kind}"})
        with Place(tmp_path / str(number), mine, keys, kind, also=also) as place:
            for command in (one for one in told if one.deployment == f"upgrade/{kind}"):
                request = {"to": "", **command.parameters_of_the_run["request"]}
                if request.get("action") == "undo":
                    place.run()
                assert place.run(**request) is None


# --- a deploy afterwards -------------------------------------------------------------------------------------------------


def small(image: str) -> Order:
    """LiteLLM and what it refers to, as a deploy asks for it; without SETUP, for there is no database."""
    stack = build("starter", object_store="bucket", images={"litellm": image}, name="test")
    names = ("postgres", "redis", "langfuse-web", "litellm")
    return Order(replace(stack, services={name: stack.services[name] for name in names}, buckets=()))


def test_a_deploy_that_is_told_of_it_finds_nothing_to_do_afterwards(
    tmp_path: Path, store: BackupStore, keys: BackupKeys
) -> None:
    new = new_image("litellm", "litellm")
    town = Town(tmp_path / "town")
    town.fill([1, 102, 4], ["first"])
    with (
        RailwayStandIn(tmp_path / "railway", TownRuntime(town), pace=QUICK) as railway,
        environment_of(railway).open(allow=PROTECTED) as api,
    ):
        converge(api, small(OLD["litellm"]), approve=lambda _: None, pace=DEPLOY_PACE)
        request = UpgradeRequest(to=NEW["litellm"], soak_minutes=0, confirm=store.stack)
        journal = upgrade_services(Eyes(stack_of(store, keys), api, town), "litellm", request, pace=PACE)
        assert journal is not None
        assert preview(api, small(new)).lines() == []
        assert preview(api, small(OLD["litellm"])).lines() != []
