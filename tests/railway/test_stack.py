"""The stack is what the services need, in both variants, with either Langfuse and either object store."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from prefect.settings import Settings as PrefectSettings

from blocks.__main__ import documents
from blocks.settings import Settings
from flows.stack import VERSION
from railway.services.images import defaults, tag_of, version_of
from railway.services.litellm import CONFIGURATION, configuration
from railway.stack import PRODUCTION, STARTER, LangfuseMajor, Literal, ObjectStore, Reference, Secret, SecretKind, Variant
from railway.variants import build
from shared.sandbox.stack import ROOT
from tests.railway.rendered import rendered, secrets
from tests.railway.stacks import MAJORS, SHIPPED, STORES, shipped

OF_OTHERS = {"BACKUP_RECOVERY_RECIPIENT", "BACKUP_DRILL_RECIPIENT", "PREFECT_UI_URL", "DO_NOT_TRACK"}
"""Variables of the worker that are no settings of the project: parts of one, and Prefect's own."""


def test_the_starter_has_seven_services_and_production_nine() -> None:
    assert (len(STARTER), len(PRODUCTION)) == (7, 9)
    assert tuple(shipped("starter").services) == STARTER
    assert tuple(shipped("production").services) == PRODUCTION


def test_with_buckets_of_railway_s_there_is_no_store_to_run() -> None:
    starter, production = shipped("starter", store="bucket"), shipped(store="bucket")
    assert "minio" not in starter.services
    assert "minio" not in production.services["langfuse-web"].needs
    assert (starter.buckets, production.buckets) == (("langfuse",), ("langfuse", "backups"))


@pytest.mark.parametrize(("variant", "major", "store"), SHIPPED)
def test_services_start_after_those_that_they_refer_to(variant: Variant, major: LangfuseMajor, store: ObjectStore) -> None:
    stack = shipped(variant, major, store)
    order = stack.start_order()
    assert sorted(order) == sorted(stack.services)
    for place, name in enumerate(order):
        service = stack.services[name]
        needed = (set(service.needs) | service.references()) - set(stack.buckets)
        assert needed <= set(order[:place]), name


def test_langfuse_web_which_migrates_and_makes_the_keys_starts_before_its_worker_and_before_litellm() -> None:
    order = shipped().start_order()
    assert order.index("langfuse-web") < min(order.index("langfuse-worker"), order.index("litellm"))
    assert order[-2:] == ["prefect-server", "prefect-worker"]


