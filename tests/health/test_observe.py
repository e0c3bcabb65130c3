"""The round itself: nothing delays or hides anything else, whatever a service or a check does. And public URLs, with TLS."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from blocks.s3_light import Place
from blocks.settings import Settings
from flows.health.findings import Findings
from flows.health.observation import Observation, Status
from flows.health.observe import Check, carry_out, checks, observe
from flows.health.reach import Answer, Web, tls
from flows.health.targets import ClickHouse, LiteLLM, Postgres, Prefect, PublicUrl, Store, Targets
from shared.engines.process import free_port
from shared.sandbox.public_site import PublicSite
from tests.health.looks import CANARY, Scripted, Seen, look, silent_port

SERVICES = ["postgres", "clickhouse", "redis", "minio", "backups", "litellm", "langfuse-web", "langfuse-worker"]
PREFECT = ["prefect-server", "prefect-worker"]


def everything_at(port: int, *, timeout: float = 5.0) -> Targets:
    """Every service of the stack at one port."""
    url, secret = f"http://127.0.0.1:{port}", SecretStr(CANARY)
    return Targets(
        timeout=timeout,
        litellm=LiteLLM(url, secret, traced=True, langfuse_url=url),
        langfuse_web=url,
        langfuse_worker=url,
        postgres=Postgres(SecretStr(f"postgresql://watcher:{CANARY}@127.0.0.1:{port}/postgres")),
        clickhouse=ClickHouse(url, "default", secret),
        redis=SecretStr(f"redis://:{CANARY}@127.0.0.1:{port}/0"),
        store=Store(Place(url, "backups", "us-east-1", "key", secret), "backups/x/", verify_key="00" * 32),
        prefect=Prefect(f"{url}/api", "ops"),
        public=(PublicUrl(url, "litellm"), PublicUrl(f"https://127.0.0.1:{port}")),
    )


def watched(targets: Targets) -> tuple[list[Observation], float]:
    begun = time.monotonic()
    found = asyncio.run(observe(targets))
    return found, time.monotonic() - begun


def test_a_stack_that_hangs_is_said_to_be_down_in_the_time_of_one_check() -> None:
    watched(everything_at(free_port(), timeout=1.0))  # imports, certificates
    with silent_port() as port:
        found, seconds = watched(everything_at(port, timeout=1.0))
    said = {one.service: one.sentence for one in found}
    assert said["backups"].startswith("the store of the backups did not answer within 1 s; see the object store")
    assert said["prefect-worker"].startswith("Prefect's API did not answer within 1 s; see the Prefect server")
    assert seconds < 6.0, "one after the other they would take 13 s"
    assert [one.service for one in found if one.service != "public"][: len(SERVICES)] == SERVICES
    by_service: dict[str, list[Observation]] = {}
    for one in found:
        by_service.setdefault(one.service, []).append(one)
    for service in [*SERVICES, *PREFECT, "public"]:
        expected = Status.UNKNOWN if service in ("backups", "prefect-worker") else Status.DOWN
        assert [one.status for one in by_service[service] if not one.aspect.startswith("url-")] in ([expected], [])
    assert not any(CANARY in one.sentence for one in found)
    assert not any("127.0.0.1" in one.sentence for one in found if not one.aspect.startswith("url-"))


def test_a_stack_that_is_gone_is_said_to_be_down_at_once() -> None:
    found, seconds = watched(everything_at(free_port()))
    assert seconds < 5.0
    assert all("refuses connections" in one.sentence for one in found)


def test_one_that_hangs_delays_nobody_and_hides_nobody() -> None:
    answers = {"/api/public/health": (200, '{"version":"4.16.0"}'), "/api/public/ready": (200, "{}")}
    with silent_port() as port, Scripted(answers) as server:
        targets = Targets(litellm=LiteLLM(f"http://127.0.0.1:{port}"), langfuse_web=server.url, timeout=0.5)
        found, seconds = watched(targets)
    assert seconds < 2.0
    assert {(one.service, one.status) for one in found} == {("litellm", Status.DOWN), ("langfuse-web", Status.OK)}


def test_an_answer_that_stays_away_costs_its_own_aspect_only() -> None:
    """LiteLLM lives, and its readiness waits for a database that hangs."""
    release = threading.Event()
    with Scripted({"/health/liveliness": (200, "{}"), "/v1/models": (401, "{}")}) as server:
        server.hold = {"/health/readiness": release}
        seen = look(Targets(litellm=LiteLLM(server.url), timeout=0.5), "litellm")
        release.set()
    assert seen.bad() == {"readiness": Status.DOWN}
    assert "did not answer within 0.5 s when asked about readiness" in seen.sentence("readiness")
    assert seen["authentication"].status is Status.OK


def test_a_service_that_is_restarting_this_very_moment_is_tried_once_more() -> None:
    port = free_port()

    class Restarting(httpx.AsyncHTTPTransport):
        """Refused once by the kernel, which starts the service."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            try:
                return await super().handle_async_request(request)
            except httpx.ConnectError:
                started.append(running.enter_context(Scripted({"/ready": (200, "{}")}, port=port)))
                raise

    async def asked() -> Answer:
        async with httpx.AsyncClient(transport=Restarting(), base_url=f"http://127.0.0.1:{port}") as client:
            return await Web(client).get("/ready")

    started: list[Scripted] = []
    with ExitStack() as running:
        assert asyncio.run(asked()).status == 200
    assert len(started) == 1, "the second try was the last"


