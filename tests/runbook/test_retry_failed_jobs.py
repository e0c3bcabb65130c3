"""retry-failed-jobs on a real Redis with a real queue: what is done again, what is left, and when nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blocks.errors import ApprovalMissing, NotHealed, SettingsError
from blocks.object_store import BackupStore
from flows.runbook.failed_jobs import Failed, read_failed, reason_of, retry
from flows.runbook.frame import Action, RunbookRequest, Verdict
from flows.runbook.retry_failed_jobs import GivenUp, Known, RetryRequest, Times, decide
from shared.engines.redis import RedisEngine
from tests.runbook.bullmq import INGESTION, Queues
from tests.runbook.cases import CANARY, IMPATIENT, Desk

REFUSED = "Error: connect ECONNREFUSED 10.1.2.3:8123"


@pytest.fixture
def queues(redis_engine: RedisEngine) -> Iterator[Queues]:
    with Queues(redis_engine) as made:
        yield made


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def runbook(works: Queues, one: float = 120, **request: object) -> GivenUp:
    times = Times(one=one, batch=120, look=0.01)
    return GivenUp(works.server, works.targets(), RetryRequest.model_validate(request), times)


def test_what_an_outage_made_fail_is_done_again_and_a_second_run_finds_nothing(queues: Queues, desk: Desk) -> None:
    queues.give_up(*(f"event-{n}" for n in range(12)), why=REFUSED)
    before = queues.client.zrange(queues.key("failed"), 0, -1, withscores=True)
    assert desk.heal(runbook(queues, batch=5), RunbookRequest(dry_run=True)) == "can heal"
    assert queues.client.zrange(queues.key("failed"), 0, -1, withscores=True) == before
    assert (queues.seen, desk.trail()) == ([], [])
    assert desk.heal(runbook(queues, batch=5)) == "healed"
    assert sorted(queues.done()) == sorted(f"event-{n}" for n in range(12)), "each of them, once"
    assert queues.count("failed") == 0
    assert desk.asked == []
    assert desk.heal(runbook(queues)) == "nothing to do"


def test_a_job_that_cannot_succeed_costs_one_try_and_is_left_with_its_reason_while_the_others_are_done(
    queues: Queues, desk: Desk
) -> None:
    desk.pace = IMPATIENT
    queues.give_up("gone-1", "gone-2", why=f"NoSuchKey: The key '{CANARY}' does not exist.")
    queues.give_up("event-1", "event-2", why=REFUSED)
    queues.fails = lambda data: "NoSuchKey: The key 'x' does not exist." if str(data["name"]).startswith("gone") else ""
    with pytest.raises(
        NotHealed, match=r"2 events were given up.*2 done, 1 failed again.*left alone: ingestion-queue: NoSuchKey"
    ):
        desk.heal(runbook(queues))
    assert sorted(queues.done()) == ["event-1", "event-2"]
    assert [data["name"] for data in queues.seen].count("gone-1") == 1
    assert queues.count("failed") == 2
    assert CANARY not in desk.text(), "a reason may quote what somebody sent"
    with pytest.raises(NotHealed, match="left alone"):
        desk.heal(runbook(queues, tries=1))
    with pytest.raises(NotHealed, match="2 jobs were put back 1 times and failed again, one of ingestion-queue by: NoSuchKey"):
        desk.heal(runbook(queues, tries=1))
    assert len(queues.seen) == 2 + 2, "one try of each, no more"


def test_a_run_that_died_after_some_jobs_is_done_by_the_next(queues: Queues, desk: Desk) -> None:
    queues.idle = True
    queues.give_up(*(f"event-{n}" for n in range(6)), why=REFUSED)
    jobs = read_failed(queues.server.client(), queues.prefix, [INGESTION], 100)
    assert len(retry(queues.server.client(), queues.prefix, jobs[:3], afresh=True)) == 3
    assert retry(queues.server.client(), queues.prefix, jobs[:3], afresh=True) == [], "it waits: twice is once"
    assert (queues.count("wait"), queues.count("failed")) == (3, 3)
    queues.idle = False
    assert desk.heal(runbook(queues)) == "healed"
    assert sorted(queues.done()) == sorted(f"event-{n}" for n in range(6))


def test_jobs_that_nobody_takes_stay_in_their_queue_and_a_person_is_told(queues: Queues, desk: Desk) -> None:
    desk.pace, queues.idle = IMPATIENT, True
    queues.give_up("event-1", "event-2", "event-3", why=REFUSED)
    with pytest.raises(NotHealed, match="nobody has taken a job in"):
        desk.heal(runbook(queues, one=0.1))
    assert (queues.count("wait"), queues.count("failed")) == (1, 2)


def test_nothing_is_put_back_while_the_worker_does_not_take_what_waits(queues: Queues, desk: Desk) -> None:
    queues.idle = True
    queues.give_up("event-1", why=REFUSED)
    queues.wait(1, seconds=600)
    with pytest.raises(NotHealed, match=r"nobody would take them: 1 jobs wait in ingestion-queue.*nothing was changed"):
        desk.heal(runbook(queues))
    assert (queues.count("wait"), queues.count("failed")) == (1, 1)


def test_jobs_of_other_queues_are_retried_only_by_name_and_with_an_approval(queues: Queues, desk: Desk) -> None:
    queues.give_up("hook", why="HTTP 500", queue="webhook-queue")
    assert desk.heal(runbook(queues)) == "nothing to do"
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(runbook(queues, queues=["webhook-queue"]))
    assert queues.count("failed", "webhook-queue") == 1
    desk.approves = True
    assert desk.heal(runbook(queues, queues=["webhook-queue"])) == "healed"
    assert "send webhooks a second time" in desk.asked[-1]
    assert queues.done() == ["hook"]
    with pytest.raises(SettingsError, match="there is no queue 'web-hooks'"):
        desk.heal(runbook(queues, queues=["web-hooks"]))


def test_a_paused_queue_gets_its_jobs_back_where_it_keeps_them(queues: Queues) -> None:
    queues.give_up("event-1", why=REFUSED)
    queues.client.hset(queues.key("meta"), "paused", "1")
    jobs = read_failed(queues.server.client(), queues.prefix, [INGESTION], 100)
    assert len(retry(queues.server.client(), queues.prefix, jobs, afresh=True)) == 1
    assert (queues.count("paused"), queues.count("wait"), queues.count("marker")) == (1, 0, 0)


def test_a_job_of_a_parent_is_not_ours_to_move(queues: Queues) -> None:
    queues.give_up("child", why=REFUSED)
    queues.client.hset(queues.key("1"), "parentKey", f"{queues.prefix}:other:7")
    jobs = read_failed(queues.server.client(), queues.prefix, [INGESTION], 100)
    assert retry(queues.server.client(), queues.prefix, jobs, afresh=True) == []
    assert queues.count("failed") == 1


# --- decisions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (REFUSED, "Error: connect ECONNREFUSED #"),
        ("NoSuchKey: The key 'prj/trace/8f2e1c.json' does not exist.\n    at x.ts:12", "NoSuchKey: The key … does not exist."),
        ("HTTP 503 from s3://bucket/key", "HTTP 503 from …"),
        ('Unexpected token in {"input": "my secret"}', "Unexpected token in …"),
        ("job stalled more than allowable limit", "job stalled more than allowable limit"),
        ("sk-proj-abcdefghijklmnopqrstuvwxyz refused for a.b@example.org", "# refused for …"),
        ("", "no reason given"),
        ("word " * 60, ("word " * 60)[:119] + "…"),
    ],
)
def test_a_reason_is_shown_without_what_it_is_about(text: str, shown: str) -> None:
    assert reason_of(text) == shown


ONE = Failed(INGESTION, "1", "why")


@pytest.mark.parametrize(
    ("known", "verdict", "put_back"),
    [
        (Known([], []), Verdict.NOTHING, 0),
        (Known(["bad"], [ONE], down=["clickhouse"]), Verdict.PERSON, 0),
        (Known(["bad"], [ONE], idle="stuck"), Verdict.PERSON, 0),
        (Known(["bad"], [ONE, Failed(INGESTION, "2", "why", again=2)]), Verdict.HEALS, 1),
        (Known(["bad"], [Failed(INGESTION, "2", "why", again=2)]), Verdict.PERSON, 0),
        (Known(["bad"], [Failed(INGESTION, "2", "why", child=True)]), Verdict.PERSON, 0),
        (Known(["bad"], []), Verdict.PERSON, 0),
    ],
)
def test_the_verdict_follows_from_what_is_known(known: Known, verdict: Verdict, put_back: int) -> None:
    made: list[int] = []

    class Rung(Action):
        def __init__(self, jobs: tuple[Failed, ...]) -> None:
            made.append(len(jobs))

        def describe(self) -> str:
            return ""

        def do(self) -> str:
            return ""

    assert decide(known, 2, Rung).verdict is verdict
    assert made == ([put_back] if put_back else [])
