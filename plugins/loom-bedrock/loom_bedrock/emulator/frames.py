"""The binary frames of ``application/vnd.amazon.eventstream``.

A frame is a prelude (total length, length of the headers, both 4 bytes, and their CRC-32), the headers, the
payload, and the CRC-32 of all that (AWS's documentation of the event stream encoding).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

__all__ = ["event_frame", "exception_frame", "frame"]

_STRING = 7
"""The type of a header's value: text with its length before it."""


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame with these headers, all of them texts."""
    head = b"".join(map(_header, headers, headers.values()))
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    prelude += struct.pack("!I", zlib.crc32(prelude))
    message = prelude + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


def event_frame(kind: str, body: Mapping[str, Any]) -> bytes:
    """An event of the stream."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, _json(body))


def exception_frame(kind: str, body: Mapping[str, Any]) -> bytes:
    """An exception, which ends the stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, _json(body))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack("!B", len(key)) + key + struct.pack("!BH", _STRING, len(text)) + text


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
