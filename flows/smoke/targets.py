"""What a smoke test is pointed at, and which checks there are."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

__all__ = ["NAMES", "CheckName", "SmokeTargets", "trace_seconds"]

CheckName = Literal["authentication", "completion", "streaming", "trace", "virtual-key", "spend", "langfuse-ui", "litellm-ui"]
NAMES: tuple[CheckName, ...] = get_args(CheckName)
"""Every check, in the order in which results are listed."""

_TRACE_S = 60.0
_MIDNIGHT_S = 15.0
_DUAL_S = 900.0
"""Old SDKs are copied to v4's tables in batches, about ten minutes later."""


class SmokeTargets(BaseModel):
    """One stack, as whoever runs the test reaches it.

    Attributes:
        litellm_url, langfuse_url: http(s)://host[:port]. Without Langfuse nothing is read back, and the result says so.
        litellm_key: the master key, which the checks of keys and spend need.
        public_key, secret_key: of the Langfuse project that LiteLLM traces to.
        model: to be paid for; empty: the cheapest one that LiteLLM has.
        dual: Langfuse 4 writes both formats (`dual` mode), where a trace takes minutes.
        skip: checks to leave out.
        request_seconds: deadline of a check that asks a model; the others have a third of it. spend_seconds: of the one that
            waits for the spend log, which LiteLLM writes in batches (`proxy_batch_write_at`, 60 s here). trace_seconds: of
            reading back; None: as documented.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    litellm_url: str
    litellm_key: SecretStr
    langfuse_url: str = ""
    public_key: str = ""
    secret_key: SecretStr | None = None
    model: str = ""
    dual: bool = False
    skip: tuple[CheckName, ...] = ()
    request_seconds: float = Field(default=60.0, gt=0)
    spend_seconds: float = Field(default=100.0, gt=0)
    trace_seconds: float | None = Field(default=None, gt=0)

    @field_validator("litellm_url", "langfuse_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("expected http(s)://host[:port]")
        return value.rstrip("/")


def trace_seconds(now: datetime, *, dual: bool) -> float:
    """How long a trace may take until it can be read.

    Args:
        now: UTC. dual: see `SmokeTargets`.
    Returns: seconds: 60; 15 more where the wait touches the half hour around midnight, when Langfuse holds events back; 15
        minutes in dual mode (source: facts on Langfuse's ingestion, 2.4).
    """
    if dual:
        return _DUAL_S
    # the half hour begins at 23:45, but a wait that begins a minute before it runs into it
    minutes = ((now + timedelta(seconds=_TRACE_S)).hour * 60 + (now + timedelta(seconds=_TRACE_S)).minute) % 1440
    return _TRACE_S + (_MIDNIGHT_S if minutes >= 1425 or minutes <= 16 else 0)
