"""`python -m shared.engines.clickhouse_http CONFIGURATION`: serve until SIGTERM or SIGINT.

The configuration is a JSON file, so that no secret is in argv or in the environment:
`{"directory", "port", "user", "password", "named_collections": {name: {key: value}}}`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from shared.engines.clickhouse_http.database import Database
from shared.engines.clickhouse_http.handler import Server
from shared.engines.clickhouse_http.request import Account

# What a stock server logs to tables and the project reads; the rest of its logs would only cost disk.
_ENGINE_CONFIGURATION = """<clickhouse>
    <timezone>UTC</timezone>
    <query_log><database>system</database><table>query_log</table><ttl>event_date + INTERVAL 7 DAY</ttl></query_log>
    <backup_log><database>system</database><table>backup_log</table></backup_log>
</clickhouse>
"""
_PATIENCE_SECONDS = 2.0


def main(configuration: Path) -> None:
    """Serve one data directory until a signal comes; then end what runs, and put everything on disk."""
    settings = json.loads(configuration.read_text())
    directory = Path(settings["directory"])
    temporary = directory / "http"
    temporary.mkdir(exist_ok=True)
    engine_configuration = directory / "engine.xml"
    engine_configuration.write_text(_ENGINE_CONFIGURATION)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = Database(directory / "data", engine_configuration)
    for name, values in settings["named_collections"].items():
        database.define_collection(name, values)
    server = Server(settings["port"], database, Account(settings["user"], settings["password"]), temporary)
    # looks that often whether to end; the default would make half a second of every stop
    threading.Thread(target=server.serve_forever, args=(0.05,), name="listener", daemon=True).start()
    stop.wait()
    server.shutdown()
    server.server_close()
    if not database.close(patience=_PATIENCE_SECONDS):
        logging.getLogger(__name__).warning("queries or backups still run; they end with this process")
        os._exit(0)  # the engine's destructors would wait for them


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    main(Path(sys.argv[1]))
