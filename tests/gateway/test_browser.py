"""The status page in a real browser, Debian's Chromium, in light and dark, wide and narrow; screenshots are kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from shared.sandbox.sample_history import SampleDays, published
from shared.sandbox.stack import STATE
from tests.gateway.serving import TOKEN, Served, now, serving

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--disable-dev-shm-usage",
]
SCREENSHOTS = STATE / "screenshots"
WORDS = {"redis": "down", "langfuse-worker": "degraded", "clickhouse": "unknown", "minio": "maintenance"}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here; apt-get install chromium to test the status page in it"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory, sample_days: SampleDays) -> Iterator[Served]:
    """A gateway with ninety days."""
    with serving(tmp_path_factory.mktemp("browser"), days=sample_days) as served:
        yield served


def _page(browser: Browser, server: Served, *, width: int = 1280, dark: bool = False, script: bool = False) -> Page:
    """Open the status page as an operator; without JavaScript unless told otherwise."""
    context = browser.new_context(
        viewport=ViewportSize(width=width, height=900),
        color_scheme="dark" if dark else "light",
        java_script_enabled=script,
        extra_http_headers={"Authorization": f"Bearer {TOKEN}"},
    )
    page = context.new_page()
    page.goto(server.url)
    return page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["wide", "narrow"])
def test_the_page_reads_well_in_every_scheme_and_width(browser: Browser, page_server: Served, width: int, dark: bool) -> None:
    page_server.show(published(now(), WORDS))
    page = _page(browser, page_server, width=width, dark=dark, script=True)
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "it never scrolls sideways"
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(14, 17, 22)") is dark
        for name in ("Redis", "Langfuse worker", "Object store"):
            assert page.get_by_role("heading", name=name, exact=True).is_visible()
        assert _contrasts(page) == []
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=_file(width, dark), full_page=True)
        assert _file(width, dark).stat().st_size > 10_000
    finally:
        page.context.close()


def test_it_needs_no_script_and_the_browser_finds_nothing_to_complain_about(browser: Browser, page_server: Served) -> None:
    page_server.show(published(now()))
    context = browser.new_context(java_script_enabled=False, extra_http_headers={"Authorization": f"Bearer {TOKEN}"})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("response", lambda answer: complaints.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    try:
        page.goto(page_server.url)
        assert page.get_by_role("heading", level=1).inner_text() == "Everything is up"
        assert page.get_by_role("img", name="Ninety days").count() == 9
        assert page.get_by_role("rowheader").count() == 6
        assert complaints == [], "a broken style sheet, or a rule of the security policy"
    finally:
        context.close()


def test_the_keyboard_reaches_the_services_and_opens_their_details(browser: Browser, page_server: Served) -> None:
    page_server.show(published(now()))
    page = _page(browser, page_server, script=True)
    try:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the services"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        page.keyboard.press("Enter")
        assert page.get_by_text("answers as it should").first.is_visible()
    finally:
        page.context.close()


def test_an_operator_signs_in_without_script(browser: Browser, page_server: Served) -> None:
    page_server.show(published(now()))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    try:
        page.goto(page_server.url)
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button").click()
        assert page.get_by_role("alert").inner_text() == "That is not the token."
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        assert page.get_by_role("heading", level=1).inner_text() == "Everything is up"
        assert TOKEN not in page.url
        assert TOKEN not in str(context.cookies())
    finally:
        context.close()


def _file(width: int, dark: bool) -> Path:
    return SCREENSHOTS / f"status-{'dark' if dark else 'light'}-{'wide' if width > 800 else 'narrow'}.png"


def _contrasts(page: Page) -> list[str]:
    """Return texts whose contrast to their background is below 4.5, as WCAG AA asks."""
    found: list[str] = page.evaluate(
        """() => {
          const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
          const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = element => {
            for (let one = element; one; one = one.parentElement) {
              const colour = rgb(getComputedStyle(one).backgroundColor);
              if (colour.length === 3 || colour[3] > 0) return colour;
            }
            return [255, 255, 255];
          };
          const poor = [];
          for (const element of document.querySelectorAll("body *")) {
            const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
            if (!own || element.closest("svg")) continue;
            const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) poor.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
          }
          return [...new Set(poor)];
        }"""
    )
    return found
