"""The bytes that a manifest's signature covers, apart from the manifest's model, whose import takes a tenth of a second."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["canonical", "open_document"]


def canonical(body: dict[str, Any]) -> bytes:
    """Return the one form of a JSON document that is the same everywhere: ASCII, keys sorted, no spaces."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def open_document(data: bytes) -> tuple[dict[str, Any], bytes, str]:
    """Take a stored document apart.

    Returns: the document without its signature, the bytes that the signature covers, and the signature's value, empty where
        there is none.
    Raises:
        ValueError: it is no JSON object.
    """
    body = json.loads(data)
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error for all that is no document
    signature = body.pop("signature", None)
    value = signature.get("value") if isinstance(signature, dict) else None
    return body, canonical(body), value if isinstance(value, str) else ""
