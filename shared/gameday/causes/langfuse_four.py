"""What only Langfuse 4 suffers from: it refuses what old SDKs send, and what it writes twice it may copy no more."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from railway.services.images import version_of
from railway.services.litellm import configuration
from shared.engines.process import EngineError, wait_until
from shared.gameday.causes.cause import Cause
from shared.sandbox.langfuse_double.propagation import CURSOR

__all__ = ["CursorStuck", "SdkTooOld"]

_CONFIG = "LITELLM_CONFIG"
_ARRIVES_S = 30.0
_REFUSED = "from the legacy /api/public/ingestion"
"""The end of what Langfuse's web service logs."""


class SdkTooOld(Cause):
    """A person puts LiteLLM's callback back to `langfuse`, whose protocol this LiteLLM's SDK speaks and Langfuse 4 refuses."""

    key, numbers, what = "old-sdk", (15,), "LiteLLM's callback is set to one whose traces Langfuse 4 drops"
    service, aspects = "litellm", ("langfuse-callback",)
    runbook = "langfuse-callback"
    langfuse = 4
    _before = ""

    def cause(self) -> None:
        """As in `Cause`."""
        ground = self.ground
        service = ground.railway.service_id("litellm")
        self._before = ground.api.variables(service)[_CONFIG]
        self._deploy(configuration(3, version_of(ground.image("litellm"))))
        ground.send_trace()
        wait_until(self._refused, timeout=_ARRIVES_S, what="Langfuse to refuse a trace", pause=0.2)

    def undo(self) -> None:
        """As in `Cause`."""
        if self._before and self.ground.api.variables(self.ground.railway.service_id("litellm"))[_CONFIG] != self._before:
            self._deploy(self._before)

    def left(self) -> str:
        """As in `Cause`."""
        return "" if self._arrives() else "a request through LiteLLM is traced nowhere"

    def _deploy(self, configured: str) -> None:
        self.ground.api.set_variables(self.ground.railway.service_id("litellm"), {_CONFIG: configured})
        self.ground.deploy("litellm")

    def _refused(self) -> bool:
        containers = self.ground.runtime.containers("langfuse-web")
        return any(_REFUSED in line.message for one in containers for line in one.logs(200))

    def _arrives(self) -> bool:
        """Send a request, and look for its trace in the table of Langfuse 4."""
        before = self._traces()
        self.ground.send_trace()
        try:
            wait_until(lambda: self._traces() > before, timeout=_ARRIVES_S, what="a trace to arrive", pause=0.5)
        except EngineError:
            return False
        return True

    def _traces(self) -> int:
        return int(self.ground.clickhouse("SELECT uniqExact(trace_id) FROM events_full"))


class CursorStuck(Cause):
    """The worker's job that copies traces to the new tables runs, and copies nothing (langfuse#17452).

    Only a stack that came from 3 writes twice, so it is told to. Somebody notices after two hours; what came meanwhile waits.
    """

    key, numbers, what = "cursor-stuck", (17,), "for two hours Langfuse has copied no trace to its new tables, and says it does"
    service, aspects = "langfuse-worker", ("propagation",)
    runbook = "restart-service"
    langfuse = 4
    _HOURS = 2

    def cause(self) -> None:
        """As in `Cause`."""
        ground = self.ground
        self._write("dual")
        ground.behave("langfuse-worker", cursor_stuck=True)
        now = datetime.now(UTC)
        project = ground.variables("langfuse-web")["LANGFUSE_INIT_PROJECT_ID"]
        hour_ago = f"fromUnixTimestamp64Milli({int((now - timedelta(hours=1)).timestamp() * 1000)})"
        ground.clickhouse(
            "INSERT INTO observations (id, trace_id, project_id, type, start_time, created_at, updated_at, event_ts) "
            f"SELECT concat('gameday-', toString(number)), 'gameday', '{project}', 'SPAN', {hour_ago}, {hour_ago}, {hour_ago}, "
            f"{hour_ago} FROM numbers(20)"
        )
        with ground.redis() as client:
            client.set(CURSOR, (now - timedelta(hours=self._HOURS)).strftime("%Y-%m-%d %H:%M:%S"))

    def undo(self) -> None:
        """As in `Cause`."""
        self.ground.behave("langfuse-worker")
        self._write("events_only")
        self.ground.clickhouse("DELETE FROM observations WHERE trace_id = 'gameday'")

    def left(self) -> str:
        """As in `Cause`."""
        with self.ground.redis() as client:
            said = client.get(CURSOR)
        text = said.decode() if isinstance(said, bytes) else str(said or "")
        behind = time.time() - datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() if text else 0.0
        return f"the newest that was copied is {behind / 60:.0f} min old" if behind > 1800 else ""

    def _write(self, mode: str) -> None:
        """Have both parts of Langfuse write to the old tables too, or not."""
        behaviour = "dual_write" if mode == "dual" else "direct"
        wanted = {"LANGFUSE_MIGRATION_V4_WRITE_MODE": mode, "LANGFUSE_MIGRATION_V4_NATIVE_OTEL_BEHAVIOUR": behaviour}
        for service in ("langfuse-web", "langfuse-worker"):
            service_id = self.ground.railway.service_id(service)
            variables = self.ground.api.variables(service_id)
            if any(variables.get(name) != value for name, value in wanted.items()):
                self.ground.api.set_variables(service_id, wanted)
                self.ground.deploy(service)
