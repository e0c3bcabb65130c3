"""`python -m railway.gateway`: serves the gateway on $PORT until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from blocks.errors import StackError
from blocks.s3_light import LightStore
from blocks.settings import Settings
from flows.health.history_store import DayCache
from flows.health.targets import Targets
from flows.runbook.answering import PrefectAnswers
from flows.runbook.desk import Desk
from railway.gateway.app import make_app
from railway.gateway.hooks import Hooks
from railway.gateway.recording import Recorder
from railway.gateway.serving import listen, make_server
from railway.gateway.slack import Slack, WebSpeaker
from railway.gateway.source import FileSource, PrefectSource, Source
from railway.gateway.starting import PrefectStarter
from railway.gateway.state import Keeper
from railway.gateway.telling import PrefectTeller

STORE_TIMEOUT = 10.0
"""Seconds that the store may take to answer."""
SHORTEST_TOKEN = 20
"""Characters; a shorter token is used, and complained about."""

_log = logging.getLogger("railway.gateway")


def main(argv: list[str] | None = None) -> int:
    """Serve; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m railway.gateway", description=__doc__)
    parser.add_argument("--host", help="address to listen on; default every one, IPv4 and IPv6")
    parser.add_argument("--port", type=int, help="default $PORT, or 8080")
    parser.add_argument("--state", type=Path, help="show this file instead of what sweeps keep in Prefect")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = Settings.load()
        source: Source = FileSource(options.state) if options.state else PrefectSource(settings.stack_name)
        keeper = Keeper(settings.stack_name, source, _history(settings))
        starter, teller = PrefectStarter(), PrefectTeller()
        record = Recorder(settings.stack_name, _store(settings)).record
        desk, answers = Desk(settings.stack_name, record), PrefectAnswers(settings.stack_name, record)
        slack = Slack(settings, starter, teller, answers, WebSpeaker(), desk)
        routes = [*Hooks(settings, teller, desk).handlers, *slack.handlers]
        app = make_app(
            settings.stack_name, keeper, starter, settings.gateway_token, public=settings.gateway_public, routes=routes
        )
        listening = listen(options.host, options.port or settings.port)
    except (StackError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - the container's log
        return 1
    if settings.gateway_token and len(settings.gateway_token.get_secret_value()) < SHORTEST_TOKEN:
        _log.warning(
            "GATEWAY_TOKEN has fewer than %d characters and can be guessed; make one: openssl rand -hex 32", SHORTEST_TOKEN
        )
    keeper.start()
    try:
        make_server(app).run(sockets=[listening])
    finally:
        keeper.stop()
    return 0


def _store(settings: Settings) -> LightStore | None:
    store = Targets.from_settings(settings).store
    return LightStore(store.place, store.root, timeout=STORE_TIMEOUT) if store else None


def _history(settings: Settings) -> DayCache | None:
    store = _store(settings)
    return DayCache(store) if store else None


if __name__ == "__main__":
    sys.exit(main())
