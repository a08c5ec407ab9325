"""What the model reads of a tool's outcome: the return value as text or images, or what went wrong."""

from __future__ import annotations

import functools
from typing import Any

from loom_py.content import ContentPart, ImagePart, TextPart
from loom_py.errors import (
    CircuitOpenError,
    GuardrailError,
    LoomError,
    QueryError,
    QueryRefusedError,
    ToolArgumentsError,
)

__all__ = ["blames_the_caller", "describe_error", "error_code", "error_text", "render"]

NOTHING = "OK (the tool returned nothing)"
CODES = frozenset({"invalid_arguments", "unknown_tool", "tool_error", "tool_timeout", "tool_unavailable"})
MAX_MESSAGE = 4000  # characters of an error's message that the model is shown


def render(value: object) -> str | tuple[ContentPart, ...]:
    """A tool's return value for the model.

    An `ImagePart`, or a list or tuple with one in it, becomes parts: the images as they are, all
    else as text. Everything that has no image becomes text.

    Text is taken as it is, ``None`` is said in words, everything else becomes JSON where it has a
    JSON form (pydantic models, dataclasses, dates, decimals, sets, bytes, …) and ``str`` otherwise.
    Raises whatever the value's own ``str`` raises.
    """
    items = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(item, ImagePart) for item in items):
        return tuple(item if isinstance(item, ImagePart) else TextPart(_as_text(item)) for item in items)
    return _as_text(value)


def _as_text(value: object) -> str:
    if isinstance(value, TextPart):
        value = value.text
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return _encodable(str.__str__(value))
    return _encodable(_as_json(value))


def _as_json(value: object) -> str:
    from pydantic_core import to_json

    opaque = False

    def text_of(item: object) -> str:
        nonlocal opaque
        opaque = opaque or item is value
        return str(item)

    dump = functools.partial(to_json, value, fallback=text_of, inf_nan_mode="strings")
    for bytes_mode in ("utf8", "base64"):
        try:
            encoded = dump(bytes_mode=bytes_mode)
        except Exception:  # noqa: BLE001, S112 (serializers of any class run here: try the next form)
            continue
        return str(value) if opaque else encoded.decode()
    return str(value)


def _encodable(text: str) -> str:
    """``text`` without half surrogates, which no wire can carry."""
    return text.encode("utf-8", "backslashreplace").decode()


def error_text(code: str, message: str, suggestion: str | None = None) -> str:
    """What was wrong, then what to do."""
    text = f"Error ({code}): {message}"
    return _encodable(f"{text}\nSuggestion: {suggestion}" if suggestion else text)


def describe_error(error: BaseException) -> str:
    """The text for an exception a tool raised."""
    if isinstance(error, LoomError):
        return error_text(error.code, _cut(error.message), error.hint)
    return error_text("tool_error", _described(error))


def error_code(error: BaseException) -> str:
    """The ``error_code`` of the result for an exception a tool raised."""
    code = error.code if isinstance(error, LoomError) else "tool_error"
    return code if code in CODES else "tool_error"


def blames_the_caller(error: BaseException) -> bool:
    """Whether the model's request was at fault, so that the tool itself is healthy."""
    if isinstance(error, (GuardrailError, ToolArgumentsError, QueryRefusedError, QueryError)):
        return True
    return isinstance(error, LoomError) and error.code == "invalid_arguments"


def unavailable_text(name: str, error: CircuitOpenError) -> str:
    """The text for a tool that its breaker has switched off."""
    wait = "" if error.retry_after is None else f" (it may be back in {error.retry_after:.0f} s)"
    return error_text(
        "tool_unavailable",
        f"the tool {name!r} has failed repeatedly and is switched off for now{wait}",
        f"do not use {name!r} for now: use other tools, or answer with what is known",
    )


def _described(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        message = str(error).strip()
    except Exception:  # noqa: BLE001 (an exception's own str may raise anything)
        return f"{kind} (its message cannot be shown)"
    if isinstance(error, BaseExceptionGroup):
        message += ": " + "; ".join(_described(inner) for inner in error.exceptions)
    return _cut(f"{kind}: {message}") if message else kind


def _cut(text: Any) -> str:
    text = str(text)
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}… ({len(text)} characters in all)"
