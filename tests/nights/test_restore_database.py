"""restore-database as the worker runs it: on the real Prefect server, with a real set and the restore flow itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest

from blocks.errors import NotHealed
from flows.restore.journal import load_all
from flows.runbook.restore_database import DatabaseRequest, restore_database
from tests.nights.night import Night

pytestmark = pytest.mark.long


@pytest.fixture
def web(night: Night) -> Iterator[str]:
    """Where Langfuse's web answers while it reaches its database, as its own role."""
    database = night.sandbox.postgres_url("langfuse", database="langfuse")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = 200
            try:
                psycopg.connect(database).close()
            except psycopg.OperationalError:
                status = 503
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_dropped_database_comes_back_by_the_restore_flow_and_equals_its_set(night: Night, web: str) -> None:
    request = DatabaseRequest(confirm=night.stack.name, by="a test")
    with night.other_settings(LANGFUSE_WEB_URL=web), night.as_worker():
        night.execute("ALTER DATABASE langfuse RENAME TO aside")
        try:
            with pytest.raises(NotHealed, match="no good backup set has langfuse"):
                restore_database(request)
            assert "aside" in (night.sandbox.artifact("runbook-restore-database-postgres-sandbox") or "")
        finally:
            night.execute("ALTER DATABASE aside RENAME TO langfuse")
        night.call("backup", components=["postgres"])
        night.execute("DROP DATABASE langfuse WITH (FORCE)")
        assert restore_database(request.model_copy(update={"dry_run": True})) == "can heal"
        assert "langfuse" not in night.databases()
        assert restore_database(request) == "healed"
        assert night.differences(night.newest()) == []
        assert restore_database(request) == "nothing to do"
        (journal,) = load_all(night.store)
        assert (journal.phase, [step.live for step in journal.steps]) == ("done", ["langfuse"])
    assert not [name for name in night.databases() if "__" in name]
