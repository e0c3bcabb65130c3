"""rebuild-stack up to the restore, on the sandbox's Railway: keys first, then a project, deployed once, gone on with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect_aws import MinIOCredentials
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, NotHealed, SettingsError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.settings import Settings
from flows import journals
from flows.backup.manifest import BucketContents, KeyFingerprints, Manifest
from flows.catalogue import manifest_key
from flows.copy.view import view_of
from flows.deploy.rollout import Pace
from flows.restore.choose import chosen
from flows.runbook.frame import Verdict
from flows.runbook.rebuild import main
from flows.runbook.rebuild_facts import FOLDER, Known, RebuildJournal, decide, keys_of, unfit
from flows.runbook.rebuild_stack import Rebuild, RebuildRequest, rebuild_of
from flows.runbook.rebuilding import Patience
from flows.stack import Stack
from shared.engines.process import wait_until
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.options import Pace as PlatformPace
from tests.deploy.quiet_runtime import QuietRuntime
from tests.manifests import NIGHT, clickhouse, manifest, postgres, signed, stack_of, stored
from tests.runbook.cases import IMPATIENT, Desk
from tests.sandbox.railway_operator import Operator

IMAGE = "ghcr.io/acme/stack-operations:0.1.0"
CHANGES = ("projectCreate", "serviceCreate", "serviceInstanceDeployV2")


class Safe:
    """The second store with one copied set, the keys in the environment, and an account on Railway without the project."""

    def __init__(self, directory: Path, store: BackupStore, keys: BackupKeys) -> None:
        self.runtime = QuietRuntime()
        self.railway = RailwayStandIn(
            directory, self.runtime, pace=PlatformPace(build=0.0, poll=0.01, health=0.1, workflow=0.0)
        )
        assert keys.identity is not None
        assert keys.signing_key is not None
        self.environment = {
            "LITELLM_SALT_KEY": f"sk-{'s' * 40}",
            "ENCRYPTION_KEY": "ab" * 32,
            "SALT": "canary-salt-77aa",
            "BACKUP_SIGNING_KEY": keys.signing_key.get_secret_value(),
            "BACKUP_AGE_IDENTITY": keys.identity.get_secret_value(),
            "BACKUP_RECOVERY_RECIPIENT": keys.recipients[0],
            "COPY_BUCKET": "copies",
        }
        self.keys = keys_of(self.environment, keys)
        self.store = store
        self.stack: Stack = replace(stack_of(store, self.keys), copy=store)
        self.set_id = self.copied().id

    def __enter__(self) -> Safe:
        self.railway.start()
        settings = Settings(
            railway_api_url=self.railway.url,
            railway_api_token=SecretStr(self.railway.token("workspace")),
            worker_image=IMAGE,
        )
        self.stack = replace(self.stack, settings=settings)
        return self

    def __exit__(self, *_: object) -> None:
        self.railway.close()

    def copied(self) -> Manifest:
        """Put a signed, sealed manifest into the second store, as a copy does."""
        wrapped, values = self.keys.fingerprint()
        marks = KeyFingerprints(wrapped_key=wrapped, values=values)
        taken = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=5)
        draft = manifest(taken, stack=self.store.stack, components=[postgres(), clickhouse()], fingerprints=marks)
        made = signed(draft, self.keys)
        with closing(view_of(self.stack)) as view:
            view.put(manifest_key(view, made.id), made.to_json())
        return made

    def rebuild(self, **changes: str) -> Rebuild:
        """As the flow words it; `changes` of the environment."""
        request = RebuildRequest(project="again", workspace=self.railway.workspace_id, smoke=False, by="a test")
        made = rebuild_of(self.stack, request, {**self.environment, **changes})
        made.builder.pace = Pace(deployment=120, poll=0.05, setup=60)
        made.builder.patience = Patience(registered=0.1, restore=1, poll=0.05)
        return made

    def changes(self) -> list[str]:
        """What was made on Railway, in order."""
        return [name for one in self.railway.received() for name in CHANGES if name in one.fields]

    def journals(self) -> list[RebuildJournal]:
        return journals.load_all(self.store, FOLDER, RebuildJournal)


@pytest.fixture
def safe(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> Iterator[Safe]:
    with Safe(tmp_path, store, keys) as made:
        yield made


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


def test_the_stack_is_deployed_with_the_old_keys_and_a_second_run_goes_on_with_the_restore(safe: Safe, desk: Desk) -> None:
    stopped = r"again is not rebuilt yet: deployed; tried: make the project again.*has no restore/on-demand after"
    with pytest.raises(NotHealed, match=stopped):
        desk.heal(safe.rebuild())
    (asked,) = desk.asked
    assert "way back: delete the project" in asked
    assert safe.runtime.last("litellm").variables["LITELLM_SALT_KEY"] == safe.environment["LITELLM_SALT_KEY"]
    web = safe.runtime.last("langfuse-web").variables
    assert {name: web[name] for name in ("ENCRYPTION_KEY", "SALT")} == {
        name: safe.environment[name] for name in ("ENCRYPTION_KEY", "SALT")
    }
    worker = safe.runtime.last("prefect-worker").variables
    assert worker["STACK_NAME"] == safe.stack.name
    for name in ("BACKUP_AGE_IDENTITY", "BACKUP_SIGNING_KEY", "COPY_BUCKET"):
        assert worker[name] == safe.environment[name], "the new worker opens the old copies"
    assert worker["BACKUP_DRILL_RECIPIENT"] == safe.keys.own_recipient()
    (journal,) = safe.journals()
    assert (journal.phase, journal.set_id, bool(journal.project_id)) == ("deployed", safe.set_id, True)

    before = safe.changes()
    with pytest.raises(NotHealed, match="not rebuilt yet: deployed"):
        desk.heal(safe.rebuild())
    assert safe.changes() == before, "neither made nor deployed twice"
    assert [one.id for one in safe.journals()] == [journal.id]
    for secret in (*safe.environment.values(), safe.railway.token("workspace")):
        assert secret in ("copies", safe.environment["BACKUP_RECOVERY_RECIPIENT"]) or secret not in desk.text()


@pytest.mark.long
def test_killed_right_after_the_project_was_made_the_next_run_goes_on_in_that_one(safe: Safe, desk: Desk) -> None:
    class Killed(BaseException):
        pass

    def dies(said: str) -> None:
        if ": made: " in said:
            raise Killed

    rebuild = safe.rebuild()
    rebuild.builder.tell = dies
    with pytest.raises(Killed):
        desk.heal(rebuild)
    with pytest.raises(NotHealed, match="not rebuilt yet: deployed"):
        desk.heal(safe.rebuild())
    assert safe.changes().count("projectCreate") == 1
    assert safe.journals()[0].phase == "deployed"


@pytest.mark.long
def test_a_project_whose_creation_was_not_answered_is_not_made_twice(safe: Safe, desk: Desk) -> None:
    safe.railway.lose_answer(field="projectCreate")
    with pytest.raises(NotHealed, match="not rebuilt yet: deployed"):
        desk.heal(safe.rebuild())
    assert safe.changes().count("projectCreate") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"LITELLM_SALT_KEY": f"sk-{'t' * 40}"}, "LITELLM_SALT_KEY is not the one that the data of"),
        ({"ENCRYPTION_KEY": "cd" * 32}, "ENCRYPTION_KEY is not the one that the data of"),
        ({"SALT": ""}, "SALT is not in the environment of this program"),
        ({"BACKUP_SIGNING_KEY": secrets.token_hex(32)}, "BACKUP_SIGNING_KEY is not the one that signed"),
        ({"BACKUP_RECOVERY_RECIPIENT": ""}, "BACKUP_RECOVERY_RECIPIENT"),
    ],
)
def test_a_wrong_or_missing_key_is_told_before_anything_is_made(
    safe: Safe, desk: Desk, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(NotHealed, match=said) as failure:
        desk.heal(safe.rebuild(**changes))
    assert "nothing was made" in str(failure.value)
    assert (safe.changes(), safe.journals(), desk.asked) == ([], [], [])
    for name in ("LITELLM_SALT_KEY", "ENCRYPTION_KEY", "BACKUP_SIGNING_KEY"):
        assert changes.get(name, "-") not in desk.text().replace(name, "") or name not in changes


def test_a_project_that_holds_somebody_elses_services_is_left_alone(safe: Safe, desk: Desk) -> None:
    place = safe.rebuild().builder.place.make()
    with place.open() as api:
        api.create_service("their-shop")
    before = safe.changes()
    with pytest.raises(NotHealed, match=r"the project again is not empty \(their-shop\)"):
        desk.heal(safe.rebuild())
    assert (safe.changes(), safe.journals()) == (before, [])


def test_while_the_old_stack_still_runs_no_second_one_of_its_name_is_made(safe: Safe, desk: Desk) -> None:
    old = Operator(safe.railway)
    _, service_id = old.service("postgres:16", name="postgres")
    deployment = old.deployed(service_id)
    ids = {"railway_project_id": safe.railway.project_id, "railway_environment_id": safe.railway.environment_id}
    safe.stack = replace(safe.stack, settings=safe.stack.settings.model_copy(update=ids))
    before = safe.changes()
    with pytest.raises(NotHealed, match="postgres of the old stack still run: two stacks of one name"):
        desk.heal(safe.rebuild())
    assert (safe.changes(), safe.journals()) == (before, [])
    old.act("deploymentStop", deployment)
    wait_until(lambda: not safe.railway.running("postgres"), timeout=60, what="it to stop")
    assert desk.heal(safe.rebuild(), RebuildRequest(dry_run=True)) == "can heal"
    old.close()


def test_nothing_is_made_where_nobody_approves_and_a_dry_run_leaves_no_trace(safe: Safe, desk: Desk) -> None:
    before = {item.key: item.etag for item in safe.store.list(safe.store.root)}
    assert desk.heal(safe.rebuild(), RebuildRequest(dry_run=True)) == "can heal"
    assert {item.key: item.etag for item in safe.store.list(safe.store.root)} == before
    shown = desk.text()
    assert f"the rebuild of again from {safe.set_id}" in shown
    assert "+ service postgres" in shown
    assert "postgres litellm, clickhouse langfuse" in shown
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(safe.rebuild())
    assert (safe.changes(), safe.journals()) == ([], [])


def test_what_cannot_be_rebuilt_is_refused_before_anybody_is_asked(safe: Safe) -> None:
    asked = RebuildRequest(project="again", workspace="w")
    for request, stack, said in (
        (RebuildRequest(workspace="w"), safe.stack, "no project was named"),
        (RebuildRequest(project="again"), safe.stack, "no workspace was named"),
        (asked.model_copy(update={"variant": "starter"}), safe.stack, "starter stack has no worker"),
        (asked, replace(safe.stack, copy=None), "no second store"),
    ):
        with pytest.raises(SettingsError, match=said):
            rebuild_of(stack, request, safe.environment)


# --- decisions -----------------------------------------------------------------------------------------------------------

SET = manifest(components=[postgres(), clickhouse()])
DONE = RebuildJournal(id="j", project="again", set_id=SET.id, phase="done")


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (Known("again", SET), Verdict.HEALS, "begins"),
        (Known("again", SET, journal=DONE.model_copy(update={"phase": "made"})), Verdict.HEALS, "goes on"),
        (Known("again", SET, journal=DONE), Verdict.NOTHING, "and works"),
        (Known("again", SET, journal=DONE, wrong=["no trace"]), Verdict.PERSON, "does not work: no trace"),
        (Known("again", None, "no set 'x' here"), Verdict.PERSON, "no set 'x' here; nothing was made"),
        (Known("again", SET, order_error="no image of the worker"), Verdict.PERSON, "no image of the worker"),
        (Known("again", SET, faults=["a wrong salt"]), Verdict.PERSON, "a wrong salt; nothing was made"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, said: str) -> None:
    found = decide(known, ())
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence


def test_an_image_that_is_older_than_what_wrote_the_data_is_named(safe: Safe) -> None:
    order, error = safe.rebuild()._worded()
    assert (order is not None, error) == (True, "")
    newer = manifest(components=[postgres(server_version="19.1", server_major=19), clickhouse(server_version="99.1.2.3")])
    found = unfit(newer, chosen(newer, []), safe.keys, safe.environment, order)
    clickhouse_said, postgres_said = found[-2:]
    assert clickhouse_said.endswith("and langfuse was written by 99; give a newer image")
    assert postgres_said.startswith("postgres would be 16, and litellm was written by 19")


def test_a_bucket_that_the_new_stack_calls_otherwise_has_to_be_left_out(safe: Safe) -> None:
    index, packs = stored("buckets/elsewhere.index.zst"), stored("buckets/elsewhere.packs.zst")
    there = BucketContents(name="elsewhere", objects=1, bytes=1, index=index, packs=packs, started_at=NIGHT, finished_at=NIGHT)
    made = manifest(components=[postgres(), there])
    order, _ = safe.rebuild()._worded()
    found = unfit(made, chosen(made, []), safe.keys, safe.environment, order)
    assert "the set holds the bucket elsewhere, and that of the new stack is langfuse" in found[-1]
    left_out = unfit(made, chosen(made, ["postgres"]), safe.keys, safe.environment, order)
    assert not any("bucket" in one for one in left_out)


# --- from a laptop -------------------------------------------------------------------------------------------------------


def test_from_a_laptop_the_environment_alone_is_enough_and_its_dry_run_makes_nothing(
    safe: Safe, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = safe.store.bucket.credentials
    assert isinstance(credentials, MinIOCredentials)
    told = {
        **safe.environment,
        "STACK_NAME": safe.stack.name,
        "COPY_ENDPOINT": str(safe.store.endpoint),
        "COPY_BUCKET": safe.store.name,
        "COPY_ACCESS_KEY": credentials.minio_root_user,
        "COPY_SECRET_KEY": credentials.minio_root_password.get_secret_value(),
        "RAILWAY_API_URL": safe.railway.url,
        "RAILWAY_API_TOKEN": safe.railway.token("workspace"),
        "WORKER_IMAGE": IMAGE,
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    options = ["--project", "again", "--workspace", safe.railway.workspace_id]
    assert main([*options, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"the rebuild of again from {safe.set_id}" in out
    assert "would make the project again" in out
    assert main(options) == 1, "nobody sits at this terminal"
    assert "nobody to ask; read the plan with --dry-run, then give --yes; nothing was made" in capsys.readouterr().err
    monkeypatch.setenv("LITELLM_SALT_KEY", f"sk-{'t' * 40}")
    assert main([*options, "--yes"]) == 1
    shown = capsys.readouterr()
    assert "LITELLM_SALT_KEY is not the one that the data of" in shown.err
    assert (safe.changes(), safe.journals()) == ([], [])
    for name in ("LITELLM_SALT_KEY", "SALT", "BACKUP_AGE_IDENTITY", "RAILWAY_API_TOKEN", "COPY_SECRET_KEY"):
        assert told[name] not in out + shown.out + shown.err
