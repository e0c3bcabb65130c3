"""A container grows until the platform would kill it."""

from __future__ import annotations

from shared.gameday.causes.cause import Cause

__all__ = ["GatewayGrows"]

_LIMIT_GB, _GROWN_GB, _USUAL_GB = 4.0, 3.8, 0.5


class GatewayGrows(Cause):
    """LiteLLM leaks. What Railway measures is what its stand-in is told: no program of this machine takes 4 GB for it."""

    key, numbers, what = "gateway-memory", (12, 14), f"LiteLLM takes {_GROWN_GB:g} GB of the {_LIMIT_GB:g} that it may"
    service, aspects = "litellm", ("container-memory",)
    runbook = "scale-service"

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.railway.measure("litellm", "MEMORY_USAGE_GB", _GROWN_GB)

    def undo(self) -> None:
        """As in `Cause`."""
        service = self.ground.railway.service_id("litellm")
        self.ground.railway.measure("litellm", "MEMORY_USAGE_GB", _USUAL_GB)
        self.ground.api.limits(service, memory_gb=_LIMIT_GB)

    def left(self) -> str:
        """As in `Cause`."""
        caps = self.ground.api.current_limits(self.ground.railway.service_id("litellm"))["containers"]
        return "it may take no more than before" if caps["memoryBytes"] <= _LIMIT_GB * 1e9 else ""
