"""OTLP as protobuf, which SDKs send unless they are told otherwise, turned into OTLP/JSON.

The fields that the stand-in reads, and no others (source: opentelemetry-proto 1.x, trace.proto and common.proto):

    request 1 -> resource spans: 1 resource (1 attributes), 2 -> scope spans: 2 -> span
    span: 1 trace id, 2 span id, 4 parent's, 5 name, 6 kind, 7 start, 8 end, 9 attributes, 15 status (2 message, 3 code)
    attribute: 1 key, 2 value: 1 text, 2 truth, 3 whole number, 4 number, 5 list (1 values), 6 map (1 attributes), 7 bytes
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

__all__ = ["to_json"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def to_json(content: bytes) -> dict[str, Any]:
    """The request as OTLP/JSON has it.

    Args:
        content: an ExportTraceServiceRequest.
    Raises:
        ValueError: it is none.
    """
    try:
        return {"resourceSpans": [_resource_spans(one) for number, one in _fields(content) if number == 1]}
    except (AttributeError, IndexError, TypeError, struct.error, UnicodeDecodeError):
        raise ValueError("expected an ExportTraceServiceRequest as protobuf") from None


def _resource_spans(message: Any) -> dict[str, Any]:
    resource: dict[str, Any] = {}
    scopes = []
    for number, value in _fields(message):
        if number == 1:
            resource = {"attributes": [_attribute(one) for field, one in _fields(value) if field == 1]}
        elif number == 2:
            scopes.append({"spans": [_span(one) for field, one in _fields(value) if field == 2]})
    return {"resource": resource, "scopeSpans": scopes}


def _span(message: Any) -> dict[str, Any]:
    span: dict[str, Any] = {"attributes": []}
    for number, value in _fields(message):
        match number:
            case 1 | 2 | 4:
                span[{1: "traceId", 2: "spanId", 4: "parentSpanId"}[number]] = value.hex()
            case 5:
                span["name"] = value.decode()
            case 6:
                span["kind"] = value
            case 7 | 8:
                span["startTimeUnixNano" if number == 7 else "endTimeUnixNano"] = str(int.from_bytes(value, "little"))
            case 9:
                span["attributes"].append(_attribute(value))
            case 15:
                said = dict(_fields(value))
                span["status"] = {"message": said.get(2, b"").decode(), "code": said.get(3, 0)}
            case _:
                pass  # events, links, states: not read
    return span


def _attribute(message: Any) -> dict[str, Any]:
    said = dict(_fields(message))
    return {"key": said[1].decode() if 1 in said else "", "value": _value(said.get(2, b""))}


def _value(message: Any) -> dict[str, Any]:
    for number, value in _fields(message):
        match number:
            case 1:
                return {"stringValue": value.decode()}
            case 2:
                return {"boolValue": bool(value)}
            case 3:
                return {"intValue": str(value - (1 << 64) if value >> 63 else value)}
            case 4:
                return {"doubleValue": struct.unpack("<d", value)[0]}
            case 5:
                return {"arrayValue": {"values": [_value(one) for field, one in _fields(value) if field == 1]}}
            case 6:
                return {"kvlistValue": {"values": [_attribute(one) for field, one in _fields(value) if field == 1]}}
            case 7:
                return {"bytesValue": value.hex()}
            case _:
                pass  # a kind that came later
    return {}


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int for a varint, bytes for the rest."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"protobuf: unknown wire type {kind}")
        if position + length > len(message):
            raise ValueError("protobuf: the message breaks off")
        yield number, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("protobuf: a number is too long")
