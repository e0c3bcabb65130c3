"""`/metrics`, read by Prometheus' own parser."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import timedelta

from prometheus_client.parser import text_string_to_metric_families

from railway.gateway import metrics
from railway.gateway.known import Known
from railway.stack import SERVICES
from shared.sandbox.sample_history import SampleDays, published
from tests.gateway.serving import Served, now

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def _parsed(text: str) -> Samples:
    samples: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in samples[sample.name], f"{sample.name} {sample.labels} twice"
            samples[sample.name][labels] = sample.value
    return samples


def _rendered(known: Known) -> Samples:
    return _parsed(metrics.render("production", known, now()))


def _labels(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def test_the_text_is_what_prometheus_reads_and_every_name_has_the_prefix(gateway: Served) -> None:
    gateway.show(published(now(), {"redis": "down"}))
    answer = gateway.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n"), "without it Prometheus refuses the whole text (facts: the predecessor's defect)"
    assert [name for name in _parsed(answer.text) if not name.startswith("stack_")] == []


def test_up_is_1_0_or_absent_and_each_service_has_one_state() -> None:
    words = {"redis": "down", "litellm": "degraded", "minio": "unknown", "clickhouse": "maintenance"}
    samples = _rendered(Known(published(now(), words)))
    up = samples["stack_service_up"]
    assert up[_labels(service="redis")] == 0
    assert up[_labels(service="litellm")] == up[_labels(service="postgres")] == 1
    assert not {_labels(service="minio"), _labels(service="clickhouse")} & up.keys()
    for service in SERVICES:
        states = [value for labels, value in samples["stack_service_state"].items() if ("service", service) in labels]
        assert sorted(states) == [0, 0, 0, 0, 1]
    assert samples["stack_service_consecutive_failures"][_labels(service="redis")] == 12


def test_latency_is_a_histogram_of_today(sample_days: SampleDays) -> None:
    samples = _rendered(Known(published(now()), sample_days.read()))
    buckets = {
        float(dict(labels)["le"]): value
        for labels, value in samples["stack_service_latency_seconds_bucket"].items()
        if ("service", "langfuse-web") in labels
    }
    count = samples["stack_service_latency_seconds_count"].get(_labels(service="langfuse-web"), 0)
    if count:  # none in the first quarter of an hour after midnight
        counts = [buckets[bound] for bound in sorted(buckets)]
        assert counts == sorted(counts)
        assert buckets[math.inf] == count
        assert 0.03 < samples["stack_service_latency_seconds_sum"][_labels(service="langfuse-web")] / count < 0.12


def test_backups_drills_queues_disk_and_incidents_are_numbers() -> None:
    state = published(now(), {"redis": "down", "langfuse-worker": "degraded"})
    samples = _rendered(Known(state))
    taken = state.backups[0].taken_at
    assert abs(samples["stack_backup_age_seconds"][frozenset()] - (now() - taken).total_seconds()) < 60
    assert samples["stack_backup_set_bytes"][_labels(set=state.backups[3].id)] == 1_840_000_000
    assert samples["stack_drill_duration_seconds"] == {_labels(step="restore"): 84, _labels(step="compare"): 41}
    assert samples["stack_queue_jobs"][_labels(aspect="queue-depth")] == 12
    assert samples["stack_disk"][_labels(service="clickhouse", unit="%")] == 41
    assert samples["stack_check_limit"][_labels(service="clickhouse", aspect="disk", unit="%")] == 80
    assert samples["stack_incidents_open"] == {
        _labels(severity="critical"): 1,
        _labels(severity="warning"): 1,
        _labels(severity="error"): 0,
    }


def test_old_news_is_marked_and_none_at_all_too() -> None:
    assert _rendered(Known(published(now())))["stack_watch_stale"][frozenset()] == 0
    assert _rendered(Known(published(now() - timedelta(minutes=5))))["stack_watch_stale"][frozenset()] == 1
    assert _rendered(Known(published(now()), source_failed="no answer"))["stack_watch_stale"][frozenset()] == 1
    nothing = _rendered(Known())
    assert nothing["stack_watch_stale"][frozenset()] == 1
    assert nothing["stack_info"][_labels(stack="production")] == 1


def test_labels_with_quotes_and_lines_are_escaped() -> None:
    state = published(now())
    odd = state.verdicts[0].observations[0].model_copy(update={"aspect": 'a "quoted"\nline\\', "value": 1.0})
    verdict = state.verdicts[0].model_copy(update={"observations": (odd,)})
    samples = _rendered(Known(state.model_copy(update={"verdicts": [verdict]})))
    assert _labels(service="postgres", aspect='a "quoted"\nline\\', unit="") in samples["stack_check_value"]
