"""LiteLLM with a database: virtual keys, stored models and spend, on the real gateway and in LiteLLM's own tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from shared.engines.process import wait_until
from shared.sandbox.litellm_front import LiteLLMFront, Unsealable, seal, unseal
from shared.sandbox.stack import Sandbox

HTTP = httpx.Client(trust_env=False, timeout=60.0)


@pytest.fixture(scope="module")
def front(applications: Sandbox) -> LiteLLMFront:
    assert applications.applications is not None
    return applications.applications.litellm


@pytest.fixture
def key(front: LiteLLMFront) -> Iterator[str]:
    """A virtual key for one model."""
    made = call(front, "/key/generate", {"models": ["mock-gpt"], "duration": "10m", "max_budget": 1.0}).json()["key"]
    yield made
    call(front, "/key/delete", {"keys": [made]})


def call(front: LiteLLMFront, path: str, content: Any = None, *, key: str | None = "", method: str = "") -> httpx.Response:
    login = {} if key is None else {"Authorization": f"Bearer {key or front.master_key}"}
    method = method or ("GET" if content is None else "POST")
    return HTTP.request(method, front.url + path, json=content, headers=login)


def ask(front: LiteLLMFront, key: str | None, model: str = "mock-gpt", **more: Any) -> httpx.Response:
    content = {"model": model, "messages": [{"role": "user", "content": "ping"}], **more}
    return call(front, "/v1/chat/completions", content, key=key)


def rows(applications: Sandbox, statement: str, *values: object) -> list[dict[str, Any]]:
    with psycopg.connect(applications.postgres.url("litellm"), row_factory=dict_row) as connection:
        return connection.execute(statement.encode(), values).fetchall()


def spent(front: LiteLLMFront, request: str) -> Any:
    wait_until(lambda: bool(call(front, f"/spend/logs?request_id={request}").json()), timeout=30, what="the spend log")
    (row,) = call(front, f"/spend/logs?request_id={request}").json()
    return row


# --- keys --------------------------------------------------------------------------------------------------------------


def test_a_virtual_key_opens_its_model_and_nothing_else(front: LiteLLMFront, key: str) -> None:
    assert ask(front, key).json()["choices"][0]["message"]["content"] == "pong"
    refused = ask(front, key, "mock-claude")
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "key_model_access_denied")
    assert [one["id"] for one in call(front, "/v1/models", key=key).json()["data"]] == ["mock-gpt"]
    assert [one["model_name"] for one in call(front, "/model/info", key=key).json()["data"]] == ["mock-gpt"]
    for path, content in (("/key/generate", {}), ("/model/new", {}), ("/key/list", None), ("/global/spend", None)):
        assert call(front, path, content, key=key).status_code == 401


def test_of_a_key_only_its_hash_is_stored(applications: Sandbox, front: LiteLLMFront, key: str) -> None:
    found = rows(applications, 'SELECT * FROM "LiteLLM_VerificationToken" WHERE token = %s', sha256(key.encode()).hexdigest())
    assert [row["models"] for row in found] == [["mock-gpt"]]
    assert key not in json.dumps(found, default=str)
    assert call(front, "/key/info", key=key).json()["info"]["key_name"] == f"sk-...{key[-4:]}"
    assert key not in front.front_log.read_text()


def test_a_deleted_key_is_refused_and_so_is_one_that_never_was(front: LiteLLMFront) -> None:
    made = call(front, "/key/generate", {"key_alias": "twice"}).json()["key"]
    assert call(front, "/key/generate", {"key_alias": "twice"}).status_code == 400
    assert call(front, "/key/delete", {"key_aliases": ["twice"]}).json() == {"deleted_keys": ["twice"]}
    for dead in (made, "sk-never"):
        answer = ask(front, dead)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "token_not_found_in_db")
    assert call(front, "/key/delete", {"keys": [made]}).status_code == 404
    assert ask(front, "no-sk").status_code == 401
    assert ask(front, None).json()["error"]["message"] == "Authentication Error, No api key passed in.", (
        "the gateway's own words"
    )


def test_a_key_ends_with_its_time_its_budget_or_when_it_is_blocked(
    applications: Sandbox, front: LiteLLMFront, key: str
) -> None:
    token = sha256(key.encode()).hexdigest()

    def after(change: str) -> tuple[int, str]:
        with psycopg.connect(applications.postgres.url("litellm")) as connection:
            connection.execute(f'UPDATE "LiteLLM_VerificationToken" SET {change} WHERE token = %s'.encode(), [token])
        answer = ask(front, key)
        return answer.status_code, answer.json()["error"]["type"]

    assert after("spend = 1.5") == (429, "budget_exceeded")
    assert after("spend = 0, blocked = true") == (401, "auth_error")
    assert after("blocked = false, expires = now() - interval '1 hour'") == (401, "expired_key")


# --- spend -------------------------------------------------------------------------------------------------------------


def test_what_a_key_asks_is_in_the_spend_logs_and_counts_against_its_budget(front: LiteLLMFront, key: str) -> None:
    answer = ask(front, key).json()
    row = spent(front, answer["id"])
    assert (row["model_group"], row["status"], row["total_tokens"]) == ("mock-gpt", "success", answer["usage"]["total_tokens"])
    assert row["api_key"] == sha256(key.encode()).hexdigest()
    assert row["spend"] > 0
    wait_until(lambda: call(front, "/key/info", key=key).json()["info"]["spend"] >= row["spend"], timeout=30, what="its spend")


def test_a_stream_passes_as_it_comes_and_is_counted_with_its_tokens(front: LiteLLMFront, key: str) -> None:
    answer = ask(front, key, stream=True)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "pong"
    assert all(chunk["choices"] for chunk in chunks), "nobody asked for the usage"
    row = spent(front, chunks[0]["id"])
    assert (row["completion_tokens"] > 0, row["spend"] > 0) == (True, True)
    with_usage = ask(front, key, stream=True, stream_options={"include_usage": True})
    assert json.loads(with_usage.text.split("data: ")[-2])["usage"]["total_tokens"] == row["total_tokens"]


def test_a_request_that_fails_is_recorded_as_that_and_costs_nothing(applications: Sandbox, front: LiteLLMFront) -> None:
    assert ask(front, "", "no-such-model").status_code == 400
    failed = "SELECT status, spend FROM \"LiteLLM_SpendLogs\" WHERE model_group = 'no-such-model'"
    wait_until(lambda: bool(rows(applications, failed)), timeout=30, what="the failure's row")
    assert rows(applications, failed)[0] == {"status": "failure", "spend": 0.0}


# --- models ------------------------------------------------------------------------------------------------------------


def test_a_stored_model_is_sealed_with_the_salt_key_and_served(applications: Sandbox, front: LiteLLMFront) -> None:
    params = {"model": "openai/gpt-4o", "api_key": "sk-canary-provider", "rpm": 5}
    made = call(front, "/model/new", {"model_name": "stored", "litellm_params": params, "model_info": {"team": "x"}})
    number = made.json()["model_id"]
    try:
        (row,) = rows(applications, 'SELECT * FROM "LiteLLM_ProxyModelTable" WHERE model_id = %s', number)
        assert "canary" not in json.dumps(row, default=str)
        assert row["litellm_params"]["rpm"] == 5
        assert unseal(row["litellm_params"]["api_key"], applications.keys.litellm_salt_key) == "sk-canary-provider"
        with pytest.raises(Unsealable, match="LITELLM_SALT_KEY"):
            unseal(row["litellm_params"]["api_key"], "sk-another-salt")
        answer = ask(front, "", "stored").json()
        assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("stored", "pong")
        assert spent(front, answer["id"])["model_id"] == number
        assert "stored" in [one["id"] for one in call(front, "/v1/models").json()["data"]]
        (entry,) = [one for one in call(front, "/model/info").json()["data"] if one["model_name"] == "stored"]
        assert entry["model_info"]["id"] == number
        assert (entry["model_info"]["db_model"], entry["litellm_params"]["rpm"]) == (True, 5)
        assert "api_key" not in entry["litellm_params"]
        again = {"model_name": "stored", "litellm_params": params, "model_info": {"id": number}}
        assert call(front, "/model/new", again).status_code == 400
    finally:
        assert call(front, "/model/delete", {"id": number}).status_code == 200
    assert ask(front, "", "stored").status_code == 400


def test_an_update_keeps_what_it_does_not_name_and_only_a_patch_reaches_model_info(front: LiteLLMFront) -> None:
    made = call(front, "/model/new", {"model_name": "m1", "litellm_params": {"model": "openai/a", "rpm": 5}}).json()
    number = made["model_id"]
    try:
        old_way = {"litellm_params": {"rpm": 6}, "model_info": {"id": number, "note": "lost"}}
        assert "note" not in call(front, "/model/update", old_way).json()["model_info"]
        patched = {"model_name": "m2", "model_info": {"note": "kept"}}
        row = call(front, f"/model/{number}/update", patched, method="PATCH").json()
        assert (row["model_name"], row["litellm_params"]["rpm"], row["model_info"]["note"]) == ("m2", 6, "kept")
    finally:
        call(front, "/model/delete", {"id": number})


# --- the rest ----------------------------------------------------------------------------------------------------------


def test_without_its_database_the_gateway_is_not_ready_and_comes_back(applications: Sandbox, front: LiteLLMFront) -> None:
    assert HTTP.get(f"{front.url}/health/readiness").json() == {"status": "healthy", "db": "connected"}
    applications.service("postgres").stop()
    try:
        assert HTTP.get(f"{front.url}/health/readiness").status_code == 503
        assert HTTP.get(f"{front.url}/health/liveliness").status_code == 200
        unknown = ask(front, "sk-whoever")
        assert (unknown.status_code, unknown.json()["error"]["type"]) == (503, "no_db_connection")
        request = ask(front, "").json()["id"]  # the master key needs no database
    finally:
        applications.service("postgres").start()
    assert HTTP.get(f"{front.url}/health/readiness").status_code == 200
    assert spent(front, request)["status"] == "success", "kept until the database was back"


def test_what_is_sealed_is_another_text_each_time() -> None:
    assert seal("value", "salt") != seal("value", "salt")
    assert unseal(seal("würde 🔑", "salt"), "salt") == "würde 🔑"
    with pytest.raises(Unsealable):
        unseal("no base64!", "salt")
