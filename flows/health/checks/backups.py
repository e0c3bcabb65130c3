"""The backups: how old is the newest good set, and how long ago was one proven by a full drill.

A listing and the newest few manifests, however many sets there are. A set counts as it does everywhere: its manifest's
signature holds, what it is a difference to is there, and no check of it since has found a fault.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from blocks.errors import IntegrityError, ObjectMissing
from blocks.keys import BackupKeys
from blocks.s3_light import parse_page, refusal
from flows.backup.canonical import open_document
from flows.health.findings import Findings
from flows.health.observation import Status
from flows.health.reach import Web, web
from flows.health.targets import Limits, Store
from flows.side_file import DrillRecord, SideFile

__all__ = ["MAIN", "check"]

MAIN = "newest-set"
DRILL = "newest-drill"

_AT_ONCE = 4
_MOST = 48
"""Sets that are looked at: two days of hourly ones. Where none of them is good, it is high time anyway."""
_HOPELESS = 3
"""Times the limit, from where on the backups are not late but gone."""


@dataclass(frozen=True)
class _Set:
    """One committed set: when it was taken, why it is not to be relied on, or empty, and its last drill."""

    id: str
    taken_at: datetime
    fault: str
    drill: DrillRecord | None


async def check(target: Store, found: Findings, limits: Limits) -> None:
    """Look at the newest sets. Where the store is silent they are unknown: its own check says more."""
    keys = BackupKeys(recipients=[], verify_key=target.verify_key, signing_key=target.signing_key)
    found.title = "the store of the backups"
    with found.looking(MAIN, Status.UNKNOWN, remedy="see the object store"):
        async with web(target.place.base) as server:
            begun = time.monotonic()
            reader = _Reader(server, target, keys, await _ids(server, target))
            latency = (time.monotonic() - begun) * 1000
            good, proven, sets = await reader.newest()
        now = datetime.now(UTC)
        _judge_sets(good, sets, found, limits, now, latency)
        _judge_drills(proven, sets, found, limits, now)


class _Reader:
    """Reads sets, the newest first, as far as needed.

    Args:
        ids: of the folders of sets, newest first.
    """

    def __init__(self, server: Web, target: Store, keys: BackupKeys, ids: list[str]) -> None:
        self._server, self._target, self._keys, self._ids = server, target, keys, ids

    async def newest(self) -> tuple[_Set | None, _Set | None, list[_Set]]:
        """Return the newest good set, the newest proven one, and all that were read on the way."""
        good: _Set | None = None
        proven: _Set | None = None
        read: list[_Set] = []
        for place in range(0, min(len(self._ids), _MOST), _AT_ONCE):
            batch = await asyncio.gather(*(self._set(one) for one in self._ids[place : place + _AT_ONCE]))
            read += [one for one in batch if one is not None]
            good = good or next((one for one in read if not one.fault), None)
            proven = proven or next((one for one in read if not one.fault and one.drill and one.drill.full), None)
            if good and proven:
                break
        return good, proven, read

    async def _set(self, set_id: str) -> _Set | None:
        """Read one set; None for a folder that is none: its run is under way, or died."""
        try:
            (taken_at, bases), checks = await asyncio.gather(self._manifest(set_id), self._checks(set_id))
            missing = [base for base in bases if base not in self._ids]
            for base in bases - set(missing):
                await self._manifest(base)
        except ObjectMissing:
            return None
        except IntegrityError as error:
            return _Set(set_id, datetime.fromtimestamp(0, UTC), str(error), None)
        fault = f"the set {missing[0]}, which it is a difference to, is gone" if missing else checks.fault
        return _Set(set_id, taken_at, fault, checks.drill)

    async def _manifest(self, set_id: str) -> tuple[datetime, set[str]]:
        """Read when a set was taken and which sets it is a difference to; what we have signed needs no other proof."""
        data = await self._get(set_id, "manifest.json")
        if not data:
            raise ObjectMissing(f"set {set_id}: its manifest is empty")
        try:
            body, signed, signature = open_document(data)
        except ValueError:
            raise IntegrityError("its manifest is no JSON document") from None
        self._keys.verify(signed, signature)
        stack = self._target.root.rstrip("/").rpartition("/")[2]
        if (body.get("format"), body.get("id"), body.get("stack")) != (1, set_id, stack):
            raise IntegrityError("its manifest is that of another set, or of a format that this version does not know")
        bases = {str(component["base"]) for component in body["components"] if component.get("base")}
        return datetime.fromisoformat(body["created_at"]), bases

    async def _checks(self, set_id: str) -> SideFile:
        try:
            return SideFile.model_validate_json(await self._get(set_id, "checks.json"))
        except (ObjectMissing, ValidationError):  # none yet, or damaged: the next check writes it anew
            return SideFile()

    async def _get(self, set_id: str, name: str) -> bytes:
        key = f"{self._target.root}sets/{set_id}/{name}"
        answer = await self._server.ask(self._target.place.signed("GET", key))
        if answer.status >= 300:
            raise refusal(answer.status, answer.body, f"read {name} of set {set_id}")
        return answer.body


async def _ids(server: Web, target: Store) -> list[str]:
    """List the sets' folders, newest first; their names begin with the time."""
    prefix, token, ids = f"{target.root}sets/", "", []
    while True:
        answer = await server.ask(target.place.signed("GET", query=target.place.listing(prefix, token=token, delimiter="/")))
        if answer.status >= 300:
            raise refusal(answer.status, answer.body, "list the backup sets")
        page = parse_page(answer.body)
        ids += [folder.removeprefix(prefix).rstrip("/") for folder in page.folders]
        if not (token := page.token):
            return sorted(ids, reverse=True)


