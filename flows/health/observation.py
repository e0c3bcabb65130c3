"""What one check saw."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Observation", "Status"]


class Status(StrEnum):
    """How a check found what it looked at, from good to bad."""

    OK = "ok"
    UNKNOWN = "unknown"
    """The checker itself failed, or could not look: says nothing about the service, and never counts as down."""
    DEGRADED = "degraded"
    DOWN = "down"


class Observation(BaseModel):
    """One aspect of one service, at one moment.

    The pair of service and aspect is its name; a sweep has each at most once.
    """

    model_config = ConfigDict(frozen=True)

    service: str = Field(description="A name of railway/stack.py, `backups`, or `public` for a URL of nobody's")
    aspect: str = Field(description="What was looked at, for example `readiness`")
    status: Status
    sentence: str = Field(
        description="What was seen, what was expected, what to do: one line without secrets or internal hosts"
    )
    latency_ms: float | None = Field(default=None, description="How long the answer took")
    value: float | None = Field(default=None, description="What was measured")
    limit: float | None = Field(default=None, description="Where it stops being ok")
    unit: str = Field(default="", description="Of value and limit, for example `bytes`, `seconds`, `%`, `jobs`")
