"""`/metrics`: what sweeps published, as Prometheus reads it. Built anew at each refresh: nothing is counted here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from flows.health.history import Day
from flows.health.observation import Status
from flows.health.published import Published
from railway.gateway.known import Known

__all__ = ["CONTENT_TYPE", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Family = GaugeMetricFamily | HistogramMetricFamily

_WORDS = ("up", "degraded", "down", "unknown", "maintenance")
_DISKS = {"disk", "database-sizes"}
_SEVERITIES = ("warning", "error", "critical")
_CLASSES = range(4, 60, 4)
"""Bounds of the latency histogram, as classes of history: each twice as long as the one before, from 2 ms to 27 s."""


def render(stack: str, known: Known, now: datetime) -> str:
    """Return the metrics as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Known(stack, known, now))
    return generate_latest(registry).decode()


class _Known(Collector):
    def __init__(self, stack: str, known: Known, now: datetime) -> None:
        self._stack, self._known, self._now = stack, known, now

    def collect(self) -> Iterator[Family]:
        known, now = self._known, self._now
        yield _gauge("stack_info", "The stack that these metrics are about", [({"stack": self._stack}, 1)])
        published = known.published
        stale = published is None or published.is_stale(now) or bool(known.source_failed)
        yield _gauge(
            "stack_watch_stale", "1 when no sweep reported for three intervals, or Prefect cannot be asked", [({}, stale)]
        )
        if published is None:
            return
        yield _gauge("stack_sweep_timestamp_seconds", "When the last sweep was", [({}, published.at.timestamp())])
        yield from _services(published)
        yield from _checks(published)
        yield from _incidents(published)
        yield from _backups(published, now)
        pending = published.history
        yield _gauge("stack_history_pending", "Sweeps, or groups of them, not in the store yet", [({}, len(pending.rows))])
        yield _gauge("stack_history_dropped", "Sweeps that history lost while the store was away", [({}, pending.dropped)])
        today = known.days.get(now.astimezone(UTC).date())
        if today is not None:
            yield _latency(today)


def _services(published: Published) -> Iterator[Family]:
    verdicts = published.verdicts
    up = [({"service": one.service}, one.word.value != "down") for one in verdicts if one.word.value in _WORDS[:3]]
    yield _gauge("stack_service_up", "0 when down, 1 when up or degraded; absent when unknown or under maintenance", up)
    states = [({"service": one.service, "state": word}, one.word.value == word) for one in verdicts for word in _WORDS]
    yield _gauge("stack_service_state", "1 for the verdict that the service has", states)
    failures = [({"service": one.service}, one.consecutive_failures) for one in verdicts]
    yield _gauge("stack_service_consecutive_failures", "Sweeps in a row that found it degraded or down", failures)
    latest = [({"service": one.service}, one.latency_ms / 1000) for one in verdicts if one.latency_ms is not None]
    yield _gauge("stack_service_latest_latency_seconds", "Latency in the last sweep", latest)


def _checks(published: Published) -> Iterator[Family]:
    seen = [observation for verdict in published.verdicts for observation in verdict.observations]
    looked = [one for one in seen if one.status is not Status.UNKNOWN]
    ok = [({"service": one.service, "aspect": one.aspect}, one.status is Status.OK) for one in looked]
    yield _gauge("stack_check_ok", "1 when the check found nothing wrong; absent when it could not look", ok)
    labels = [({"service": one.service, "aspect": one.aspect, "unit": one.unit}, one) for one in seen]
    values = [(names, one.value) for names, one in labels if one.value is not None]
    limits = [(names, one.limit) for names, one in labels if one.limit is not None]
    yield _gauge("stack_check_value", "What the check measured, for example queue depth or free disk", values)
    yield _gauge("stack_check_limit", "Where the value stops being well", limits)
    queues = [({"aspect": names["aspect"]}, value) for names, value in values if names["unit"] == "jobs"]
    yield _gauge("stack_queue_jobs", "Jobs in Langfuse's queues: waiting, or given up", queues)
    disks = [({"service": names["service"], "unit": names["unit"]}, v) for names, v in values if names["aspect"] in _DISKS]
    yield _gauge("stack_disk", "Disk as its check measures it, in the unit that the label names", disks)


def _incidents(published: Published) -> Iterator[Family]:
    open_now = [told.incident for told in published.open]
    counts = [({"severity": one}, sum(incident.severity == one for incident in open_now)) for one in _SEVERITIES]
    yield _gauge("stack_incidents_open", "Open incidents", counts)
    since = [({"service": one.service, "aspect": one.aspect}, one.opened_at.timestamp()) for one in open_now]
    yield _gauge("stack_incident_opened_timestamp_seconds", "When an open incident was opened", since)


def _backups(published: Published, now: datetime) -> Iterator[Family]:
    good = [row for row in published.backups if not row.fault]
    ages = [(now - row.taken_at).total_seconds() for row in good[:1]]
    yield _gauge("stack_backup_age_seconds", "Age of the newest good set", [({}, age) for age in ages])
    sizes = [({"set": row.id}, row.bytes) for row in published.backups]
    yield _gauge("stack_backup_set_bytes", "Bytes that a set has put into the store", sizes)
    proofs = [(row.drilled_at, row) for row in good if row.proven and row.drilled_at is not None]
    last = max(proofs, key=lambda pair: pair[0], default=None)
    if last is None:
        return
    at, row = last
    yield _gauge("stack_drill_age_seconds", "Age of the last drill that proved a set", [({}, (now - at).total_seconds())])
    steps = (("restore", row.drill_seconds), ("compare", row.compare_seconds))
    times = [({"step": step}, seconds) for step, seconds in steps if seconds is not None]
    yield _gauge("stack_drill_duration_seconds", "How long its steps took", times)


def _latency(today: Day) -> Family:
    family = HistogramMetricFamily(
        "stack_service_latency_seconds",
        "Latencies seen by sweeps since midnight UTC; the sum is right to a tenth",
        labels=["service"],
    )
    for service, of in sorted(today.services.items()):
        counts: dict[int, int] = {}
        for classes in of.latency.values():
            for index, count in classes.items():
                counts[index] = counts.get(index, 0) + count
        total = sum(counts.values())
        if total:
            buckets = [(f"{1.2**bound / 1000:.4g}", sum(n for i, n in counts.items() if i < bound)) for bound in _CLASSES]
            seconds = sum(n * 1.2 ** (i + 0.5) / 1000 for i, n in counts.items())
            family.add_metric([service], [*buckets, ("+Inf", total)], seconds)
    return family


def _gauge(name: str, help_: str, samples: Iterable[tuple[dict[str, str], float]]) -> GaugeMetricFamily:
    samples = list(samples)
    family = GaugeMetricFamily(name, help_, labels=list(samples[0][0]) if samples else [])
    for labels, value in samples:
        family.add_metric(list(labels.values()), float(value))
    return family
