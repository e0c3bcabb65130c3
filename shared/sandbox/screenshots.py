"""`make screenshots`: the pictures of the README, taken anew in a real browser: Prefect's runs, and the status page.

Needs Debian's Chromium (apt-get install chromium). The stack is real and has run a few flows; the ninety days of the status
page are made up, for nobody waits that long.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from rich.console import Console

from blocks.s3_light import LightStore
from blocks.settings import Settings
from flows.health.history_store import history_prefix
from flows.health.targets import Targets
from shared.engines.process import EngineError, ManagedProcess, free_port
from shared.sandbox import langfuse_clickhouse, langfuse_postgres, litellm_schema
from shared.sandbox.blocks import stack_from
from shared.sandbox.sample_history import days, published
from shared.sandbox.stack import ROOT, STATE, Sandbox

__all__ = ["main"]

PREFECT = ROOT / "shared/docs"
STATUS = ROOT / "railway/gateway/screenshots"
LARGEST = 200_000
"""Bytes of one picture."""
RUNS: Sequence[tuple[str, dict[str, object]]] = (
    ("maintenance/on-demand", {"action": "list"}),
    ("backup/nightly", {"label": "nightly"}),
    ("drill/on-demand", {}),
    ("restore/on-demand", {"dry_run": True, "replace": True}),
    ("prune/daily", {"dry_run": True}),
    ("health/sweep", {"dry_run": True}),
)
WORDS = {"redis": "down", "langfuse-worker": "degraded"}
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"]
_WAIT_MS = 120_000


def main() -> int:
    """Take them all; returns the exit status."""
    out = Console()
    chromium = shutil.which("chromium")
    if chromium is None:
        out.print("no chromium here; apt-get install chromium", style="red")
        return 1
    try:
        with (
            Sandbox(STATE / "pictures", report=lambda name, _: out.print(f"  {name} ready")) as sandbox,
            _browser(chromium) as browser,
        ):
            _fill(sandbox)
            for deployment, request in RUNS:
                result = sandbox.run_deployment(deployment, {"request": request})
                out.print(f"  {deployment}: {result.state_name}")
            made = [*_prefect(browser, sandbox), *_status(browser, sandbox)]
    except EngineError as error:
        out.print(str(error), style="red", markup=False)
        return 1
    for path in made:
        out.print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")
    return int(any(path.stat().st_size > LARGEST for path in made))


def _fill(sandbox: Sandbox) -> None:
    """Enough data for numbers that are not 0."""
    litellm_schema.apply(sandbox.postgres.url("litellm"))
    litellm_schema.load(sandbox.postgres.url("litellm"), spend_logs=2000)
    langfuse_postgres.apply(sandbox.postgres.url("langfuse"))
    langfuse_postgres.load(sandbox.postgres.url("langfuse"), encryption_key=sandbox.keys.encryption_key, items=500)
    with stack_from(sandbox.environment()).need_clickhouse().client() as client:
        langfuse_clickhouse.create(client, sandbox.clickhouse_database)
        langfuse_clickhouse.load(client, sandbox.clickhouse_database, rows=5000)


# --- Prefect -------------------------------------------------------------------------------------------------------------


def _prefect(browser: Browser, sandbox: Sandbox) -> Iterator[Path]:
    """The runs."""
    page = browser.new_page(viewport=ViewportSize(width=1280, height=1150), color_scheme="light")
    page.set_default_timeout(_WAIT_MS)
    url = sandbox.prefect_ui_url
    page.goto(f"{url}/runs")
    page.get_by_text("maintenance", exact=False).first.wait_for()
    yield _kept(page, PREFECT / "prefect-runs.png")
    page.close()


# --- the status page -----------------------------------------------------------------------------------------------------


def _status(browser: Browser, sandbox: Sandbox) -> Iterator[Path]:
    """As the gateway serves it, in light and wide, in the dark and on a phone."""
    with _gateway(sandbox) as url:
        for name, width, height, dark in (("status-light", 1040, 1240, False), ("status-dark-phone", 390, 1240, True)):
            size, scheme = ViewportSize(width=width, height=height), "dark" if dark else "light"
            page = browser.new_page(viewport=size, color_scheme="dark" if scheme == "dark" else "light")
            page.goto(url)
            page.get_by_role("heading", level=1).wait_for()
            yield _kept(page, STATUS / f"{name}.png")
            page.close()


@contextmanager
def _gateway(sandbox: Sandbox) -> Iterator[str]:
    """The real one, with ninety days in the store and a sweep in a file."""
    folder, port = sandbox.directory / "gateway", free_port()
    folder.mkdir(exist_ok=True)
    state, now = folder / "state.json", datetime.now(UTC)
    state.write_text(published(now, WORDS).model_dump_json(), encoding="utf-8")
    environment = {**sandbox.environment(), "STACK_NAME": "production"}
    settings = Settings.model_validate({name.lower(): value for name, value in environment.items()})
    target = Targets.from_settings(settings, now).store
    if target is None:
        raise EngineError("the sandbox has no store")
    with LightStore(target.place, target.root) as store:
        for day, made in days(now).items():
            store.put(f"{history_prefix(store)}{day}.json.zst", made.pack())
    gateway = ManagedProcess(
        "gateway",
        [sys.executable, "-m", "railway.gateway", "--host", "127.0.0.1", "--port", str(port), "--state", str(state)],
        log=folder / "gateway.log",
        env={**environment, "GATEWAY_PUBLIC": "true"},
        cwd=ROOT,
    )
    url = f"http://127.0.0.1:{port}/"
    gateway.start(lambda: _shows_history(url), timeout=180)
    try:
        yield url
    finally:
        gateway.stop()


def _shows_history(url: str) -> bool:
    try:
        page = httpx.get(url, trust_env=False, timeout=5).text
    except httpx.TransportError:
        return False
    return "% uptime" in page and "no data yet" not in page


# --- the browser ---------------------------------------------------------------------------------------------------------


@contextmanager
def _browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        yield browser
        browser.close()


def _kept(page: Page, path: Path) -> Path:
    """Take a picture when nothing moves any more."""
    page.wait_for_load_state("networkidle")
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, animations="disabled")
    return path


if __name__ == "__main__":
    sys.exit(main())
