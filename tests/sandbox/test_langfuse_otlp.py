"""OTLP as protobuf is read as the JSON that says the same."""

from __future__ import annotations

import struct

import pytest

from shared.sandbox.langfuse_double import rows
from shared.sandbox.langfuse_double.otlp import to_json

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: bytes | str | int) -> bytes:
    """A field with a length, or a varint."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def fixed(number: int, value: int | float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d" if isinstance(value, float) else "<Q", value)


def attribute(key: str, value: bytes) -> bytes:
    return field(1, key) + field(2, value)


def request(*attributes: bytes, status: int = 2) -> bytes:
    span = field(1, bytes.fromhex(TRACE)) + field(2, bytes.fromhex(SPAN)) + field(5, "chat über alles") + field(6, 3)
    span += fixed(7, 1_790_000_000_000_000_000) + fixed(8, 1_790_000_001_000_000_000)
    span += b"".join(field(9, one) for one in attributes)
    span += field(11, b"\x0a\x00") + varint(16 << 3 | 5) + b"\0\0\1\0"  # an event, flags
    span += field(15, field(2, "why") + field(3, status))
    scope = field(1, field(1, "litellm")) + field(2, span)
    return field(1, field(1, field(1, attribute("service.name", field(1, "gateway")))) + field(2, scope))


def test_a_span_of_protobuf_is_the_span_that_json_would_be() -> None:
    content = request(
        attribute("text", field(1, "x" * 300)),
        attribute("truth", field(2, 1)),
        attribute("minus", field(3, -5)),
        attribute("number", fixed(4, 0.25)),
        attribute("list", field(5, field(1, field(1, "a")) + field(1, field(3, 300)))),
        attribute("nothing", b""),
    )
    (span,) = rows.spans_of(to_json(content)["resourceSpans"])
    assert span == {
        "traceId": TRACE,
        "spanId": SPAN,
        "name": "chat über alles",
        "kind": 3,
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000001000000000",
        "status": {"message": "why", "code": 2},
        "attributes": {
            "service.name": "gateway",
            "text": "x" * 300,
            "truth": True,
            "minus": -5,
            "number": 0.25,
            "list": ["a", 300],
            "nothing": None,
        },
    }


@pytest.mark.parametrize("content", [request()[:-3], b"{}", b"\xff" * 12, b"\x0b\x00"], ids=["torn", "json", "noise", "group"])
def test_what_is_no_protobuf_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="protobuf"):
        to_json(content)


def test_an_empty_request_has_no_spans() -> None:
    assert rows.spans_of(to_json(b"")["resourceSpans"]) == []
