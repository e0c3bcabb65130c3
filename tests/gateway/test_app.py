"""What the gateway answers, asked over HTTP."""

from __future__ import annotations

from datetime import timedelta

import pytest

from blocks.errors import ServiceError, SettingsError
from railway.gateway.security import LARGEST_BODY
from shared.sandbox.sample_history import published
from tests.gateway.serving import BEARER, TOKEN, Served, chunks, now


def test_livez_says_that_the_gateway_runs_whatever_the_stack_does(gateway: Served) -> None:
    gateway.show(published(now(), {"postgres": "down"}))
    assert gateway.get("/livez", token=False).status_code == 200


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        ({}, "healthy", 200),
        ({"litellm": "degraded"}, "degraded", 200),
        ({"litellm": "maintenance", "redis": "unknown"}, "healthy", 200),
        ({"litellm": "degraded", "redis": "down"}, "unhealthy", 503),
    ],
)
def test_health_is_503_where_a_service_is_down(gateway: Served, words: dict[str, str], status: str, code: int) -> None:
    gateway.show(published(now(), words))
    answer = gateway.get("/health", token=False)
    assert (answer.status_code, answer.json()["status"]) == (code, status)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "no service is watched"),
        ({"redis": "unknown", "postgres": "unknown"}, "no service could be checked"),
        ({"redis": "unknown", "postgres": "maintenance"}, "no service could be checked"),
    ],
)
def test_health_is_unknown_and_503_where_nothing_could_be_found_out(gateway: Served, words: dict[str, str], said: str) -> None:
    state = published(now(), words)
    gateway.show(state.model_copy(update={"verdicts": [one for one in state.verdicts if one.service in words]}))
    answer = gateway.get("/health", token=False)
    assert (answer.status_code, answer.json()["status"]) == (503, "unknown")
    assert said in answer.json()["detail"]


def test_health_has_the_shape_of_the_predecessor(gateway: Served) -> None:
    gateway.show(published(now(), {"redis": "down"}))
    document = gateway.get("/health").json()
    assert document.keys() >= {"status", "timestamp", "services"}
    assert document["services"]["redis"] == {
        "status": "unhealthy",
        "verdict": "down",
        "response_time_ms": None,
        "last_check": document["last_sweep"],
        "error": "no answer within 5 s, expected one; see the service's log and restart it",
        "consecutive_failures": 12,
    }
    assert document["services"]["postgres"]["error"] is None


def test_health_tells_what_is_wrong_only_to_who_may_see_the_page(gateway: Served) -> None:
    gateway.show(published(now(), {"redis": "down"}))
    assert gateway.get("/health", token=False).json()["services"]["redis"]["error"] is None


def test_health_is_503_and_says_so_when_sweeps_have_stopped(gateway: Served) -> None:
    old = published(now() - timedelta(minutes=7))
    gateway.show(old)
    answer = gateway.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unknown")
    assert "the last sweep reported 7 min ago, expected every 60 s" in answer.json()["detail"]


def test_before_the_first_sweep_health_is_503_and_the_page_says_why(gateway: Served) -> None:
    gateway.show(None)
    assert gateway.get("/health").status_code == 503
    assert "no sweep has reported yet" in gateway.get("/health").json()["detail"]
    assert "No sweep has reported yet" in gateway.get("/").text


def test_a_source_that_fails_leaves_the_last_state_with_its_age(gateway: Served) -> None:
    gateway.show(published(now(), {"redis": "down"}))
    gateway.state.write_text("torn")
    gateway.keeper.look()
    page = gateway.get("/").text
    assert "Redis is down" in page
    assert "not what a sweep publishes" in page
    assert "what follows was known just now" in page
    assert gateway.get("/health").json()["status"] == "unhealthy"
    assert "stack_watch_stale 1.0" in gateway.get("/metrics").text


@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_page_and_metrics_need_the_token(gateway: Served, path: str) -> None:
    gateway.show(published(now()))
    refused = gateway.get(path, token=False)
    assert refused.status_code == 401
    assert "Postgres" not in refused.text
    assert gateway.get(path).status_code == 200


