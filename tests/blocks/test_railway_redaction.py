"""Nothing that came from Railway, or went there, is said again: canaries in every place where a secret can stand."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.errors import DeploymentFailed, RailwayRefused
from blocks.railway_api.models import BucketCredentials, ServiceSettings
from blocks.railway_api.redaction import HIDDEN, Secrets, Variables
from tests.blocks.railway_script import Script, api_of, deployment, environment, error

SECRET = "canary/7d3f+word"
URL = "postgresql://litellm:canary%2F7d3f%2Bword@postgres.railway.internal:5432/litellm"
VALUES = {"DATABASE_URL": URL, "MASTER_KEY": "abc", "PORT": "4000", "CONFIG": f"a: 1\nkey: {SECRET}"}
EVENTS: dict[str, Any] = {"deploymentEvents": {"edges": []}}


def test_variables_do_not_show_their_values() -> None:
    answers = {"Variables": [{"variables": VALUES}], "VariablesRendered": [{"variablesForServiceDeployment": VALUES}]}
    with Script(answers) as script, api_of(script) as api:
        plain, rendered = api.variables("service-litellm"), api.variables("service-litellm", rendered=True)
    assert plain == rendered == VALUES
    for text in (repr(plain), str(plain), f"{plain}", repr([plain]), repr({"of": plain})):
        assert "canary" not in text
        assert "DATABASE_URL" in text
    assert [one.variables.get("unrendered") for one in script.asked] == [True, None]


def test_bucket_credentials_do_not_show_their_keys() -> None:
    old = {"bucketName": "b-1", "endpoint": "https://storage", "region": "auto", "urlStyle": "virtual"}
    pairs = [
        {**old, "accessKeyId": "old", "secretAccessKey": "old", "createdAt": "2026-01-01T00:00:00Z"},
        {**old, "accessKeyId": "canary-id", "secretAccessKey": "canary-secret", "createdAt": "2026-02-01T00:00:00Z"},
    ]
    with Script({"BucketCredentials": [{"bucketS3Credentials": pairs}]}) as script, api_of(script) as api:
        found = api.bucket_credentials("bucket-1")
        assert api.graphql.secrets.scrub("with canary-secret and canary-id") == f"with {HIDDEN} and {HIDDEN}"
    assert isinstance(found, BucketCredentials)
    assert found.secret_key.get_secret_value() == "canary-secret"
    assert "canary" not in repr(found) + str(found)


def test_a_refusal_that_repeats_what_was_sent_does_not_repeat_the_secret() -> None:
    refusal = error(f"invalid value {SECRET} for LITELLM_DB_PASSWORD")
    with (
        Script({"VariablesUpsert": [refusal]}) as script,
        api_of(script) as api,
        pytest.raises(RailwayRefused, match="invalid value") as caught,
    ):
        api.set_variables("service-litellm", {"LITELLM_DB_PASSWORD": SECRET})
    assert "canary" not in str(caught.value)
    assert b"canary" not in pickle.dumps(caught.value)


def test_a_failed_deployment_is_reported_without_the_secrets_in_its_log() -> None:
    lines = [
        {
            "timestamp": "2026-11-25T03:00:02Z",
            "severity": "err",
            "message": f"cannot connect to {URL}: password {SECRET} refused",
        },
        {"timestamp": "2026-11-25T03:00:01Z", "severity": "info", "message": f"started with --key={SECRET}"},
    ]
    step = {"id": "e", "step": "HEALTHCHECK", "createdAt": "2026-11-25T03:00:00Z"}
    failed = {"edges": [{"node": {**step, "payload": {"error": f"GET / with {SECRET}: 500"}}}]}
    answers = {
        "Inventory": [environment()],
        "Deployment": [{"deployment": deployment("FAILED")}],
        "DeploymentEvents": [{"deploymentEvents": failed}],
        "DeploymentLogs": [{"deploymentLogs": lines}],
        "VariablesRendered": [{"variablesForServiceDeployment": VALUES}],
    }
    with Script(answers) as script, api_of(script) as api, pytest.raises(DeploymentFailed) as caught:
        api.wait_for_deployment("deployment-1")
    said = str(caught.value)
    assert said.startswith("litellm: deployment deployment-1 is FAILED: did not build, or its health check never answered 200")
    assert "step HEALTHCHECK" in said
    assert "its last line: cannot connect to" in said
    assert [line.split()[0] for line in caught.value.log] == ["started", "cannot"], "oldest first"
    assert "canary" not in said + "".join(caught.value.log)
    assert b"canary" not in pickle.dumps(caught.value)


def test_a_log_is_not_shown_where_nobody_can_say_what_in_it_is_secret() -> None:
    answers = {
        "Inventory": [environment()],
        "Deployment": [{"deployment": deployment("CRASHED")}],
        "DeploymentEvents": [EVENTS],
        "DeploymentLogs": [{"deploymentLogs": [{"timestamp": "1", "message": f"password is {SECRET}"}]}],
        "VariablesRendered": [error("Not Authorized")],
    }
    with Script(answers) as script, api_of(script) as api, pytest.raises(DeploymentFailed) as caught:
        api.wait_for_deployment("deployment-1")
    assert "its log is empty or may not be shown" in str(caught.value)
    assert caught.value.log == ()
    assert caught.value.status == "CRASHED"


def test_start_commands_are_not_shown() -> None:
    found = environment({"serviceName": "redis", "startCommand": f"redis-server --requirepass {SECRET}"})
    with Script({"Inventory": [found]}) as script, api_of(script) as api:
        inventory = api.inventory()
    assert inventory.services["redis"].start_command == f"redis-server --requirepass {SECRET}"
    assert "canary" not in repr(inventory) + repr(ServiceSettings(start_command=SECRET))


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://litellm:canary-1@host/db",
        "Authorization: Bearer canary-1.abc",
        "OPENAI_API_KEY=canary-1",
        '{"password": "canary-1"}',
        "key sk-lf-canary-1-word in use",
        "key sk-canary-1-word in use",
        "AGE-SECRET-KEY-1CANARY1",
        "ENCRYPTION_KEY is " + "0123456789abcdef" * 4,
    ],
)
def test_what_looks_like_a_credential_is_hidden_though_nobody_knows_it(text: str) -> None:
    found = Secrets().scrub(text)
    assert HIDDEN in found
    assert "canary-1" not in found.lower()
    assert "0123456789abcdef" not in found


def test_ordinary_words_and_numbers_stay_readable() -> None:
    secrets = Secrets()
    secrets.learn(
        {"PORT": "4000", "DEBUG": "true", "RAILWAY_SERVICE_NAME": "langfuse-web", "RAILWAY_PRIVATE_DOMAIN": "a.internal"}
    )
    text = "langfuse-web listens on 4000 at a.internal, debug is true"
    assert secrets.scrub(text) == text


def test_the_token_among_railways_own_variables_is_a_secret() -> None:
    secrets = Secrets()
    secrets.learn({"RAILWAY_TOKEN": "canary-1", "RAILWAY_API_TOKEN": "canary-2"})
    assert secrets.scrub("canary-1 canary-2") == f"{HIDDEN} {HIDDEN}"


def test_what_a_stack_says_to_everybody_stays_readable_and_nothing_else() -> None:
    secrets = Secrets()
    secrets.learn(
        {"POSTGRES_DB": "litellm", "AUTH_DISABLE_SIGNUP": "true", "CONFIG": "first: line\nsecond: line", "OWN": "canary-1"}
    )
    secrets.learn({"REDIS_HOST": "redis.railway.internal", "URL": "http://langfuse-web.railway.internal:3000/api"})
    secrets.publish([("LITELLM_DATABASE", "litellm"), ("AUTH_DISABLE_SIGNUP", "true"), ("CONFIG", "first: line\nsecond: line")])
    text = "litellm cannot reach redis.railway.internal: it is true that second: line of http://langfuse-web.railway.internal:3000/api"
    assert secrets.scrub(text) == text
    assert secrets.scrub("canary-1 is of nobody's stack") == f"{HIDDEN} is of nobody's stack"


def test_a_secret_that_is_a_public_word_elsewhere_is_still_a_secret() -> None:
    secrets = Secrets(["always-canary"])
    secrets.publish([("POSTGRES_DB", "litellm"), ("REGION", "always-canary")])
    secrets.learn({"LITELLM_DB_PASSWORD": "litellm", "DATABASE_URL": "postgresql://u:word@redis.railway.internal:5432/x"})
    assert secrets.scrub("litellm word always-canary") == " ".join([HIDDEN] * 3)


@settings(max_examples=20)
@given(st.text(min_size=6).filter(lambda text: text.strip("* \n\r") != ""), st.text(), st.text())
def test_a_known_value_never_stands_in_what_was_scrubbed(value: str, before: str, after: str) -> None:
    secrets = Secrets()
    secrets.learn({"SOME_VALUE": value})
    found = secrets.scrub(f"{before}{value}{after}")
    assert value not in found or value in HIDDEN * 2


@settings(max_examples=20)
@given(st.dictionaries(st.text(min_size=1), st.text(min_size=8)))
def test_variables_are_an_ordinary_dictionary_otherwise(values: dict[str, str]) -> None:
    variables = Variables(values)
    assert variables == values
    assert dict(variables) == values
    assert not [value for value in values.values() if value in repr(variables) and value not in repr(list(values)) + HIDDEN]
