"""`/entrypoint.sh` of the ClickHouse image: chDB behind ClickHouse's HTTP interface, in /var/lib/clickhouse.

As the image: CLICKHOUSE_USER, _PASSWORD and _DB; without a password nobody gets in; a configuration file that is no XML keeps
it from starting. Otherwise what configuration files say is not looked at, there is no native protocol, and `SELECT version()`
is the engine's version whatever the image's tag says.
"""

from __future__ import annotations

import base64
import http.client
import os
import secrets
import sys
from xml.etree import ElementTree

from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.process import EngineError
from shared.sandbox.railway_runtime.images.engines import serve
from shared.sandbox.railway_runtime.images.inside import Inside, die

_DATA = "/var/lib/clickhouse"
_CONFIGURATION = "/etc/clickhouse-server"
_PORT = 8123


def main() -> int:
    """Run the server; returns the exit status."""
    inside = Inside.read()
    _check_configuration(inside)
    user = os.environ.get("CLICKHOUSE_USER") or "default"
    password = os.environ.get("CLICKHOUSE_PASSWORD") or secrets.token_urlsafe(16)  # nobody's: see above
    directory = inside.path(_DATA).resolve()
    is_new = not (directory / "data").exists()
    engine = ClickHouseEngine(directory, port=inside.port(_PORT), user=user, password=password)
    return serve(engine, started=lambda: _create_database(engine) if is_new else None)


def _check_configuration(inside: Inside) -> None:
    for file in sorted(inside.path(_CONFIGURATION).rglob("*.xml")):
        try:
            ElementTree.parse(file)  # noqa: S314 - the stack's own
        except ElementTree.ParseError as error:
            die(f"Poco::Exception. Code: 1000: SAXParseException: {error}, in '{inside.seen(file)}'", 78)


def _create_database(engine: ClickHouseEngine) -> None:
    """CLICKHOUSE_DB, at the first boot, as the image does."""
    name = os.environ.get("CLICKHOUSE_DB", "")
    if not name:
        return
    login = base64.b64encode(f"{engine.user}:{engine.password}".encode()).decode()
    connection = http.client.HTTPConnection(engine.host, engine.port, timeout=60)
    connection.request("POST", "/", f"CREATE DATABASE IF NOT EXISTS `{name}`", {"Authorization": f"Basic {login}"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise EngineError(f"database {name} was not created: {answer.read()[:300].decode(errors='replace')}")
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