def test_a_public_page_needs_no_token_but_starting_things_does(public: Served) -> None:
    public.show(published(now()))
    assert public.get("/", token=False).status_code == 200
    assert public.get("/metrics", token=False).status_code == 200
    assert public.http.post("/backup").status_code == 401


def test_the_form_exchanges_the_token_for_a_cookie_that_is_not_the_token(gateway: Served) -> None:
    gateway.show(published(now()))
    answer = gateway.http.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    session = cookie.partition(";")[0]
    assert "Everything is up" in gateway.get("/", token=False, headers={"Cookie": session}).text
    forged = session[:-1] + ("0" if session[-1] != "0" else "1")
    assert gateway.get("/", token=False, headers={"Cookie": forged}).status_code == 401
    gateway.http.cookies.clear()


def test_behind_https_the_cookie_is_secure(gateway: Served) -> None:
    answer = gateway.http.post("/login", data={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["set-cookie"]
    gateway.http.cookies.clear()


def test_a_wrong_token_in_the_form_is_said_beside_the_field(gateway: Served) -> None:
    answer = gateway.http.post("/login", data={"token": "guess"})
    assert answer.status_code == 401
    assert "That is not the token." in answer.text
    assert "guess" not in answer.text


@pytest.mark.parametrize(("body", "code"), [(b"", 401), (b"\xff\xfe=%00", 401), (b"&".join([b"a=b"] * 20), 400)])
def test_what_is_not_the_form_is_refused(gateway: Served, body: bytes, code: int) -> None:
    answer = gateway.http.post("/login", content=body, headers={"X-Forwarded-For": "198.51.100.23"})
    assert answer.status_code == code
    assert "set-cookie" not in answer.headers


def test_a_cookie_starts_nothing(gateway: Served) -> None:
    session = gateway.http.post("/login", data={"token": TOKEN}).headers["set-cookie"].partition(";")[0]
    gateway.http.cookies.clear()
    assert gateway.get("/backup", token=False, headers={"Cookie": session}).status_code == 401


def test_a_token_in_the_url_is_none(gateway: Served) -> None:
    assert gateway.get(f"/backup?token={TOKEN}", token=False).status_code == 401
    assert gateway.get(f"/?token={TOKEN}", token=False).status_code == 401


def test_check_and_backup_start_their_deployments_and_answer_with_the_runs_url(fresh: Served) -> None:
    for method, path in (("POST", "/check"), ("POST", "/backup"), ("GET", "/backup")):
        answer = fresh.http.request(method, path, headers=BEARER)
        assert answer.status_code == 202
        assert answer.json()["url"] == answer.headers["location"]
    assert fresh.runs.started == ["health/sweep", "backup/on-demand", "backup/on-demand"]
    assert fresh.get("/check").status_code == 405


@pytest.mark.parametrize(
    ("failure", "code"),
    [(SettingsError("backup/on-demand: no such deployment"), 404), (ServiceError("backup/on-demand: Prefect failed"), 503)],
)
def test_what_could_not_be_started_is_said(fresh: Served, failure: ServiceError, code: int) -> None:
    fresh.runs.failure = failure
    answer = fresh.http.post("/backup", headers=BEARER)
    assert (answer.status_code, answer.json()["error"]) == (code, str(failure))


def test_without_a_token_nothing_can_be_started_or_seen_and_it_says_what_to_set(without_token: Served) -> None:
    for answer in (without_token.http.post("/check", headers={"Authorization": "Bearer x"}), without_token.get("/metrics")):
        assert answer.status_code == 503
        assert "set GATEWAY_TOKEN" in answer.json()["error"]
    page = without_token.get("/", token=False)
    assert page.status_code == 503
    assert "set GATEWAY_TOKEN" in page.text
    assert without_token.get("/livez").status_code == 200


def test_who_guesses_is_stopped_and_who_knows_the_token_is_not(fresh: Served) -> None:
    guesser, operator = {"X-Forwarded-For": "203.0.113.9"}, {**BEARER, "X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    codes = [
        fresh.get("/metrics", token=False, headers={**guesser, "Authorization": f"Bearer {n}"}).status_code for n in range(12)
    ]
    assert codes == [401] * 10 + [429] * 2
    stopped = fresh.http.post("/login", data={"token": "guess"}, headers=guesser)
    assert stopped.status_code == 429
    assert int(stopped.headers["retry-after"]) > 0
    assert fresh.get("/metrics", headers=operator).status_code == 200
    assert fresh.get("/metrics", headers=guesser).status_code == 200, "they may share an address"
    assert fresh.http.post("/login", data={"token": TOKEN}, headers=guesser).status_code == 303


def test_who_guesses_cannot_pass_for_others_by_lines_of_its_own(fresh: Served) -> None:
    codes = [
        fresh.http.get(
            "/metrics",
            headers=[
                ("X-Forwarded-For", f"192.0.2.{number}"),
                ("X-Forwarded-For", f"192.0.2.{number}, 203.0.113.9"),
                ("Authorization", "Bearer guess"),
            ],
        ).status_code
        for number in range(12)
    ]
    assert codes == [401] * 10 + [429] * 2


def test_starting_is_limited_with_the_right_token_too(fresh: Served) -> None:
    codes = [fresh.http.post("/backup", headers=BEARER).status_code for _ in range(5)]
    assert codes == [202] * 4 + [429]
    assert fresh.http.post("/check", headers=BEARER).status_code == 202


def test_large_bodies_are_refused_with_or_without_a_length(gateway: Served) -> None:
    body = b"token=" + b"x" * LARGEST_BODY
    assert gateway.http.post("/login", content=body).status_code == 413
    assert gateway.http.post("/check", content=body, headers=BEARER).status_code == 413
    assert gateway.http.post("/login", content=chunks([body[:3000], body[3000:]])).status_code == 413
    assert gateway.runs.started == []


def test_unchanged_pages_cost_nothing_and_large_ones_come_packed(gateway: Served) -> None:
    gateway.show(published(now()))
    page = gateway.get("/")
    assert page.headers["content-encoding"] == "gzip"
    assert page.headers["cache-control"] == "private, no-cache"
    again = gateway.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    gateway.show(published(now(), {"redis": "down"}))
    assert gateway.get("/", headers={"If-None-Match": page.headers["etag"]}).status_code == 200
    plain = gateway.get("/", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("path", ["/", "/livez", "/health", "/metrics", "/nowhere", "/favicon.svg"])
def test_every_answer_has_the_headers_that_keep_browsers_safe(gateway: Served, path: str) -> None:
    answer = gateway.get(path, token=path != "/metrics", headers={"X-Forwarded-Proto": "https"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "max-age" in answer.headers["strict-transport-security"]
    assert "server" not in answer.headers


def test_railways_own_host_name_is_accepted(gateway: Served) -> None:
    assert gateway.get("/livez", headers={"Host": "healthcheck.railway.app"}).status_code == 200


def test_neither_secrets_nor_internal_hosts_come_out_anywhere(gateway: Served) -> None:
    canaries = [
        "hunter2canary",
        "postgres.railway.internal",
        "10.1.2.3",
        "sk-canary0123456789",
        "fd12:3456::9",
        "xoxb-canary-123456",
    ]
    sentence = (
        "connecting to postgresql://backup:hunter2canary@postgres.railway.internal:5432/postgres (10.1.2.3:5432, "
        "[fd12:3456::9]:5432) with sk-canary0123456789 and xoxb-canary-123456 failed; https://status.example.com/x is not it"
    )
    state = published(now(), {"postgres": "down"})
    verdict = state.verdicts[0].model_copy(
        update={
            "sentence": sentence,
            "observations": (state.verdicts[0].observations[0].model_copy(update={"sentence": sentence}),),
        }
    )
    told = state.open[0].model_copy(
        update={
            "incident": state.open[0].incident.model_copy(update={"sentence": sentence}),
            "timeline": [state.open[0].timeline[0].model_copy(update={"text": sentence})],
        }
    )
    gateway.show(state.model_copy(update={"verdicts": [verdict], "open": [told], "run_url": "http://10.1.2.3:4200/runs/1"}))
    texts = [gateway.get(path).text for path in ("/", "/health", "/metrics")]
    for text in texts:
        assert [canary for canary in [*canaries, TOKEN] if canary in text] == []
    assert "https://status.example.com/x" in texts[0], "what is public may be said"
