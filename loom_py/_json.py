"""JSON by the fastest reader there is, with the same results whichever that is.

The standard library's ``json`` decides what is right. ``orjson`` (extra ``fast``) is used where it is known
to agree, and what it refuses is read or written by ``json`` after all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

__all__ = ["STANDARD", "Codec", "codec", "has_orjson"]

LARGE = 1_048_576
"""Characters of a text from which on orjson, which takes many times its size to write it, is not used."""

_LONG = b"0" * 19
"""So many digits may be more than 64 bits hold, which orjson rounds."""
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else ord(" ") for byte in range(256))
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Codec(NamedTuple):
    """How JSON is read and written.

    ``loads`` raises `ValueError` for what is no JSON and `RecursionError` for what is nested too deeply.
    ``dumps`` writes compact UTF-8, half of a surrogate pair as a question mark; it raises `TypeError`,
    `ValueError` or `RecursionError` for what JSON cannot hold. ``dumps_text`` is for data that is known to
    hold nothing but strings, ``None``, lists and dicts of them.
    """

    loads: Callable[[bytes], Any]
    dumps: Callable[[Any], bytes]
    dumps_text: Callable[[Any], bytes]


def _loads(data: bytes) -> Any:
    if data[:1] == b"{" and data[1:2] != b"\0":  # which only UTF-8 begins with
        return _decode(data.decode("utf-8", "surrogatepass"))
    return json.loads(data)


def _dumps(value: Any) -> bytes:
    return _encode(value).encode("utf-8", "replace")


def _has_large(value: Any) -> bool:
    """Whether there is a large text in ``value``. Most of it are short ones in a list of dicts."""
    if value.__class__ is str:
        return len(value) > LARGE
    if value.__class__ is dict:
        return any(map(_has_large, value.values()))
    if value.__class__ is not list:
        return False
    try:
        rest = [
            part for item in value for part in item.values() if part.__class__ is not str or len(part) > LARGE
        ]
    except AttributeError:  # not all are dicts
        rest = value
    return any(map(_has_large, rest))


STANDARD = Codec(_loads, _dumps, _dumps)
"""The standard library's JSON."""


@cache
def has_orjson() -> bool:
    """Whether orjson is installed."""
    try:
        import orjson  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def codec(fast: bool) -> Codec:
    """The codec with orjson if it is wanted and installed, else the standard library's."""
    return _by_orjson() if fast and has_orjson() else STANDARD


def _by_orjson() -> Codec:
    import orjson

    read, write = orjson.loads, orjson.dumps
    options = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS

    def loads(data: bytes) -> Any:
        if _LONG in data.translate(_DIGITS):
            return _loads(data)
        try:
            return read(data)
        except ValueError:  # also for what only the standard library takes, such as NaN and lone surrogates
            return _loads(data)

    def dumps_text(value: Any) -> bytes:
        if _has_large(value):
            return _dumps(value)
        try:
            return write(value, option=options)
        except TypeError:  # such as a lone surrogate, or a subclass of a string
            return _dumps(value)

    return Codec(loads, _dumps, dumps_text)