@pytest.mark.parametrize("store", STORES)
def test_the_worker_s_variables_are_the_settings_that_every_block_is_made_from(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = shipped(store=store)
    made = secrets(stack)
    variables = rendered(stack, "prefect-worker", made)
    assert {
        name.lower() for name in stack.services["prefect-worker"].variables.keys() - OF_OTHERS
    } <= Settings.model_fields.keys()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    kinds = {block.get_block_type_slug() for _, block in documents(settings)}
    assert kinds >= {
        "backup-store",
        "backup-keys",
        "source-bucket",
        "postgres-server",
        "clickhouse-server",
        "redis-server",
        "litellm-gateway",
        "langfuse-web",
        "langfuse-worker",
    }
    assert len(settings.backup_age_recipients) == 2
    assert settings.encryption_key is not None
    assert settings.encryption_key.get_secret_value() == made["langfuse-web", "ENCRYPTION_KEY"]
    assert settings.postgres_volume_gb == 20


def test_each_application_has_its_database_and_its_role() -> None:
    stack = shipped()
    made = secrets(stack)
    urls = {
        name: urlsplit(rendered(stack, name, made)["DATABASE_URL"]) for name in ("litellm", "langfuse-web", "langfuse-worker")
    }
    assert [(url.username, url.path) for url in urls.values()] == [
        ("litellm", "/litellm"),
        ("langfuse", "/langfuse"),
        ("langfuse", "/langfuse"),
    ]
    assert urls["litellm"].password == made["postgres", "LITELLM_DB_PASSWORD"]
    assert urls["litellm"].password != urls["langfuse-web"].password
    assert {url.hostname for url in urls.values()} == {"postgres.railway.internal"}


def test_litellm_has_the_keys_of_the_project_that_langfuse_makes() -> None:
    stack = shipped()
    made = secrets(stack)
    litellm, web = rendered(stack, "litellm", made), rendered(stack, "langfuse-web", made)
    assert litellm["LANGFUSE_PUBLIC_KEY"] == web["LANGFUSE_INIT_PROJECT_PUBLIC_KEY"]
    assert litellm["LANGFUSE_SECRET_KEY"] == web["LANGFUSE_INIT_PROJECT_SECRET_KEY"]
    assert litellm["LANGFUSE_HOST"] == "http://langfuse-web.railway.internal:3000", "traces stay in the private network"


@pytest.mark.parametrize("name", ["langfuse-web", "langfuse-worker"])
def test_only_langfuse_4_is_told_how_to_write(name: str) -> None:
    three, four = (shipped(major=major).services[name].variables for major in MAJORS)
    assert {variable for variable in four if variable not in three} == {
        "LANGFUSE_MIGRATION_V4_WRITE_MODE",
        "LANGFUSE_MIGRATION_V4_NATIVE_OTEL_BEHAVIOUR",
        "LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN",
    }


def test_media_are_stored_only_where_a_browser_reaches_the_bucket() -> None:
    inside, outside = (shipped(store=store).services["langfuse-web"].variables for store in STORES)
    assert "LANGFUSE_S3_MEDIA_UPLOAD_BUCKET" not in inside
    assert outside["LANGFUSE_S3_MEDIA_UPLOAD_ENDPOINT"] == Reference("${{langfuse.ENDPOINT}}")


def test_the_configuration_for_langfuse_3_is_the_file_and_for_4_differs_in_the_callback_alone() -> None:
    shipping = CONFIGURATION.read_text(encoding="utf-8")
    assert configuration(3, (1, 102, 4)) == configuration(4, (1, 104, 0)) == configuration(4, ()) == shipping
    document, other = yaml.safe_load(shipping), yaml.safe_load(configuration(4, (1, 102, 4)))
    assert other["litellm_settings"].pop("callbacks") == ["langfuse_otel"]
    assert document["litellm_settings"].pop("success_callback") == ["langfuse"]
    assert document["litellm_settings"].pop("failure_callback") == ["langfuse"]
    assert other == document


def test_clickhouse_s_logs_are_off_or_kept_for_a_week_and_the_ones_langfuse_reads_are_there() -> None:
    variables = shipped().services["clickhouse"].variables
    config, users = (variables[name] for name in ("CLICKHOUSE_CONFIG", "CLICKHOUSE_USERS_CONFIG"))
    assert isinstance(config, Literal)
    assert isinstance(users, Literal)
    server = ElementTree.fromstring(config.text)  # noqa: S314 - a file of ours
    logs = {element.tag: element for element in server if element.tag.endswith("_log")}
    off = {name for name, element in logs.items() if element.get("remove") == "1"}
    assert off >= {"trace_log", "text_log", "metric_log", "asynchronous_metric_log", "opentelemetry_span_log", "latency_log"}
    assert "query_log" not in off
    assert all("INTERVAL 7 DAY" in (logs[name].findtext("ttl") or "") for name in logs.keys() - off)
    user = ElementTree.fromstring(users.text).find(f"users/{variables['CLICKHOUSE_USER'].text}")  # type: ignore[union-attr]  # noqa: S314
    assert user is not None, "the user of the file is the service's"
    assert user.findtext("named_collection_control") == "1"


def test_versions_are_those_that_this_project_is_tested_with() -> None:
    images = defaults(3)
    locked = re.search(r"^litellm\[proxy\]==(\S+)$", (ROOT / "shared/sandbox/litellm.in").read_text(), flags=re.MULTILINE)
    assert locked
    assert tag_of(images["litellm"]) == f"v{locked[1]}"
    prefect = yaml.safe_load((ROOT / "prefect.yaml").read_text())["prefect-version"]
    assert ".".join(map(str, version_of(images["prefect-server"]))) == prefect
    assert f"prefect=={prefect} " in (ROOT / "requirements.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert tag_of(images["prefect-worker"]) == project == VERSION


def test_prefect_reads_every_variable_of_its_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stack = shipped()
    variables = rendered(stack, "prefect-server", secrets(stack)) | {"PREFECT_HOME": str(tmp_path)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    read = PrefectSettings().to_environment_variables(exclude_unset=True)
    key = "PREFECT_SERVER_ENCRYPTION_KEY"  # which Prefect takes from the environment itself
    assert {name for name in variables if name.startswith("PREFECT_")} - {key} <= read.keys()


def test_only_what_people_and_clients_use_has_a_public_address() -> None:
    assert [name for name, one in shipped().services.items() if one.public] == [
        "litellm",
        "langfuse-web",
        "prefect-server",
        "prefect-worker",
    ]


@pytest.mark.parametrize(("variant", "major", "store"), SHIPPED)
def test_every_service_is_described_whole(variant: Variant, major: LangfuseMajor, store: ObjectStore) -> None:
    for service in shipped(variant, major, store).services.values():
        assert service.about.endswith(".")
        assert service.limits
        assert service.port
        assert service.draining_seconds
        given = [one for one in service.variables.values() if isinstance(one, Secret) and one.kind == SecretKind.GIVEN]
        assert all(one.what for one in given)


def test_what_people_set_for_runbooks_and_hooks_is_carried_to_the_worker_by_a_deploy() -> None:
    theirs = ("_webhook_secret", "_webhook_token", "_signing_secret")
    wanted = {
        one for one in Settings.model_fields if one.startswith("runbook_") or one.endswith(theirs) or one == "slack_users"
    }
    variables = shipped().services["prefect-worker"].variables
    for name in sorted(wanted):
        value = variables.get(name.upper())
        assert isinstance(value, Secret), f"{name.upper()} belongs into OPTIONAL of railway/services/prefect.py"
        assert (value.kind, value.required) == (SecretKind.GIVEN, False)
    assert {"runbook_switches", "slack_signing_secret", "pagerduty_webhook_secret"} <= wanted


def test_an_image_for_a_service_that_is_not_there_is_a_mistake_and_said() -> None:
    with pytest.raises(ValueError, match="prefect-worker, which it has not"):
        build("starter", images={"prefect-worker": "ghcr.io/example/stack-operations:0.1.0"})


def test_the_names_of_the_services_can_be_had_without_loading_anything_heavy() -> None:
    program = (
        "import sys, railway.stack; heavy = {'pydantic', 'prefect', 'yaml', 'httpx', 'blocks', 'asyncio'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