# --- checks that are wrong themselves --------------------------------------------------------------------------------------


def carried_out(*wanted: Check, seconds: float = 0.3) -> tuple[Seen, float]:
    begun = time.monotonic()
    found = asyncio.run(carry_out(wanted, seconds))
    return Seen({one.aspect: one for one in found}), time.monotonic() - begun


async def fine(found: Findings) -> None:
    found.add("fine", Status.OK, "well")


def test_a_bug_in_a_check_is_unknown_names_it_and_hides_no_other() -> None:
    async def broken(found: Findings) -> None:
        raise KeyError(CANARY)

    async def broken_inside(found: Findings) -> None:
        with found.looking("inside", Status.DOWN):
            raise ZeroDivisionError(CANARY)

    async def broken_afterwards(found: Findings) -> None:
        with found.looking("main", Status.DOWN):
            found.add("main", Status.OK, "well")
            raise TypeError(CANARY)

    seen, _ = carried_out(
        Check("redis", "ping", broken),
        Check("redis", "x", broken_inside),
        Check("redis", "x", broken_afterwards),
        Check("x", "y", fine),
    )
    assert {aspect: one.status for aspect, one in seen.items()} == {
        "ping": Status.UNKNOWN,
        "inside": Status.UNKNOWN,
        "main": Status.OK,
        "check": Status.UNKNOWN,
        "fine": Status.OK,
    }
    assert "redis/ping itself failed (KeyError)" in seen.sentence("ping")
    assert CANARY not in "".join(one.sentence for one in seen.values())


def test_a_check_that_does_not_even_give_up_is_left_behind() -> None:
    stubborn_ended = threading.Event()

    async def stubborn(found: Findings) -> None:
        with found.looking("main", Status.DOWN):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                try:
                    await asyncio.sleep(30)
                finally:
                    stubborn_ended.set()

    seen, seconds = carried_out(Check("redis", "main", stubborn), Check("x", "y", fine))
    assert seconds < 2.0
    assert seen["main"].status is Status.DOWN
    assert seen["fine"].status is Status.OK
    assert stubborn_ended.is_set()


def test_a_name_that_does_not_resolve_is_down_and_no_thread_is_waited_for() -> None:
    found, seconds = watched(Targets(langfuse_web="http://no-such-service.invalid:3000", timeout=2.0))
    assert seconds < 4.0
    assert found[0].status is Status.DOWN
    assert "no-such-service" not in found[0].sentence


# --- what is configured ----------------------------------------------------------------------------------------------------


def test_what_is_not_configured_is_not_looked_at() -> None:
    assert asyncio.run(observe(Targets.from_settings(Settings(backup_bucket="b")))) == []
    some = Settings(litellm_url="http://litellm:4000", redis_url=SecretStr("redis://x"), langfuse_worker_url="http://w:3030")
    assert [check.service for check in checks(Targets.from_settings(some))] == [
        "redis",
        "litellm",
        "langfuse-worker",
        "langfuse-worker",
    ]


