"""drain-queue on a real Redis: a backlog is watched until it is worked off, a paused queue goes on when a person says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blocks.errors import ApprovalMissing, NotHealed
from blocks.object_store import BackupStore
from flows.runbook.drain_queue import Backlog, Patience
from flows.runbook.frame import RunbookRequest
from shared.engines.process import wait_until
from shared.engines.redis import RedisEngine
from tests.runbook.bullmq import Queues
from tests.runbook.cases import Desk

PATIENCE = Patience(whole=120, window=60, look=0.05)


@pytest.fixture
def queues(redis_engine: RedisEngine) -> Iterator[Queues]:
    with Queues(redis_engine) as made:
        yield made


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def runbook(queues: Queues, patience: Patience = PATIENCE, stuck: float = 1e9) -> Backlog:
    return Backlog(queues.server, queues.targets(queue_depth=20, stuck_seconds=stuck), patience)


def test_a_backlog_is_watched_until_it_is_worked_off_and_every_job_is_done(queues: Queues, desk: Desk) -> None:
    queues.idle = True
    queues.wait(60)
    assert desk.heal(runbook(queues), RunbookRequest(dry_run=True)) == "can heal"
    assert (queues.count("wait"), desk.trail()) == (60, [])
    queues.idle = False
    assert desk.heal(runbook(queues)) == "healed"
    wait_until(lambda: len(queues.done()) == 60, timeout=120, what="the rest to be done")
    assert (queues.count("failed"), desk.asked) == (0, [])
    assert "ingestion-queue | 60 wait" in desk.shown[0].markdown()
    assert desk.heal(runbook(queues)) == "nothing to do"


def test_a_backlog_that_does_not_get_shorter_is_a_persons_and_no_job_is_touched(queues: Queues, desk: Desk) -> None:
    queues.idle = True
    queues.wait(30)
    with pytest.raises(NotHealed, match=r"30 jobs waited, 30 wait .* later: more comes than is done; add replicas"):
        desk.heal(runbook(queues, Patience(whole=60, window=0.3, look=0.05)))
    assert queues.count("wait") == 30


def test_jobs_that_nobody_takes_are_for_another_runbook(queues: Queues, desk: Desk) -> None:
    queues.idle = True
    queues.wait(30, seconds=900)
    with pytest.raises(NotHealed, match=r"30 jobs wait in ingestion-queue.*that is for unwedge-worker; nothing was changed"):
        desk.heal(runbook(queues, stuck=120))


def test_a_paused_queue_goes_on_when_a_person_approves_and_its_jobs_keep_their_order(queues: Queues, desk: Desk) -> None:
    queues.client.hset(queues.key("meta"), "paused", "1")
    queues.wait(30, seconds=900, where="paused")
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(runbook(queues, stuck=120))
    assert (queues.count("paused"), queues.seen) == (30, [])
    desk.approves = True
    assert desk.heal(runbook(queues, stuck=120)) == "healed"
    wait_until(lambda: len(queues.done()) == 30, timeout=120, what="the rest to be done")
    assert queues.done() == [f"waiting-{number}" for number in range(30)]
    assert queues.client.hexists(queues.key("meta"), "paused") == 0
    assert "let ingestion-queue go on" in desk.asked[-1]
    assert desk.heal(runbook(queues, stuck=120)) == "nothing to do"
