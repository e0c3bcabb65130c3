"""unauthenticated-gateway: the sandbox's Railway, and a gateway that asks for a key where its container was given one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.errors import NotHealed
from blocks.object_store import BackupStore
from blocks.railway_api.models import Deployment, ServiceInstance
from flows.health.targets import LiteLLM, Targets
from flows.runbook.frame import RunbookRequest, Verdict
from flows.runbook.restarting import Waits
from flows.runbook.unauthenticated_gateway import Known, OpenGateway, decide, quality
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState, LogLine
from tests.runbook.cases import CANARY, IMPATIENT, Desk
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator

KEY = f"sk-{CANARY}-known-to-the-worker"
VARIABLE = "LITELLM_MASTER_KEY"
WAITS = Waits(deployment=120, settle=30, poll=0.05)


class Gateway:
    """A container; what it was given as its key is what it asks for."""

    def __init__(self, spec: ContainerSpec) -> None:
        self.spec, self.key, self._state = spec, spec.variables.get(VARIABLE, ""), ContainerState.RUNNING

    @property
    def state(self) -> ContainerState:
        return self._state

    def logs(self, limit: int) -> Sequence[LogLine]:
        return [LogLine(datetime.now(UTC), "started")][:limit]

    def probe(self, path: str) -> int | None:
        return 200 if path else None

    def stop(self, grace: float) -> None:
        self._state = ContainerState.EXITED

    def kill(self) -> None:
        self.stop(0)


class Runtime:
    """Starts them behind one address, where the newest answers as LiteLLM 1.102 does (facts: apps.md 1.2)."""

    def __init__(self) -> None:
        self.containers: list[Gateway] = []
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = mine.containers[-1].key
                free = self.path in ("/health/liveliness", "/health/readiness") or not key
                self.send_response(200 if free or self.headers["Authorization"] == f"Bearer {key}" else 401)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def pull(self, image: str) -> str:
        return f"sha256:{'1':0>64}"

    def start(self, spec: ContainerSpec) -> Gateway:
        self.containers.append(Gateway(spec))
        return self.containers[-1]

    def public_address(self, service: str, port: int) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Town:
    """A Railway with a gateway on it."""

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        self.runtime = Runtime()
        self.railway = RailwayStandIn(directory / "railway", self.runtime, pace=QUICK, behaviour=PATIENT)
        self.railway.start()
        self.operator = Operator(self.railway)
        _, self.service_id = self.operator.service("app:1", name="litellm", variables=variables)
        self.operator.deployed(self.service_id)

    def close(self) -> None:
        self.operator.close()
        self.railway.close()

    def heal(self, desk: Desk, request: RunbookRequest | None = None, *, key: str = KEY, at_work: str = "") -> str:
        place = railway_block(self.railway)
        targets = Targets(timeout=20, litellm=LiteLLM(f"http://127.0.0.1:{self.runtime.port}"))
        with place.open() as api:
            known = SecretStr(key) if key else None
            return desk.heal(OpenGateway(api, targets, lambda: at_work, known, WAITS), request)

    def deployments(self) -> int:
        return len(self.operator.deployments(self.service_id))

    def variable(self) -> str | None:
        return self.operator.variables(self.service_id).get(VARIABLE)


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path, {"OTHER": "x"})
    yield made
    made.close()


def test_an_open_gateway_is_closed_with_the_key_that_the_worker_has(town: Town, desk: Desk) -> None:
    assert town.heal(desk, RunbookRequest(dry_run=True)) == "can heal"
    assert (town.variable(), town.deployments()) == (None, 1), "a dry run"
    assert town.heal(desk) == "healed"
    assert town.variable() == KEY
    assert town.runtime.containers[-1].key == KEY
    assert desk.asked == []
    assert CANARY not in desk.text()
    assert town.heal(desk) == "nothing to do"
    assert town.deployments() == 2, "run twice"


def test_a_key_that_is_set_and_was_never_deployed_stays_and_is_deployed(town: Town, desk: Desk) -> None:
    """Also what a run leaves that died between the two."""
    town.operator.set_variables(town.service_id, {VARIABLE: "sk-another-long-enough"})
    assert town.heal(desk) == "healed"
    assert town.variable() == "sk-another-long-enough"
    assert town.runtime.containers[-1].key == "sk-another-long-enough"


def test_where_nobody_knows_a_key_a_new_one_is_made(town: Town, desk: Desk) -> None:
    assert town.heal(desk, key="") == "healed"
    made = town.variable() or ""
    assert quality(made) == "good"
    assert made not in desk.text()


def test_a_variable_that_cannot_be_set_leads_to_a_person_and_deploys_nothing(town: Town, desk: Desk) -> None:
    desk.pace = IMPATIENT
    town.railway.refuse("not now", times=50, field="variableCollectionUpsert")
    with pytest.raises(NotHealed, match="a person is needed: LiteLLM is unauthenticated"):
        town.heal(desk)
    assert town.deployments() == 1
    assert "would be as open" in desk.text()


def test_it_refuses_while_another_flow_works_on_the_stack(town: Town, desk: Desk) -> None:
    with pytest.raises(NotHealed, match="deploy is under way"):
        town.heal(desk, at_work="deploy")
    assert (town.variable(), town.deployments()) == (None, 1)


NEWEST = Deployment(id="1", status="SUCCESS", created_at=datetime(2026, 11, 26, tzinfo=UTC))
THERE = ServiceInstance(id="1", service_id="2", name="litellm", latest=NEWEST)


@pytest.mark.parametrize(
    ("known", "verdict", "sets"),
    [
        (Known([], THERE), Verdict.NOTHING, None),
        (Known(["open"], THERE, "missing"), Verdict.HEALS, True),
        (Known(["open"], THERE, "empty"), Verdict.HEALS, True),
        (Known(["open"], THERE, "weak"), Verdict.HEALS, False),
        (Known(["open"], THERE, "sealed"), Verdict.HEALS, False),
        (Known(["open"], None), Verdict.PERSON, None),
        (Known(["open"], THERE, at_work="restore"), Verdict.PERSON, None),
        (Known(["open"], THERE, at_work="backup"), Verdict.HEALS, True),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, sets: bool | None) -> None:
    asked: list[bool] = []

    def ladder(_: ServiceInstance, wanted: bool) -> tuple[()]:
        asked.append(wanted)
        return ()

    assert decide(known, ladder).verdict is verdict
    assert asked == ([] if sets is None else [sets])


@pytest.mark.parametrize(
    ("value", "worth"),
    [(None, "missing"), (" ", "empty"), ("sk-1234", "weak"), ("long-but-without-prefix", "weak"), (KEY, "good")],
)
def test_a_key_is_worth_what_it_is(value: str | None, worth: str) -> None:
    assert quality(value) == worth
