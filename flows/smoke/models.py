"""Which model the smoke test pays for: the cheapest that LiteLLM serves, by its own prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_TOKENS", "Offer", "cheapest", "offers"]

MAX_TOKENS = 32
"""Asked for at most; some providers refuse fewer than 16."""
_PROMPT_TOKENS = 20
_CHAT = (None, "", "chat")


@dataclass(frozen=True)
class Offer:
    """A model that clients can ask for.

    Attributes:
        name: as asked for. price: dollars that one completion of the test costs at most; None: LiteLLM knows no price.
    """

    name: str
    price: float | None


def offers(data: Iterable[Mapping[str, Any]]) -> list[Offer]:
    """Read the answer of LiteLLM's `/model/info`.

    Args:
        data: its entries, one for each deployment.
    Returns: chat models, each once, at the price of its dearest deployment, for any of them may be the one that answers.
        Wildcards are none: nobody can ask for `openai/*`.
    """
    found: dict[str, float | None] = {}
    for entry in data:
        name, info = str(entry.get("model_name") or ""), entry.get("model_info") or {}
        if not name or "*" in name or info.get("mode") not in _CHAT:
            continue
        price = _price(info)
        before = found.get(name, price)
        found[name] = None if price is None or before is None else max(price, before)
    return [Offer(name, price) for name, price in found.items()]


def cheapest(found: Iterable[Offer]) -> Offer | None:
    """Choose: known prices before unknown ones, then by price, then by name."""
    return min(found, key=lambda offer: (offer.price is None, offer.price or 0.0, offer.name), default=None)


def _price(info: Mapping[str, Any]) -> float | None:
    prices = [info.get(f"{kind}_cost_per_token") for kind in ("input", "output")]
    if not all(isinstance(price, int | float) for price in prices):
        return None
    return float(prices[0]) * _PROMPT_TOKENS + float(prices[1]) * MAX_TOKENS  # type: ignore[arg-type]  # numbers, see above
