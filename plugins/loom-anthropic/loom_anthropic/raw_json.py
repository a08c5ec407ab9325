"""JSON in which the arguments of tool calls keep the model's own text.

The Messages API has the arguments of a call as an object. A history is to go back as it came, byte for
byte, so the text of those objects is kept beside their value when an answer is read, and written as it is
when a request is made. Everything else is plain ``json``.
"""

from __future__ import annotations

import json
import re
import secrets
from json import decoder, scanner
from typing import Any

from loom_py.errors import ConfigError

__all__ = ["KeptObject", "RawObject", "dumps", "loads"]


class KeptObject(dict[str, Any]):
    """A JSON object that knows its ``text``."""

    __slots__ = ("text",)
    text: str


class RawObject:
    """A JSON object to be written as this ``text``."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _parse_object(start: tuple[str, int], *rest: Any) -> tuple[KeptObject, int]:
    value, end = decoder.JSONObject(start, *rest)  # type: ignore[attr-defined]
    kept = KeptObject(value)
    text, begin = start
    kept.text = text[begin - 1 : end]
    return kept, end


class _KeepingDecoder(json.JSONDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.parse_object = _parse_object
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def loads(body: bytes) -> Any:
    """The value of a JSON text, in which objects are `KeptObject` if there is a tool call.

    Raises `ValueError` for what is no JSON and `RecursionError` for what is nested too deeply.
    """
    text = body.decode("utf-8-sig", "surrogatepass")
    if '"tool_use"' not in text:
        return json.loads(text)
    return _KeepingDecoder().decode(text)


def dumps(body: Any) -> bytes:
    """Compact UTF-8, every `RawObject` as its text; half of a surrogate pair becomes a question mark.

    Raises `ConfigError` for what JSON cannot hold.
    """
    raw: list[str] = []
    mark = secrets.token_hex(8)

    def stand_in(value: Any) -> str:
        if not isinstance(value, RawObject):
            raise TypeError(f"{type(value).__name__} has no JSON form")
        raw.append(value.text)
        return f"{mark}:{len(raw) - 1}"

    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=stand_in)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigError(f"the request cannot be written as JSON: {exc}", field="messages") from None
    if raw:
        text = re.sub(f'"{mark}:(\\d+)"', lambda found: raw[int(found[1])], text)
    return text.encode("utf-8", "replace")
