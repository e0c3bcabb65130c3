"""langfuse-callback: the sandbox's Railway, and a gateway that runs with the callbacks of the configuration it was given."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, NotHealed
from blocks.object_store import BackupStore
from blocks.railway_api.models import Deployment, DeploymentStatus, ServiceInstance
from flows.health.targets import LiteLLM, Targets
from flows.runbook.callbacks import fits, refitted, to_write
from flows.runbook.configuring import BEFORE, CONFIGURATION, Configured, Fit
from flows.runbook.frame import RunbookRequest, Verdict
from flows.runbook.langfuse_callback import Known, Untraced, decide
from flows.runbook.restarting import Waits
from flows.upgrade.facts import callbacks_of
from railway.services.litellm import configuration, litellm
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState, LogLine
from tests.runbook.cases import CANARY, IMPATIENT, Desk, Died
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator

KEY = f"sk-{CANARY}-of-the-gateway"
OLD, NEW = "ghcr.io/berriai/litellm:v1.102.4", "ghcr.io/berriai/litellm:v1.104.0"
THREE, FOUR = configuration(3, (1, 102, 4)), configuration(4, (1, 102, 4))
START = litellm(OLD, 4).start_command or ""
WAITS = Waits(deployment=120, settle=30, poll=0.05)


class Gateway:
    """A container; it ends at once where its configuration names what it cannot load."""

    def __init__(self, spec: ContainerSpec, broken: str) -> None:
        text = spec.variables.get(CONFIGURATION, "")
        settings = (yaml.safe_load(text) or {}).get("litellm_settings", {}) if spec.start_command == START else {}
        self.callbacks = [name for key in ("callbacks", "success_callback") for name in settings.get(key) or []]
        self.version = spec.image.rpartition(":v")[2]
        self._state = ContainerState.CRASHED if broken in self.callbacks else ContainerState.RUNNING

    @property
    def state(self) -> ContainerState:
        return self._state

    def logs(self, limit: int) -> Sequence[LogLine]:
        return [LogLine(datetime.now(UTC), "started")][:limit]

    def probe(self, path: str) -> int | None:
        return 200 if self._state is ContainerState.RUNNING else None

    def stop(self, grace: float) -> None:
        self._state = ContainerState.EXITED

    def kill(self) -> None:
        self.stop(0)


class Runtime:
    """Starts them behind one address, where the newest that runs answers, as does Langfuse.

    Attributes:
        langfuse: its version. broken: a callback that no container starts with. deaf: it runs with `langfuse` in any case.
    """

    def __init__(self) -> None:
        self.containers: list[Gateway] = []
        self.langfuse, self.broken, self.deaf = "4.16.0", "-", False
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = mine.answer(self.path, self.headers["Authorization"] == f"Bearer {KEY}")
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def serving(self) -> Gateway | None:
        return next((one for one in reversed(self.containers) if one.state is ContainerState.RUNNING), None)

    def answer(self, path: str, is_known: bool) -> tuple[int, dict[str, Any]]:
        if path.startswith("/api/public/health"):
            return 200, {"status": "OK", "version": self.langfuse}
        serving = self.serving
        if serving is None:
            return 502, {}
        if path in ("/health/liveliness", "/health/readiness"):
            return 200, {"status": "healthy"}
        if not is_known:
            return 401, {}
        callbacks = ["cache", *("LangfuseOtelLogger" if one == "langfuse_otel" else one for one in serving.callbacks)]
        callbacks = ["langfuse"] if self.deaf else callbacks
        return 200, {"litellm_version": serving.version, "cache": None, "success_callbacks": callbacks}

    def pull(self, image: str) -> str:
        return f"sha256:{'1':0>64}"

    def start(self, spec: ContainerSpec) -> Gateway:
        self.containers.append(Gateway(spec, self.broken))
        return self.containers[-1]

    def public_address(self, service: str, port: int) -> str:
        return self.url.removeprefix("http://")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Town:
    """A Railway with a gateway on it, which runs with its configuration."""

    def __init__(self, directory: Path, text: str | None = THREE, *, image: str = OLD, start: str = START) -> None:
        self.runtime = Runtime()
        self.railway = RailwayStandIn(directory / "railway", self.runtime, pace=QUICK, behaviour=PATIENT)
        self.railway.start()
        self.operator = Operator(self.railway)
        variables = {"LANGFUSE_HOST": self.runtime.url, **({CONFIGURATION: text} if text is not None else {})}
        shape = {"startCommand": start, "healthcheckPath": "/health/readiness", "restartPolicyType": "NEVER"}
        _, self.service_id = self.operator.service(image, name="litellm", variables=variables, **shape)
        self.operator.deployed(self.service_id)

    def close(self) -> None:
        self.operator.close()
        self.railway.close()

    def heal(self, desk: Desk, request: RunbookRequest | None = None, *, at_work: str = "", key: str = KEY) -> str:
        gateway = LiteLLM(self.runtime.url, SecretStr(key), traced=True, langfuse_url=self.runtime.url)
        with railway_block(self.railway).open() as api:
            return desk.heal(Untraced(api, Targets(timeout=20, litellm=gateway), lambda: at_work, WAITS), request)

    def state(self) -> tuple[dict[str, str], int]:
        return self.operator.variables(self.service_id, unrendered=True), self.deployments()

    def deployments(self) -> int:
        return len(self.operator.deployments(self.service_id))

    def text(self, name: str = CONFIGURATION) -> str:
        return self.operator.variables(self.service_id, unrendered=True).get(name, "")

    def runs_with(self) -> list[str]:
        serving = self.runtime.serving
        return serving.callbacks if serving is not None else ["nothing runs"]


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


def test_the_callback_that_langfuse_4_drops_is_changed_to_the_one_it_takes(town: Town, desk: Desk) -> None:
    before = town.state()
    assert town.heal(desk, RunbookRequest(dry_run=True)) == "can heal"
    assert (town.state(), desk.asked) == (before, []), "a dry run"
    assert town.heal(desk) == "healed"
    assert town.text() == FOUR, "exactly what a deploy would write"
    assert town.runs_with() == ["langfuse_otel"]
    assert town.text(BEFORE) == THREE
    assert "LiteLLM runs with | langfuse of Langfuse's callbacks" in desk.text()
    (asked,) = desk.asked
    assert "the callbacks langfuse_otel instead of langfuse" in asked
    after = town.state()
    assert town.heal(desk) == "nothing to do"
    assert town.state() == after, "run twice"


def test_nothing_of_the_configuration_and_no_key_is_shown(town: Town, desk: Desk) -> None:
    secret = f"sk-ant-{CANARY}"
    town.operator.set_variables(town.service_id, {CONFIGURATION: THREE.replace("os.environ/ANTHROPIC_API_KEY", secret)})
    assert town.heal(desk) == "healed"
    assert secret in town.text()
    assert CANARY not in desk.text()


def test_callbacks_that_others_added_references_and_comments_stay(town: Town, desk: Desk) -> None:
    mine = THREE.replace('success_callback: ["langfuse"]', 'success_callback: ["prometheus", "langfuse"]  # ours')
    mine = mine.replace("request_timeout: 600", "request_timeout: ${{TIMEOUT}}")
    town.operator.set_variables(town.service_id, {"TIMEOUT": "300", CONFIGURATION: mine})
    assert town.heal(desk) == "healed"
    assert town.runs_with() == ["langfuse_otel", "prometheus"]
    ours = '  success_callback: ["prometheus", "langfuse"]  # ours\n  failure_callback: ["langfuse"]\n'
    assert mine.count(ours) == 1
    left = '  callbacks: ["langfuse_otel"]\n  success_callback: ["prometheus"]  # ours\n'
    assert town.text() == mine.replace(ours, left)


def test_where_nothing_is_traced_langfuse_3_gets_its_own_callback_beside_the_others(tmp_path: Path, desk: Desk) -> None:
    town = Town(tmp_path, THREE.replace('["langfuse"]', '["s3"]'))
    try:
        town.runtime.langfuse = "3.225.4"
        assert town.heal(desk) == "healed"
        assert town.runs_with() == ["s3", "langfuse"]
    finally:
        town.close()


def test_a_configuration_that_is_right_and_was_never_deployed_is_just_deployed(town: Town, desk: Desk) -> None:
    """Somebody has written it; nobody has deployed it."""
    town.operator.set_variables(town.service_id, {CONFIGURATION: FOUR})
    before = town.operator.variables(town.service_id)
    assert town.heal(desk) == "healed"
    assert (town.operator.variables(town.service_id), town.deployments()) == (before, 2)
    assert desk.asked != []
    assert "write" not in desk.asked[0]


def test_nothing_is_done_where_requests_are_traced_or_nobody_approves(town: Town, desk: Desk) -> None:
    before = town.state()
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        town.heal(desk)
    assert town.state() == before
    town.runtime.langfuse = "3.225.4"
    assert town.heal(desk) == "nothing to do"
    assert town.state() == before


def test_where_the_gateway_does_not_come_up_the_old_text_is_put_back_and_deployed(town: Town, desk: Desk) -> None:
    desk.pace, town.runtime.broken = IMPATIENT, "langfuse_otel"
    with pytest.raises(NotHealed, match=r"a person is needed: LiteLLM 1.102.4 traces in a way .* LITELLM_CONFIG is as it was"):
        town.heal(desk)
    assert (town.text(), town.text(BEFORE)) == (THREE, "")
    assert (town.runs_with(), town.deployments()) == (["langfuse"], 3)
    assert len(desk.asked) == 1, "the way back asks nobody"
    town.runtime.broken = "-"
    assert town.heal(desk) == "healed"


def test_a_gateway_that_is_up_and_still_loses_traces_keeps_what_is_right_and_a_person_is_told(town: Town, desk: Desk) -> None:
    desk.pace, town.runtime.deaf = IMPATIENT, True
    with pytest.raises(NotHealed, match=r"LiteLLM 1.102.4 traces in a way .* it is up with the new one"):
        town.heal(desk)
    assert (town.text(), town.text(BEFORE), town.deployments()) == (FOUR, THREE, 2)


def test_a_variable_that_cannot_be_set_deploys_nothing(town: Town, desk: Desk) -> None:
    before, desk.pace = town.state(), IMPATIENT
    town.railway.refuse("not now", times=50, field="variableCollectionUpsert")
    with pytest.raises(NotHealed, match=r"a person is needed: .*LITELLM_CONFIG is not what this has written"):
        town.heal(desk)
    assert town.state() == before


@pytest.mark.parametrize("comes_up", [True, False])
def test_killed_between_writing_and_deploying_the_next_run_deploys_and_still_knows_the_way_back(
    town: Town, desk: Desk, comes_up: bool
) -> None:
    class Deadly(Configured):
        def deploy(self, there: ServiceInstance) -> str:
            raise Died

    with railway_block(town.railway).open() as api:
        fit = Fit(Deadly(api, lambda: "", WAITS), "langfuse_otel", "others", lambda: "")
        with pytest.raises(Died):
            fit.do()
    assert (town.text(), town.text(BEFORE), town.deployments()) == (FOUR, THREE, 1)
    if comes_up:
        assert town.heal(desk) == "healed"
        assert (town.text(), town.text(BEFORE), town.deployments()) == (FOUR, THREE, 2)
        return
    desk.pace, town.runtime.broken = IMPATIENT, "langfuse_otel"
    with pytest.raises(NotHealed, match="LITELLM_CONFIG is as it was"):
        town.heal(desk)
    assert (town.text(), town.runs_with()) == (THREE, ["langfuse"])


def test_what_a_person_has_written_since_is_not_put_back(town: Town, desk: Desk) -> None:
    assert town.heal(desk) == "healed"
    town.operator.set_variables(town.service_id, {CONFIGURATION: THREE.replace("600", "601")})
    town.operator.deployed(town.service_id)
    town.operator.set_variables(town.service_id, {CONFIGURATION: FOUR.replace("600", "602")})
    desk.pace, town.runtime.broken = IMPATIENT, "langfuse_otel"
    with pytest.raises(NotHealed, match="a person is needed"):
        town.heal(desk)
    assert town.text() == FOUR.replace("600", "602")


@pytest.mark.parametrize("flow", ["deploy", "upgrade"])
def test_it_refuses_while_another_flow_works_on_the_stack(town: Town, desk: Desk, flow: str) -> None:
    before = town.state()
    with pytest.raises(NotHealed, match=f"{flow} is under way: wait for its end; nothing was changed"):
        town.heal(desk, at_work=flow)
    assert town.state() == before


def test_a_flow_that_began_while_a_person_was_asked_is_not_disturbed(town: Town, desk: Desk) -> None:
    before = town.state()
    with railway_block(town.railway).open() as api:
        gateway = LiteLLM(town.runtime.url, SecretStr(KEY), traced=True, langfuse_url=town.runtime.url)
        runbook = Untraced(api, Targets(timeout=20, litellm=gateway), lambda: "upgrade" if desk.asked else "", WAITS)
        desk.pace = IMPATIENT
        with pytest.raises(NotHealed, match="by now upgrade is under way: wait for its end"):
            desk.heal(runbook)
    assert town.state() == before


@pytest.mark.parametrize(
    ("text", "start", "sentence"),
    [
        (THREE, "litellm --config /app/own.yaml", "does not read LITELLM_CONFIG: in the file that it does read write"),
        (None, START, "LITELLM_CONFIG is not set, so LiteLLM runs with defaults: deploy/on-demand writes what ships"),
        ("[1]", START, "LITELLM_CONFIG is no YAML of LiteLLM's, or refers to another variable"),
        (
            "litellm_settings:\n  success_callback:\n    - langfuse\n",
            START,
            r"somebody's own: write `callbacks: \[\"langfuse_otel\"\]` under litellm_settings, and take langfuse out of",
        ),
    ],
    ids=["file of its own", "not set", "no mapping", "list over lines"],
)
def test_a_configuration_that_is_another_s_is_left_to_a_person_with_the_lines_to_write(
    tmp_path: Path, desk: Desk, text: str | None, start: str, sentence: str
) -> None:
    town = Town(tmp_path, text if text != "[1]" else THREE, start=start)
    try:
        if text == "[1]":
            town.operator.set_variables(town.service_id, {CONFIGURATION: text})
        before = town.state()
        with pytest.raises(NotHealed, match=rf"needs a person: .*{sentence}.*; nothing was changed"):
            town.heal(desk)
        assert town.state() == before
    finally:
        town.close()


def test_a_sealed_configuration_and_an_unknown_gateway_are_left_to_a_person(town: Town, desk: Desk) -> None:
    with pytest.raises(NotHealed, match="nobody could look at its callbacks, and unknown is not wrong"):
        town.heal(desk, key="sk-another")
    town.railway.seal("litellm", CONFIGURATION)
    with pytest.raises(NotHealed, match="LITELLM_CONFIG is sealed, so nobody can read it"):
        town.heal(desk)
    assert town.deployments() == 1


def test_prompts_are_not_sent_to_the_cloud_where_only_the_old_callback_knows_where_langfuse_is(town: Town, desk: Desk) -> None:
    """LANGFUSE_BASE_URL leads `langfuse` and not `langfuse_otel`."""
    town.operator.set_variables(town.service_id, {"LANGFUSE_HOST": "", "LANGFUSE_BASE_URL": town.runtime.url})
    before = town.state()
    with pytest.raises(NotHealed, match="set LANGFUSE_OTEL_HOST of litellm to langfuse-web's private address first"):
        town.heal(desk)
    assert town.state() == before
    town.operator.set_variables(town.service_id, {"LANGFUSE_OTEL_HOST": town.runtime.url})
    assert town.heal(desk) == "healed"


# --- decisions -----------------------------------------------------------------------------------------------------------


def there(status: str = "SUCCESS", image: str = OLD, runs: str = OLD) -> ServiceInstance:
    at = datetime(2026, 11, 26, tzinfo=UTC)
    newest = Deployment.model_validate({"id": "d", "status": status, "createdAt": at, "meta": {"image": runs}})
    return ServiceInstance.model_validate(
        {"id": "i", "serviceId": "s", "serviceName": "litellm", "source": {"image": image}, "startCommand": START}
    ).model_copy(update={"latest": newest})


KNOWN = Known(["dropped"], there(), litellm="1.102.4", langfuse="4.16.0", runs_with=["langfuse"], text=THREE)


@pytest.mark.parametrize(
    ("known", "verdict", "part"),
    [
        (replace(KNOWN, wrong=[]), Verdict.NOTHING, "traces its requests"),
        (KNOWN, Verdict.HEALS, "dropped"),
        (replace(KNOWN, at_work="backup"), Verdict.HEALS, "dropped"),
        (replace(KNOWN, at_work="restore"), Verdict.PERSON, "restore is under way"),
        (replace(KNOWN, there=None), Verdict.PERSON, "Railway has no deployment of litellm"),
        (replace(KNOWN, there=there("BUILDING")), Verdict.PERSON, "is under way: wait for its end"),
        (replace(KNOWN, there=there("NEEDS_APPROVAL")), Verdict.PERSON, "waits for approval"),
        (replace(KNOWN, there=there("FAILED")), Verdict.HEALS, "dropped"),
        (replace(KNOWN, there=there(image=NEW)), Verdict.PERSON, "would change the release, too"),
        (replace(KNOWN, led=False), Verdict.PERSON, "prompts would go to Langfuse's cloud"),
        (
            replace(KNOWN, led=False, langfuse="3.225.4", text="litellm_settings:\n  callbacks: [s3]\n"),
            Verdict.HEALS,
            "dropped",
        ),
        (replace(KNOWN, langfuse=""), Verdict.PERSON, "Langfuse does not say its version"),
        (replace(KNOWN, text=FOUR), Verdict.HEALS, "LITELLM_CONFIG is right"),
        (replace(KNOWN, text="${{shared.LITELLM_CONFIG}}"), Verdict.PERSON, "refers to another variable"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, part: str) -> None:
    found = decide(known, lambda *_: ())
    assert (found.verdict, part in found.sentence) == (verdict, True), found.sentence


@pytest.mark.parametrize(
    ("image", "says", "langfuse", "wanted"),
    [
        (OLD, "1.102.4", "4.16.0", "langfuse_otel"),
        (OLD, "1.102.4", "3.225.4", "langfuse"),
        (NEW, "1.104.0", "4.16.0", "langfuse"),
        ("ghcr.io/berriai/litellm:main-stable", "1.102.4", "4.16.0", "langfuse_otel"),
    ],
)
def test_both_versions_decide_on_the_callback(image: str, says: str, langfuse: str, wanted: str) -> None:
    assert replace(KNOWN, there=there(image=image, runs=image), litellm=says, langfuse=langfuse).wanted == wanted


@pytest.mark.parametrize("status", list(DeploymentStatus))
def test_nothing_is_deployed_into_a_deployment_that_is_not_over(status: DeploymentStatus) -> None:
    heals = decide(replace(KNOWN, there=there(status.value)), lambda *_: ()).verdict is Verdict.HEALS
    assert heals == (status.over and status is not DeploymentStatus.NEEDS_APPROVAL)


# --- the text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ("  success_callback: [langfuse]\n", "langfuse_otel", '  callbacks: ["langfuse_otel"]\n'),
        ("  callbacks: [langfuse]  # ours\n", "langfuse_otel", '  callbacks: ["langfuse_otel"]  # ours\n'),
        ("  callbacks: [a]\r\n", "langfuse_otel", '  callbacks: ["a", "langfuse_otel"]\r\n'),
        (
            "  failure_callback: [langfuse] # b\n",
            "langfuse_otel",
            '  callbacks: ["langfuse_otel"]\n  failure_callback: [] # b\n',
        ),
        ("  callbacks: [langfuse, langfuse_otel]\n", "langfuse_otel", '  callbacks: ["langfuse_otel"]\n'),
        ("  success_callback: [a]\n", "langfuse", '  failure_callback: ["langfuse"]\n  success_callback: ["a", "langfuse"]\n'),
        ("  callbacks: [langfuse_otel]\n", "langfuse", "  callbacks: [langfuse_otel]\n"),
    ],
)
def test_the_lines_of_callbacks_change_and_no_other(before: str, wanted: str, after: str) -> None:
    frame = "# first\nlitellm_settings:\n  a: 1  # one\n{}  b: [langfuse]\nother: {{callbacks: [langfuse]}}\n"
    new = refitted(frame.format(before), wanted)
    assert new == frame.format(after)
    assert fits(new, wanted)
    assert refitted(new, wanted) == new, "twice"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "litellm_settings: {callbacks: [langfuse]}\n",
        "litellm_settings:\n  a: 1\n",
        "litellm_settings:\n  callbacks:\n    - langfuse\n",
        "litellm_settings:\n  success_callback: [langfuse]\n  failure_callback:\n    - langfuse\n",
        "litellm_settings:\n  callbacks: langfuse\n",
        "litellm_settings:\n  callbacks: [1, langfuse]\n",
        "litellm_settings:\n  nested:\n    callbacks: [langfuse]\n",
        "litellm_settings:\n  a: |\n   callbacks: [langfuse]\n",
        "litellm_settings:\n  callbacks: [langfuse]\n  callbacks: [langfuse]\n",
        "litellm_settings:\n  callbacks: [langfuse\n",
        "router_settings:\n  callbacks: [langfuse]\n",
    ],
)
def test_a_text_that_is_not_understood_is_left_alone(text: str) -> None:
    assert refitted(text, "langfuse_otel") is None


@pytest.mark.parametrize("wanted", ["langfuse", "langfuse_otel"])
def test_what_a_person_is_told_to_write_fits(wanted: str) -> None:
    lines = to_write(wanted).split("`")[1::2]
    text = "litellm_settings:\n" + "".join(f"  {line}\n" for line in lines)
    assert fits(text, wanted)
    assert callbacks_of(text) == {wanted}
