"""The stack's lock: never two holders, whatever dies, hangs or gets lost."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from blocks.errors import IntegrityError, LeaseHeld, LeaseLost
from blocks.object_store import BackupStore
from flows.lease import Lease, LeaseRecord, acquire, exclusive, lock_key
from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until
from tests.flows.lease_holder import Holder
from tests.proxy import Proxy
from tests.stores import ONE_TRY, seen_through

LIFE = 3
"""Seconds a lease lives unrenewed; the store's clock ticks in seconds."""


def take(store: BackupStore, *, flow: str = "backup", holder: str = "run 1", seconds: int = LIFE, wait: float = 0) -> Lease:
    return acquire(store, flow=flow, holder=holder, seconds=seconds, wait=wait)


def record(store: BackupStore) -> LeaseRecord:
    return LeaseRecord.model_validate_json(store.get(lock_key(store)))


def renewed(store: BackupStore, since: LeaseRecord) -> bool:
    return record(store).expires_at > since.expires_at


@pytest.fixture
def new_holder(store: BackupStore) -> Iterator[Callable[[], Holder]]:
    """Makes processes that are ready to hold this test's lock."""
    holders: list[Holder] = []

    def new() -> Holder:
        holders.append(Holder(store, LIFE))
        return holders[-1]

    yield new
    for holder in holders:
        holder.end()


# --- one holder at a time ------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused_and_told_who_holds_the_lock(store: BackupStore) -> None:
    lease = take(store, flow="restore", holder="run 7")
    with pytest.raises(
        LeaseHeld, match=r"^prune: the stack's lock is held by restore \(run 7\) until \d\d:\d\d:\d\d UTC; "
    ) as no:
        take(store, flow="prune", holder="run 8")
    assert not no.value.permanent
    lease.check()
    lease.release()


def test_a_released_lock_is_free_at_once_and_its_token_has_grown(store: BackupStore) -> None:
    tokens = []
    for _ in range(3):
        lease = take(store)
        tokens.append(lease.token)
        lease.release()
    assert tokens == [1, 2, 3]


