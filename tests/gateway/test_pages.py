"""The page's HTML: what a screen reader and a keyboard need, and what a hostile sentence must not do."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from flows.health.history_store import Pending
from railway.gateway import pages
from railway.gateway.charts import day_bars, latency, percent
from railway.gateway.known import Known
from railway.gateway.words import ago, duration, headline, size
from shared.sandbox.sample_history import SampleDays, published
from tests.gateway.serving import now

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Outline(HTMLParser):
    """Elements of a page in their order, with attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def bad_day(sample_days: SampleDays) -> str:
    """The page with incidents of each kind."""
    words = {"redis": "down", "langfuse-worker": "degraded", "clickhouse": "unknown", "minio": "maintenance"}
    return pages.status_page("production", Known(published(now(), words), sample_days.read()), now())


def test_the_page_has_a_language_a_title_landmarks_and_headings_in_order(bad_day: str) -> None:
    outline = Outline(bad_day)
    assert outline.open == []
    assert outline.all("html")[0]["lang"] == "en"
    assert "Redis is down · production status" in outline.text
    assert [len(outline.all(tag)) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    levels = [int(tag[1]) for tag, _ in outline.elements if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["aria-labelledby"] for attributes in outline.all("section")} <= set(ids)
    skip = next(attributes for attributes in outline.all("a") if attributes.get("class") == "skip")
    assert (skip["href"] or "").removeprefix("#") in ids


def test_pictures_have_words_and_the_table_has_headers(bad_day: str) -> None:
    outline = Outline(bad_day)
    for picture in outline.all("svg"):
        assert picture.get("aria-hidden") == "true" or (picture["role"] == "img" and picture["aria-label"])
    assert {header["scope"] for header in outline.all("th")} == {"col", "row"}
    assert len(outline.all("caption")) == len(outline.all("table")) == 1
    for word in ("Down", "Degraded", "Unknown", "Maintenance", "Up"):
        assert word in outline.text, "never by colour alone"


def test_nothing_on_the_page_needs_a_script_or_an_inline_style(bad_day: str) -> None:
    outline = Outline(bad_day)
    assert outline.all("script", "style", "iframe", "object") == []
    names = {name for _, attributes in outline.elements for name in attributes}
    assert [name for name in names if name == "style" or name.startswith("on")] == []
    refresh = [attributes for attributes in outline.all("meta") if attributes.get("http-equiv") == "refresh"]
    assert [attributes["content"] for attributes in refresh] == ["60"]
    assert {attributes["href"] for attributes in outline.all("link")} == {pages.style_path(), "/favicon.svg"}


def test_the_form_has_a_label_and_its_problem_belongs_to_the_field() -> None:
    outline = Outline(pages.login_page("production", "That is not the token."))
    field = next(attributes for attributes in outline.all("input") if attributes["name"] == "token")
    assert [attributes["for"] for attributes in outline.all("label")] == [field["id"]]
    assert (field["type"], field["aria-describedby"]) == ("password", "problem")
    assert outline.all("form")[0]["method"] == "post", "a token never goes into a URL"


def test_a_sentence_with_markup_is_text() -> None:
    state = published(now(), {"redis": "down"})
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    verdicts = [one.model_copy(update={"sentence": hostile}) for one in state.verdicts]
    outline = Outline(pages.status_page("<i>production", Known(state.model_copy(update={"verdicts": verdicts})), now()))
    assert outline.all("script", "img") == []
    assert "<i>production" in outline.text
    assert "<script>alert(1)</script>" in outline.text


def test_what_is_wrong_with_the_page_itself_is_said_on_it() -> None:
    state = published(now() - timedelta(minutes=9))
    history = Pending(failed="store: unreachable", dropped=7, damaged=now().date())
    known = Known(state.model_copy(update={"history": history}), history_failed="store: unreachable too")
    text = Outline(pages.status_page("production", known, now())).text
    for said in (
        "No fresh news",
        "9 min ago",
        "store: unreachable",
        "7 sweeps could not be kept",
        "damaged",
        "unreachable too",
    ):
        assert said in text


def test_a_service_without_history_or_latency_is_shown_as_such() -> None:
    text = Outline(pages.status_page("production", Known(published(now())), now())).text
    assert text.count("no data yet") == 9
    assert text.count("no latency measured") == 9


def test_ninety_bars_end_today_and_each_says_what_it_shows(sample_days: SampleDays) -> None:
    bars = day_bars(sample_days.read(), "redis", now().date())
    assert (len(bars), bars[-1].date) == (90, now().date())
    assert {bar.kind for bar in bars} >= {"up", "down"} or {bar.kind for bar in bars} >= {"up", "degraded"}
    bad = next(bar for bar in bars if not bar.perfect)
    assert "1 h 45 min" in bad.text


def test_a_sparkline_breaks_where_nothing_was_measured(sample_days: SampleDays) -> None:
    whole = latency(sample_days.read(), "redis", now())
    assert whole is not None
    assert whole.median < whole.p95
    yesterday = {day: found for day, found in sample_days.read().items() if day != now().date()}
    assert latency({}, "redis", now()) is None
    assert latency(yesterday, "nothing", now()) is None


@pytest.mark.parametrize(
    ("words", "stale", "said"),
    [
        ({}, False, ("unknown", "No sweep has reported yet")),
        ({"redis": "up"}, False, ("up", "Everything is up")),
        ({"redis": "up"}, True, ("unknown", "No fresh news: the sweeps have stopped")),
        ({"redis": "down", "litellm": "degraded"}, False, ("down", "Redis is down")),
        ({"redis": "degraded", "litellm": "degraded"}, False, ("degraded", "2 services are degraded")),
        ({"backups": "unknown", "redis": "up"}, False, ("unknown", "Backups could not be checked")),
    ],
)
def test_the_headline_says_the_worst(words: dict[str, str], stale: bool, said: tuple[str, str]) -> None:
    assert headline(words, stale=stale) == said


def test_times_and_sizes_are_said_as_people_do() -> None:
    assert ago(now() - timedelta(hours=47, minutes=5), now()) == "47 h ago"
    assert duration(timedelta(days=2, hours=3, minutes=4)) == "2 d 3 h"
    assert duration(timedelta(seconds=20)) == "less than a minute"
    assert size(1_840_000_000) == "1.8 GB"
    assert (percent(1.0), percent(0.99999), percent(0.9271)) == ("100 %", "99.99 %", "92.71 %")


def test_an_incident_that_somebody_works_on_says_so_without_the_name(sample_days: SampleDays) -> None:
    state = published(now(), {"redis": "down"})
    (told,) = state.open
    at_work = {"acknowledged_at": now(), "acknowledged_by": "ada@example.com"}
    acknowledged = told.model_copy(update={"incident": told.incident.model_copy(update=at_work)})
    for one, shown in ((told, False), (acknowledged, True)):
        page = pages.status_page("production", Known(state.model_copy(update={"open": [one]}), sample_days.read()), now())
        assert ("critical, acknowledged" in Outline(page).text) is shown
        assert "ada@example.com" not in page