def _judge_sets(good: _Set | None, sets: list[_Set], found: Findings, limits: Limits, now: datetime, latency: float) -> None:
    expected = f"expected one not older than {limits.backup_hours:g} h"
    todo = "see the last run of backup/nightly, then run backup/on-demand"
    if good is None:
        what = f"none of the newest {len(sets)} backup sets is good: {sets[0].fault}" if sets else "there is no backup set"
        sentence = f"{what}; {expected}; {todo}"
        found.add(MAIN, Status.DOWN, sentence, latency_ms=latency, limit=limits.backup_hours, unit="hours")
        return
    hours = _hours(now - good.taken_at)
    bad = f", newer ones are not good: {sets[0].fault}" if sets[0].fault else ""
    text = f"the newest good backup set is {hours:g} h old, {expected}"
    status = Status.OK if hours <= limits.backup_hours else Status.DEGRADED
    status = Status.DOWN if hours > _HOPELESS * limits.backup_hours else status
    sentence = text if status is Status.OK else f"{text}{bad}; {todo}"
    found.add(MAIN, status, sentence, latency_ms=latency, value=hours, limit=limits.backup_hours, unit="hours")


def _judge_drills(proven: _Set | None, sets: list[_Set], found: Findings, limits: Limits, now: datetime) -> None:
    expected = f"expected within {limits.drill_hours:g} h"
    todo = "see the last run of drill/nightly, then run drill/on-demand"
    drills = [one.drill for one in sets if one.drill is not None]
    last = max(drills, key=lambda drill: drill.at, default=None)
    hours = None if proven is None or proven.drill is None else _hours(now - proven.drill.at)
    if last is not None and not last.ok:
        why = last.differences[0] if last.differences else "see its run"
        what, status = f"the last drill failed: {why}; {todo}", Status.DEGRADED
    elif hours is None:
        what, status = (
            f"no full drill has proven any of the newest {len(sets)} backup sets, {expected}; {todo}",
            Status.DEGRADED,
        )
    else:
        what, status = f"the newest proven backup set was drilled {hours:g} h ago, {expected}", Status.OK
        if hours > limits.drill_hours:
            what, status = f"{what}; {todo}", Status.DEGRADED
    found.add(DRILL, status, what, value=hours, limit=limits.drill_hours, unit="hours")


def _hours(span: timedelta) -> float:
    return round(span.total_seconds() / 3600, 1)
