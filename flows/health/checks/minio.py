"""The object store: does what is written come back, are the buckets there, can nobody else read them.

The probe is one small object below the stack's prefix, under one key, so that nothing piles up when the store fails half-way.
"""

from __future__ import annotations

import asyncio
import secrets
import time

from blocks.errors import SettingsError
from blocks.s3_light import Place, error_code, parse_page
from flows.health.findings import Findings
from flows.health.observation import Status
from flows.health.reach import Answer, Web, web
from flows.health.targets import Store

__all__ = ["MAIN", "check"]

MAIN = "put-get-delete"

_PROBE = b"probe of a health sweep, may be deleted: "
_OURS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed"})
_FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"})


async def check(target: Store, found: Findings) -> None:
    """Look at the store's bucket and at those that are backed up."""
    with found.looking(MAIN, Status.DOWN):
        async with web(target.place.base) as server:
            others = [place for place in target.sources if place.base != target.place.base]
            await asyncio.gather(
                _probe(server, target, found), *(_source(place, target.place, server, found) for place in others)
            )


async def _probe(server: Web, target: Store, found: Findings) -> None:
    """Write an object, read it back, see that a stranger cannot, and delete it."""
    place, key, content = target.place, f"{target.root}health/probe", _PROBE + secrets.token_hex(16).encode()
    begun = time.monotonic()
    for method, body in (("PUT", content), ("GET", b"")):
        answer = await server.ask(place.signed(method, key, body=body))
        if answer.status >= 300:
            _refused(method, answer, place, found)
            return
    read = answer.body
    latency = (time.monotonic() - begun) * 1000
    await _private(server, place, found, key)
    answer = await server.ask(place.signed("DELETE", key))
    found.add(f"bucket-{place.bucket}", Status.OK, f"the bucket {place.bucket} is there")
    if answer.status >= 300:
        _refused("DELETE", answer, place, found)
    # Another sweep may have written in between; what it wrote is as long.
    elif read == content or (read.startswith(_PROBE) and len(read) == len(content)):
        found.add(MAIN, Status.OK, "the object store gives back what is written to it", latency_ms=latency)
    else:
        todo = "stop writing to it, look at its disks and its log, then run verify/daily"
        sentence = f"the object store gave back {len(read)} other bytes than the {len(content)} that were written; {todo}"
        found.add(MAIN, Status.DOWN, sentence, latency_ms=latency)


def _refused(method: str, answer: Answer, place: Place, found: Findings) -> None:
    code = error_code(answer.body) or f"HTTP {answer.status}"
    doing = {"PUT": "write", "GET": "read", "DELETE": "delete"}[method]
    aspect, status = MAIN, Status.DOWN
    if code in _OURS:
        raise SettingsError(
            f"store: the access key is refused ({code}), so nobody looked; correct MINIO_ACCESS_KEY and its secret"
        )
    if code == "NoSuchBucket":
        aspect = f"bucket-{place.bucket}"
        what = f"the bucket {place.bucket} for backups does not exist; create it, then copy/on-demand brings the sets back"
    elif answer.status == 507 or code in _FULL:
        what = f"the object store is full ({code}): events and backups are lost; grow its volume, or prune backups"
    elif answer.status == 403:
        status = Status.DEGRADED
        what = f"the access key may not {doing} below the backups' prefix ({code}): backups or pruning fail; correct its policy"
    else:
        what = f"the object store refuses to {doing} a small object ({code}); read its log, look at its disk"
    found.add(aspect, status, what, latency_ms=answer.latency_ms)


async def _source(place: Place, store: Place, server: Web, found: Findings) -> None:
    """Look at a bucket that is backed up, on its own server where it has one."""
    aspect = f"bucket-{place.bucket}"
    if place.server == store.server and place.style == store.style:
        with found.looking(aspect, Status.UNKNOWN):  # where nobody answers, the probe says so: the store is down, no bucket
            await _exists(server, place, found)
        return
    with found.looking(aspect, Status.DOWN):
        async with web(place.base) as other:
            await _exists(other, place, found)


async def _exists(server: Web, place: Place, found: Findings) -> None:
    aspect = f"bucket-{place.bucket}"
    answer = await server.ask(place.signed("GET", query=place.listing("", limit=1)))
    code = error_code(answer.body) or f"HTTP {answer.status}"
    if code == "NoSuchBucket":
        todo = "create it, then restore-bucket/on-demand"
        found.add(aspect, Status.DOWN, f"the bucket {place.bucket} does not exist: every event is refused; {todo}")
        return
    if answer.status >= 300:
        todo = "correct SOURCE_ACCESS_KEY, its secret and its policy"
        sentence = f"the bucket {place.bucket} cannot be listed ({code}), so nobody looked and backups of it fail; {todo}"
        found.add(aspect, Status.UNKNOWN, sentence)
        return
    found.add(aspect, Status.OK, f"the bucket {place.bucket} is there")
    some = [item.key for item in parse_page(answer.body).items]
    await _private(server, place, found, key=some[0] if some else "")


async def _private(server: Web, place: Place, found: Findings, key: str = "") -> None:
    """Ask as a stranger for a listing, and for one object where there is one: both must be refused."""
    aspect = f"private-{place.bucket}"
    with found.looking(aspect, Status.UNKNOWN):
        urls = [place.url(query={"list-type": "2", "max-keys": "1"}), *([place.url(key)] if key else [])]
        statuses = [(await server.get(url, headers={"Range": "bytes=0-0"})).status for url in urls]  # a byte is enough
        if any(200 <= status < 300 for status in statuses):
            todo = "take its anonymous policy away at once (mc anonymous set none), then see who read it"
            sentence = f"the bucket {place.bucket} is public: anybody reads it without a key, expected to be refused; {todo}"
            found.add(aspect, Status.DOWN, sentence)
        elif max(statuses) < 500:
            found.add(aspect, Status.OK, f"the bucket {place.bucket} refuses strangers")
        else:
            what = f"the object store answers {max(statuses)} to a stranger who asks for {place.bucket}, expected 403"
            found.add(aspect, Status.UNKNOWN, f"{what}; read its log")
