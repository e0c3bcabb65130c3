"""What a check says: ok, failed or skipped, in so many seconds, and one sentence for people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from flows.smoke.targets import CheckName

__all__ = ["Skip", "SmokeResult", "clean", "failures", "verdict"]

_LONGEST = 300
_KEYS = re.compile(r"\b(?:sk|pk|rk|gsk|xai|AIza)[-_A-Za-z0-9*]{6,}")


class SmokeResult(BaseModel):
    """One check.

    Attributes:
        name: of the check. word: how it went. seconds: how long it took. detail: what was found; of a failure also what to do.
    """

    model_config = ConfigDict(frozen=True)

    name: CheckName
    word: Literal["ok", "failed", "skipped"]
    seconds: float
    detail: str


@dataclass(frozen=True)
class Skip:
    """What a check returns that could not look, and nothing is wrong: the reason."""

    reason: str


def failures(results: Iterable[SmokeResult]) -> list[SmokeResult]:
    """Those that failed."""
    return [result for result in results if result.word == "failed"]


def verdict(results: Iterable[SmokeResult]) -> str:
    """All results in one line."""
    listed = list(results)
    failed = failures(listed)
    skipped = [result.name for result in listed if result.word == "skipped"]
    words = f"{len(listed) - len(failed) - len(skipped)} of {len(listed)} checks ok"
    words += f", failed: {', '.join(result.name for result in failed)}" if failed else ""
    return words + (f", skipped: {', '.join(skipped)}" if skipped else "")


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """Make somebody else's words fit to be shown: one line, not too long, without keys.

    Args:
        text: for example a provider's error, which may quote half a key. secrets: that we know ourselves.
    """
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    text = " ".join(_KEYS.sub("***", text).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