def test_threads_never_hold_it_together(store: BackupStore) -> None:
    inside, most, tokens = 0, 0, []
    mutex = threading.Lock()

    def work(name: str) -> None:
        nonlocal inside, most
        for _ in range(2):
            with exclusive(store, flow="backup", holder=name, seconds=LIFE, wait=60) as lease:
                with mutex:
                    inside += 1
                    most = max(most, inside)
                    tokens.append(lease.token)
                lease.check()
                with mutex:
                    inside -= 1

    threads = [threading.Thread(target=work, args=(f"thread {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert tokens == list(range(1, 9)), "each holder has a token of its own, in the order of holding"


def test_who_comes_second_by_a_hair_is_told_who_was_first(store: BackupStore) -> None:
    """Both saw the lock free; the conditional write decides."""
    late = seen_through(store)
    winners: list[Lease] = []

    def be_faster(**_: Any) -> None:
        if not winners:
            winners.append(take(store, holder="the faster"))

    late.client.meta.events.register("before-call.s3.PutObject", be_faster)
    with pytest.raises(LeaseHeld, match="the faster"):
        take(late, holder="the slower")
    winners[0].check()
    winners[0].release()


def test_two_holders_that_call_themselves_the_same_are_not_taken_for_each_other(store: BackupStore) -> None:
    """`by hand` is everybody's name outside a flow run."""
    late = seen_through(store)
    winners: list[Lease] = []

    def be_faster(**_: Any) -> None:
        if not winners:
            winners.append(take(store, holder="by hand"))

    late.client.meta.events.register("before-call.s3.PutObject", be_faster)
    with pytest.raises(LeaseHeld):
        take(late, holder="by hand")
    winners[0].release()


# --- the end of a lease --------------------------------------------------------------------------------------------------


def test_renewal_keeps_the_lock_beyond_its_life(store: BackupStore) -> None:
    lease = take(store)
    first = record(store)
    wait_until(lambda: store.now() > first.expires_at, timeout=30, what="the first life of the lease to pass")
    lease.check()
    with pytest.raises(LeaseHeld):
        take(store, holder="run 2")
    lease.release()


def test_a_lease_ends_by_the_store_s_clock(store: BackupStore) -> None:
    """The record's times are the store's, whatever this machine's clock says."""
    lease = take(store, seconds=60)
    life = (record(store).expires_at - store.now()).total_seconds()
    assert 55 <= life <= 60
    lease.release()


def test_an_expired_record_is_no_lock_any_more(store: BackupStore) -> None:
    gone = LeaseRecord(flow="backup", holder="long dead", token=41, expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    store.put(lock_key(store), gone.model_dump_json().encode())
    lease = take(store)
    assert lease.token == 42
    lease.release()


def test_a_lock_that_was_deleted_by_hand_is_lost(store: BackupStore) -> None:
    lease = take(store)
    store.remove([lock_key(store)])
    with pytest.raises(LeaseLost, match="taken over"):
        lease.check()
    lease.release()


@pytest.mark.parametrize("junk", [b"{}", b"not json"])
def test_what_is_no_lock_is_left_to_a_person(store: BackupStore, junk: bytes) -> None:
    store.put(lock_key(store), junk)
    with pytest.raises(IntegrityError, match=r"lock\.json is not a lock; look at it, and delete it if nothing runs"):
        take(store)


# --- a store that is away ------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(s3_engine: S3Engine) -> Iterator[Proxy]:
    with Proxy(s3_engine.port) as between:
        yield between


def test_a_short_outage_does_not_cost_the_lock(store: BackupStore, proxy: Proxy) -> None:
    lease = take(seen_through(store, url=proxy.url, config=ONE_TRY), seconds=6)
    before = record(store)
    proxy.go_down()
    wait_until(lambda: (before.expires_at - store.now()).total_seconds() < 3, timeout=30, what="a renewal to have failed")
    proxy.come_back()
    wait_until(lambda: renewed(store, before), timeout=5, what="the lease to be renewed after the outage")
    lease.check()
    lease.release()
    assert record(store).released


@pytest.mark.long
def test_an_outage_longer_than_its_life_costs_the_lock(store: BackupStore, s3_engine: S3Engine) -> None:
    impatient = seen_through(store, config=ONE_TRY)
    lease = take(impatient)
    s3_engine.kill()
    try:
        wait_until(lambda: lease._lost is not None, timeout=30, what="the lease to give up")
    finally:
        s3_engine.start()
    with pytest.raises(LeaseLost, match="ran out because the store could not be reached"):
        lease.check()
    lease.release()
    assert not record(store).released
    other = take(store, wait=10)
    assert other.token == 2
    other.release()


def test_a_lock_whose_acknowledgement_got_lost_is_held_all_the_same(store: BackupStore, proxy: Proxy) -> None:
    """The client repeats the write, and the condition does not hold any more: because of its own first write."""
    proxy.swallow_answers(b"PUT /")
    lease = take(seen_through(store, url=proxy.url))
    assert proxy.cuts == 1
    lease.check()
    lease.release()
    assert record(store).released


@pytest.mark.long
@pytest.mark.parametrize("config", [None, ONE_TRY], ids=["repeated by the client", "repeated at the next renewal"])
def test_a_renewal_whose_acknowledgement_got_lost_does_not_cost_the_lock(
    store: BackupStore, proxy: Proxy, config: dict[str, Any] | None
) -> None:
    lease = take(seen_through(store, url=proxy.url, config=config))
    proxy.swallow_answers(b"PUT /")
    wait_until(lambda: proxy.cuts == 1, timeout=10, what="the answer to a renewal to get lost")
    last = record(store)
    wait_until(lambda: renewed(store, last), timeout=10, what="the next renewal")
    lease.check()
    lease.release()
    assert record(store).released


def test_a_renewal_that_was_cut_off_does_not_cost_the_lock(store: BackupStore, proxy: Proxy) -> None:
    """SeaweedFS makes an empty object of a request whose body never came."""
    lease = take(seen_through(store, url=proxy.url, config=ONE_TRY))
    first = record(store)
    proxy.tear_requests(b"PUT /")
    wait_until(lambda: proxy.cuts == 1, timeout=10, what="a renewal to be cut off")
    wait_until(lambda: store.get(lock_key(store)) != b"" and renewed(store, first), timeout=10, what="the next renewal")
    lease.check()
    assert record(store).token == 1
    lease.release()


def test_a_lock_left_empty_by_a_dead_writer_is_taken_over_when_it_has_run_out(store: BackupStore) -> None:
    store.put(lock_key(store), b"")
    with pytest.raises(LeaseHeld, match="cut off"):
        take(store)
    lease = take(store, wait=30)
    assert lease.token > 1_700_000_000, "nobody knows the token before it, so this one is greater than any"
    lease.check()
    lease.release()
    following = take(store)
    assert following.token == lease.token + 1
    following.release()


def test_a_release_that_fails_does_not_hide_the_flow_s_own_outcome(store: BackupStore, proxy: Proxy) -> None:
    with exclusive(seen_through(store, url=proxy.url, config=ONE_TRY), flow="a", holder="b", seconds=60, wait=0):
        proxy.go_down()
    assert not record(store).released


# --- exclusive -----------------------------------------------------------------------------------------------------------


def test_the_lock_is_given_back_when_the_body_fails(store: BackupStore) -> None:
    with pytest.raises(RuntimeError), exclusive(store, flow="backup", holder="a", seconds=LIFE, wait=0):
        raise RuntimeError
    assert record(store).released


def test_an_inner_flow_works_under_the_outer_flow_s_lock(store: BackupStore) -> None:
    with exclusive(store, flow="upgrade", holder="a", seconds=LIFE, wait=0) as outer:
        with exclusive(store, flow="backup", holder="a", seconds=LIFE, wait=0, lease=outer) as inner:
            assert inner is outer
        outer.check()
        assert not record(store).released
    assert record(store).released


def test_holding_leaves_no_thread_behind(store: BackupStore) -> None:
    before = set(threading.enumerate())
    with exclusive(store, flow="backup", holder="a", seconds=60, wait=0):
        assert len(set(threading.enumerate()) - before) == 1
        begun = time.monotonic()
    assert set(threading.enumerate()) <= before
    assert time.monotonic() - begun < 10, "release does not wait for the next renewal"


# --- other processes -----------------------------------------------------------------------------------------------------


def test_processes_never_hold_it_together(new_holder: Callable[[], Holder]) -> None:
    holders = [new_holder(), new_holder()]
    for holder in holders:
        holder.tell("rounds 5")
    times = sorted(tuple(pair) for holder in holders for pair in json.loads(holder.answer()))
    assert len(times) == 10
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))


def test_the_lock_of_a_killed_process_is_taken_over_when_it_has_run_out(
    store: BackupStore, new_holder: Callable[[], Holder]
) -> None:
    holder = new_holder()
    assert holder.ask("acquire") == "1"
    holder.process.kill()
    left = record(store)
    with pytest.raises(LeaseHeld, match="a process"):
        take(store)
    lease = take(store, wait=60)
    assert lease.token == 2
    assert store.now() >= left.expires_at, "not before its end"
    lease.release()


def test_a_holder_that_hung_is_told_that_it_lost_the_lock(store: BackupStore, new_holder: Callable[[], Holder]) -> None:
    """A machine that slept, a process that was stopped: it must not go on where it was."""
    holder = new_holder()
    assert holder.ask("acquire") == "1"
    assert holder.ask("check") == "ok"
    os.kill(holder.process.pid, signal.SIGSTOP)
    lease = take(store, wait=60)
    os.kill(holder.process.pid, signal.SIGCONT)
    assert holder.ask("check") == "LeaseLost"
    assert holder.ask("release") == "ok"
    lease.check()
    assert record(store).token == lease.token == 2, "the late holder's release has not touched the new holder's lock"
    lease.release()
