"""key-mismatch on a real Postgres: rows sealed as LiteLLM and Langfuse seal them, keys that open them and keys that do not."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, NotHealed, SettingsError
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.sealed_values import langfuse_opens, litellm_opens
from blocks.settings import Settings
from flows.runbook.application_keys import EFFECTIVE, MASTER, PENDING, WORKER, Whose
from flows.runbook.frame import RunbookRequest, Verdict
from flows.runbook.key_mismatch import KeyRequest, Known, Mismatch, decide, whose
from flows.runbook.restarting import Waits
from flows.runbook.stored_secrets import Proof
from shared.engines.postgres import PostgresEngine
from shared.sandbox.blocks import railway_block
from shared.sandbox.langfuse_postgres import encrypt
from shared.sandbox.litellm_front.sealing import seal
from shared.sandbox.railway_api import RailwayStandIn
from tests.runbook.cases import CANARY, IMPATIENT, Desk
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator
from tests.sandbox.railway_processes import ProcessRuntime

RIGHT, WRONG = f"sk-{CANARY}-right", f"sk-{CANARY}-wrong"
HEX, OTHER = "ab" * 32, "cd" * 32
LITELLM = """
CREATE TABLE "LiteLLM_ProxyModelTable" (model_name text, litellm_params jsonb);
CREATE TABLE "LiteLLM_CredentialsTable" (credential_name text, credential_values jsonb);
CREATE TABLE "LiteLLM_Config" (param_name text, param_value jsonb);
"""
LANGFUSE = """
CREATE TABLE llm_api_keys (id text, secret_key text, extra_headers text);
CREATE TABLE api_keys (id text, hashed_secret_key text);
CREATE TABLE slack_integrations (id text, bot_token text);
"""


class Vault:
    """A database with sealed values."""

    def __init__(self, engine: PostgresEngine, application: str) -> None:
        self.engine, self.application, self.database = engine, application, f"vault_{secrets.token_hex(4)}"
        with psycopg.connect(engine.url(), autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{self.database}"'.encode())
        self.run(LITELLM if application == "litellm" else LANGFUSE)

    def run(self, sql: str, *parameters: object) -> None:
        with psycopg.connect(self.engine.url(self.database), autocommit=True) as connection:
            connection.execute(sql.encode(), list(parameters) or None)

    def model(self, name: str, key: str) -> None:
        """As LiteLLM stores one: every text sealed, numbers not."""
        params = {"model": seal("openai/gpt-4o", key), "api_key": seal(f"sk-{CANARY}", key), "rpm": 10, "note": "plain"}
        self.run('INSERT INTO "LiteLLM_ProxyModelTable" VALUES (%s, %s)', name, json.dumps(params))

    def llm_key(self, identity: str, key: str) -> None:
        self.run("INSERT INTO llm_api_keys VALUES (%s, %s, %s)", identity, encrypt(f"sk-{CANARY}", key), encrypt("{}", key))

    def whose(self) -> Whose:
        if self.application == "litellm":
            return Whose("litellm", "LITELLM_SALT_KEY", self.database, ("litellm",))
        return Whose("langfuse", "ENCRYPTION_KEY", self.database, ("langfuse-web", "langfuse-worker"))

    def runbook(self, at_work: str = "", **worker: str) -> Mismatch:
        """Without Railway; `worker`: keys that this worker knows, by name."""
        keys = {name: SecretStr(key) for name, key in worker.items()}
        server = PostgresServer(url=SecretStr(self.engine.url()))
        return Mismatch(server, self.whose(), keys, lambda: "set 1: the same keys", lambda: at_work)


@pytest.fixture
def vault(postgres_engine: PostgresEngine) -> Iterator[Vault]:
    made = Vault(postgres_engine, "litellm")
    yield made
    drop(made)


@pytest.fixture
def langfuse(postgres_engine: PostgresEngine) -> Iterator[Vault]:
    made = Vault(postgres_engine, "langfuse")
    yield made
    drop(made)


def drop(vault: Vault) -> None:
    with psycopg.connect(vault.engine.url(), autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{vault.database}" WITH (FORCE)'.encode())


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


class Town:
    """A Railway with the service whose key it is."""

    def __init__(self, directory: Path, vault: Vault, key: str) -> None:
        self.vault = vault
        self.railway = RailwayStandIn(directory / "railway", ProcessRuntime(directory), pace=QUICK, behaviour=PATIENT)
        self.railway.start()
        self.operator = Operator(self.railway)
        self.ids = {}
        for number, service in enumerate(vault.whose().services):
            variables = {vault.whose().variable: key} if number == 0 else {}
            _, self.ids[service] = self.operator.service("app:1", name=service, variables=variables)
            self.operator.deployed(self.ids[service])

    def close(self) -> None:
        self.operator.close()
        self.railway.close()

    def heal(self, desk: Desk, request: RunbookRequest | None = None, **worker: str) -> str:
        place = railway_block(self.railway)
        runbook = self.vault.runbook(**worker)
        runbook.waits = Waits(deployment=120, settle=30, poll=0.05)
        with place.open() as api:
            runbook.api = api
            return desk.heal(runbook, request)

    def key(self) -> str | None:
        return self.operator.variables(self.ids[self.vault.whose().service]).get(self.vault.whose().variable)

    def deployments(self) -> list[int]:
        return [len(self.operator.deployments(one)) for one in self.ids.values()]


def test_the_key_that_the_worker_was_deployed_with_is_put_back_once_a_person_approves(
    vault: Vault, desk: Desk, tmp_path: Path
) -> None:
    vault.model("gpt", RIGHT)
    town = Town(tmp_path, vault, WRONG)
    try:
        assert town.heal(desk, RunbookRequest(dry_run=True), worker=RIGHT) == "can heal"
        assert (town.key(), town.deployments()) == (WRONG, [1]), "a dry run"
        desk.approves = False
        with pytest.raises(ApprovalMissing):
            town.heal(desk, worker=RIGHT)
        assert (town.key(), town.deployments()) == (WRONG, [1])
        desk.approves = True
        assert town.heal(desk, worker=RIGHT) == "healed"
        assert (town.key(), town.deployments()) == (RIGHT, [2])
        assert town.heal(desk, worker=RIGHT) == "nothing to do"
        assert town.deployments() == [2], "run twice"
        assert "opens 0 of 2" in desk.text()
        assert CANARY not in desk.text()
    finally:
        town.close()


def test_a_sealed_salt_key_is_not_taken_for_none(vault: Vault, desk: Desk, tmp_path: Path) -> None:
    vault.model("gpt", RIGHT)
    town = Town(tmp_path, vault, RIGHT)
    try:
        town.operator.set_variables(town.ids["litellm"], {"LITELLM_MASTER_KEY": WRONG})
        town.railway.seal("litellm", "LITELLM_SALT_KEY")
        assert town.heal(desk, worker=RIGHT) == "nothing to do"
    finally:
        town.close()


@pytest.mark.long
def test_a_run_that_died_between_the_key_and_the_deployments_is_gone_on_with(
    langfuse: Vault, desk: Desk, tmp_path: Path
) -> None:
    langfuse.llm_key("key-1", HEX)
    town = Town(tmp_path, langfuse, OTHER)
    try:
        town.railway.refuse("not now", times=50, field="serviceInstanceDeployV2")
        with pytest.raises(NotHealed, match="langfuse-web runs with what ENCRYPTION_KEY was before"):
            town.heal(desk, worker=HEX)
        assert (town.key(), town.deployments()) == (HEX, [1, 1])
        town.railway.calm()
        assert town.heal(desk, worker=HEX) == "healed"
        assert town.deployments() == [2, 2]
        marks = [town.operator.variables(one).get(PENDING) for one in town.ids.values()]
        assert marks == ["", ""]
    finally:
        town.close()


def test_without_railway_the_rows_are_named_and_a_person_is_told_where_the_key_may_be(vault: Vault, desk: Desk) -> None:
    assert desk.heal(vault.runbook(worker=RIGHT)) == "nothing to do"
    vault.model("gpt", RIGHT)
    assert desk.heal(vault.runbook(worker=RIGHT)) == "nothing to do"
    with pytest.raises(NotHealed, match=r"opens 0 of 2, not LiteLLM_ProxyModelTable gpt api_key.*sets: set 1: the same keys"):
        desk.heal(vault.runbook(worker=WRONG))
    with pytest.raises(NotHealed, match="master opens all: set LITELLM_SALT_KEY of litellm to it"):
        desk.heal(vault.runbook(worker=WRONG, master=RIGHT))
    assert CANARY not in desk.text()
    assert desk.asked == []


def test_rows_of_another_key_among_good_ones_are_entered_anew_and_the_key_stays(vault: Vault, desk: Desk) -> None:
    vault.model("gpt", RIGHT)
    vault.model("other", WRONG)
    with pytest.raises(NotHealed, match=r"opens 2 of 4.*enter just those anew, and leave the key alone"):
        desk.heal(vault.runbook(worker=RIGHT, other=WRONG))


def test_it_refuses_while_another_flow_works_on_the_stack(vault: Vault, desk: Desk) -> None:
    vault.model("gpt", RIGHT)
    with pytest.raises(NotHealed, match="restore is under way"):
        desk.heal(vault.runbook("restore", worker=WRONG))


def test_langfuses_secrets_are_found_in_whatever_column_they_are(langfuse: Vault, desk: Desk) -> None:
    langfuse.llm_key("key-1", HEX)
    langfuse.run("INSERT INTO api_keys VALUES ('a', 'no secret')")
    langfuse.run("INSERT INTO slack_integrations VALUES ('b', %s)", encrypt(CANARY, OTHER))
    with pytest.raises(NotHealed, match="opens 2 of 3, not slack_integrations b bot_token"):
        desk.heal(langfuse.runbook(worker=HEX))
    assert CANARY not in desk.text()


@pytest.mark.parametrize("length", [0, 1, 15, 16, 31, 32, 33, 64, 500])
def test_a_secret_box_is_judged_as_nacl_does(length: int) -> None:
    sealed = seal("x" * length, RIGHT)
    assert litellm_opens(sealed, RIGHT) is True
    assert litellm_opens(sealed, WRONG) is False
    damaged = bytearray(base64.urlsafe_b64decode(sealed))
    damaged[-1] ^= 1
    assert litellm_opens(base64.urlsafe_b64encode(bytes(damaged)).decode(), RIGHT) is False


def test_the_other_forms_of_sealed_values_are_known_and_plain_ones_are_none() -> None:
    nonce = os.urandom(12)
    gcm = nonce + AESGCM(hashlib.sha256(RIGHT.encode()).digest()).encrypt(nonce, b"text", None)
    value = f"v2:gcm:{base64.urlsafe_b64encode(gcm).decode()}"
    assert (litellm_opens(value, RIGHT), litellm_opens(value, WRONG)) == (True, False)
    assert langfuse_opens(encrypt("text", HEX), HEX) is True
    assert langfuse_opens(encrypt("text", HEX), OTHER) is False
    assert langfuse_opens(encrypt("text", HEX), "no key at all") is False
    for plain in ("", "openai/gpt-4o", "https://example.com", "v2:gcm:AAAA", "sk-1234", "0" * 200 + "!"):
        assert litellm_opens(plain, RIGHT) is None
        assert langfuse_opens(plain, HEX) is None


GOOD, BAD, HALF = Proof(3, ()), Proof(0, ("t a b",)), Proof(1, ("t a b",))
ONE = Whose("litellm", "LITELLM_SALT_KEY", "litellm", ("litellm",))


@pytest.mark.parametrize(
    ("known", "changeable", "verdict", "right"),
    [
        (Known(ONE, {}), True, Verdict.PERSON, None),
        (Known(ONE, {WORKER: GOOD}), False, Verdict.NOTHING, None),
        (Known(ONE, {EFFECTIVE: GOOD, WORKER: BAD}), True, Verdict.NOTHING, None),
        (Known(ONE, {EFFECTIVE: GOOD}, pending=["litellm"]), True, Verdict.HEALS, ""),
        (Known(ONE, {EFFECTIVE: BAD, WORKER: GOOD}), True, Verdict.HEALS, WORKER),
        (Known(ONE, {EFFECTIVE: BAD, WORKER: BAD, MASTER: GOOD}), True, Verdict.HEALS, MASTER),
        (Known(ONE, {EFFECTIVE: BAD, WORKER: HALF}), True, Verdict.PERSON, None),
        (Known(ONE, {EFFECTIVE: HALF, WORKER: GOOD}), True, Verdict.PERSON, None),
        (Known(ONE, {WORKER: BAD, MASTER: GOOD}), False, Verdict.PERSON, None),
        (Known(ONE, {EFFECTIVE: BAD, WORKER: GOOD}, at_work="upgrade"), True, Verdict.PERSON, None),
    ],
)
def test_what_is_known_decides(known: Known, changeable: bool, verdict: Verdict, right: str | None) -> None:
    asked: list[str] = []

    def ladder(name: str) -> tuple[()]:
        asked.append(name)
        return ()

    assert decide(known, changeable, ladder).verdict is verdict
    assert asked == ([] if right is None else [right])


def test_an_incident_says_whose_key_is_meant() -> None:
    settings = Settings()
    assert [one.service for one in whose(KeyRequest(), settings)] == ["litellm", "langfuse-web"]
    incident = "stack/langfuse-web/encryption-key/20261126T030000Z"
    assert [one.service for one in whose(KeyRequest(incident=incident), settings)] == ["langfuse-web"]
    with pytest.raises(SettingsError, match="redis seals nothing"):
        whose(KeyRequest(incident="stack/redis/memory/20261126T030000Z"), settings)