def test_everything_that_is_configured_is_looked_at() -> None:
    secret = SecretStr(CANARY)
    settings = Settings(
        litellm_url="http://litellm:4000",
        litellm_master_key=secret,
        langfuse_web_url="http://web:3000",
        langfuse_worker_url="http://worker:3030",
        postgres_backup_url=SecretStr(f"postgresql://backup:{CANARY}@db/postgres"),
        clickhouse_host="fd12::1",
        clickhouse_password=secret,
        redis_url=SecretStr(f"redis://:{CANARY}@redis/0"),
        minio_access_key="key",
        minio_secret_key=secret,
        source_buckets=["langfuse"],
        prefect_api_url="http://prefect:4200/api",
        prefect_api_auth_string=secret,
        public_urls=["litellm=https://llm.example.com", "https://example.com/?a=b"],
        backup_max_age_hours=7,
    )
    targets = Targets.from_settings(settings)
    assert [check.service for check in checks(targets)] == [
        *SERVICES,
        "langfuse-worker",
        *PREFECT,
        "litellm",
        "public",
    ]
    assert targets.public == (PublicUrl("https://llm.example.com", "litellm"), PublicUrl("https://example.com/?a=b"))
    assert targets.clickhouse is not None
    assert targets.clickhouse.url == "http://[fd12::1]:8123"
    assert targets.store is not None
    assert targets.store.root == "backups/stack/"
    assert [place.bucket for place in targets.store.sources] == ["langfuse"]
    assert targets.limits.backup_hours == 7
    assert CANARY not in repr(targets)


# --- public URLs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PublicSite]:
    made = PublicSite(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    tls.cache_clear()
    yield made
    made.close()
    tls.cache_clear()


def public(site: PublicSite) -> Seen:
    return look(Targets(public=(PublicUrl(site.url, "litellm"),)), "litellm")


def test_a_certificate_is_mentioned_urged_and_paged_and_fine_again_when_renewed(site: PublicSite) -> None:
    certificate = f"certificate-localhost:{site.port}"
    for days, status in ((29, Status.DEGRADED), (13, Status.DEGRADED), (2, Status.DOWN), (90, Status.OK)):
        site.days(days)
        seen = public(site)
        assert seen.bad() == ({} if status is Status.OK else {certificate: status})
        assert seen[certificate].value == pytest.approx(days, abs=0.1)
        assert f"good for {days} days" in seen.sentence(certificate)
    site.days(13)
    assert "renew it now" in public(site).sentence(certificate)


def test_a_certificate_that_has_expired_or_is_another_s_is_down(site: PublicSite) -> None:
    certificate = f"certificate-localhost:{site.port}"
    site.days(-1)
    seen = public(site)
    assert seen.bad() == {certificate: Status.DOWN}
    assert "has expired" in seen.sentence(certificate)
    site.days(90, host="other.example")
    assert "is not accepted (Hostname mismatch" in public(site).sentence(certificate)
    site.days(90)
    assert public(site).bad() == {}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"200 OK", Status.OK),
        (b"302 Found", Status.OK),
        (b"401 Unauthorized", Status.OK),
        (b"404 Not Found", Status.DOWN),
        (b"502 Bad Gateway", Status.DOWN),
    ],
)
def test_a_public_url_is_judged_by_whether_somebody_is_behind_it(site: PublicSite, answer: bytes, status: Status) -> None:
    site.status = answer
    seen = public(site)
    assert seen[f"url-localhost:{site.port}"].status is status
    assert seen[f"certificate-localhost:{site.port}"].status is Status.OK


def test_a_public_url_that_nobody_answers_is_down_and_needs_no_tls() -> None:
    with Scripted({"/login": (200, "")}) as server:
        assert look(Targets(public=(PublicUrl(f"{server.url}/login".replace("127.0.0.1", "localhost")),)), "public").bad() == {}
    seen = look(Targets(public=(PublicUrl("http://localhost:9"),)), "public")
    assert seen.bad() == {"url-localhost:9": Status.DOWN}
