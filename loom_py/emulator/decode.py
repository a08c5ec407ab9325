"""From the wire: the body of a chat-completions request as messages, tools and options."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loom_py.emulator.wire_errors import WireError, invalid_request
from loom_py.messages import ContentPart, ImagePart, Message, TextPart, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["ChatRequest", "decode_request", "parse_body"]

ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_DECODED = frozenset(
    [
        "messages",
        "tools",
        "stream",
        "stream_options",
        "model",
        "temperature",
        "max_tokens",
        "max_completion_tokens",
        "top_p",
        "stop",
        "seed",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning_effort",
        "user",
    ]
)
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*?;base64,(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A decoded request. ``model`` is what the body names, if it does."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    options: ChatOptions
    stream: bool = False
    include_usage: bool = False
    model: str | None = None


def parse_body(raw: bytes) -> Mapping[str, Any]:
    """The JSON object in ``raw``. Raises `WireError` (400) where there is none."""
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _unparsable() from None
    if not isinstance(body, dict):
        raise invalid_request(
            f"Invalid type for request body: expected an object, but got {_kind(body)} instead."
        )
    return body


def decode_request(body: Mapping[str, Any]) -> ChatRequest:
    """The request in a chat-completions ``body``.

    What `ChatOptions` has no field for travels in ``extra_body``. Raises `WireError` (400), worded
    as the service words it, for a body it would refuse.
    """
    stream = _typed(body, "stream", bool, "a boolean") or False
    stream_options = _typed(body, "stream_options", Mapping, "an object")
    if stream_options is not None and not stream:
        raise invalid_request(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options"
        )
    return ChatRequest(
        messages=_messages(body),
        tools=_tools(body),
        options=_options(body),
        stream=stream,
        include_usage=bool((stream_options or {}).get("include_usage")),
        model=_typed(body, "model", str, "a string"),
    )


# ── messages ─────────────────────────────────────────────────────────────────────────────


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    if body.get("messages") is None:
        raise invalid_request(
            "Missing required parameter: 'messages'.", "messages", "missing_required_parameter"
        )
    messages = _array(body["messages"], "messages", "objects")
    if not messages:
        raise _empty_array("messages")
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(messages))


def _message(item: Any, where: str) -> Message:
    item = _object(item, where)
    role = item.get("role")
    if role not in ROLES:
        supported = ", ".join(f"'{name}'" for name in ROLES[:-1])
        raise invalid_request(
            f"Invalid value: {_quoted(role)}. Supported values are: {supported}, and '{ROLES[-1]}'.",
            f"{where}.role",
            "invalid_value",
        )
    if role == "function":
        raise invalid_request("Messages with role 'function' are deprecated; use 'tool'.", f"{where}.role")
    calls = _tool_calls(item, where) if role == "assistant" else ()
    content = _content(item.get("content"), where, role, optional=bool(calls) or bool(item.get("refusal")))
    name = _typed(item, "name", str, "a string", where)
    if role == "tool":
        return Message.tool(_joined(content), _tool_call_id(item, where), name)
    return Message("system" if role == "developer" else role, content, calls, None, name)


def _content(content: Any, where: str, role: str, *, optional: bool) -> str | tuple[ContentPart, ...]:
    if isinstance(content, str):
        return content
    if content is None:
        if optional:
            return ""
        raise invalid_request("Invalid value for 'content': expected a string, got null.", f"{where}.content")
    if not isinstance(content, list):
        raise _wrong_type(f"{where}.content", "a string or array of objects", content)
    return tuple(_part(part, f"{where}.content[{index}]", role) for index, part in enumerate(content))


def _part(part: Any, where: str, role: str) -> ContentPart:
    part = _object(part, where)
    kind = part.get("type")
    if kind in {"text", "refusal"}:
        return TextPart(_required_string(part, kind, where))
    if kind != "image_url":
        raise invalid_request(
            f"Invalid value: {_quoted(kind)}. Supported values are: 'text' and 'image_url'.",
            f"{where}.type",
            "invalid_value",
        )
    if role != "user":
        raise invalid_request(
            f"Invalid '{where.partition('.')[0]}'. Image URLs are only allowed for messages with role "
            f"'user', but this message with role '{role}' contains an image URL.",
            where.partition(".")[0],
            "invalid_value",
        )
    return _image(_object(part.get("image_url"), f"{where}.image_url"), f"{where}.image_url")


def _image(image: Mapping[str, Any], where: str) -> ImagePart:
    url = _required_string(image, "url", where)
    detail: Literal["auto", "low", "high"] = "auto"
    if image.get("detail") is not None:
        detail = image["detail"]
    if detail not in {"auto", "low", "high"}:
        raise invalid_request(
            f"Invalid value: {_quoted(detail)}. Supported values are: 'low', 'high', and 'auto'.",
            f"{where}.detail",
            "invalid_value",
        )
    match = _DATA_URL.fullmatch(url)
    if match is None:
        return ImagePart(url=url, detail=detail)
    try:
        data = base64.b64decode(match[2], validate=True)
    except ValueError:
        return ImagePart(url=url, detail=detail)
    return ImagePart(data=data, media_type=match[1] or "image/png", detail=detail)


def _joined(content: str | tuple[ContentPart, ...]) -> str:
    return content if isinstance(content, str) else Message.user(content).text


def _tool_call_id(item: Mapping[str, Any], where: str) -> str:
    identity = item.get("tool_call_id")
    if not isinstance(identity, str) or not identity:
        raise invalid_request(
            "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'.",
            f"{where}.tool_call_id",
        )
    return identity


def _tool_calls(item: Mapping[str, Any], where: str) -> tuple[ToolCall, ...]:
    if item.get("tool_calls") is None:
        return ()
    calls = _array(item["tool_calls"], f"{where}.tool_calls", "objects")
    if not calls:
        raise _empty_array(f"{where}.tool_calls")
    return tuple(_tool_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls))


def _tool_call(call: Any, where: str) -> ToolCall:
    call = _object(call, where)
    function = _object(call.get("function"), f"{where}.function")
    return ToolCall.parse(
        _required_string(call, "id", where),
        _required_string(function, "name", f"{where}.function"),
        _required_string(function, "arguments", f"{where}.function"),
    )


# ── tools and options ────────────────────────────────────────────────────────────────────


def _tools(body: Mapping[str, Any]) -> tuple[ToolSpec, ...]:
    if body.get("tools") is None:
        return ()
    tools = _array(body["tools"], "tools", "objects")
    if not tools:
        raise _empty_array("tools")
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))


def _tool(tool: Any, where: str) -> ToolSpec:
    tool = _object(tool, where)
    if tool.get("type") != "function":
        raise invalid_request(
            f"Invalid value: {_quoted(tool.get('type'))}. Supported values are: 'function'.",
            f"{where}.type",
            "invalid_value",
        )
    function = _object(tool.get("function"), f"{where}.function")
    name = _required_string(function, "name", f"{where}.function")
    description = _typed(function, "description", str, "a string", f"{where}.function") or ""
    if function.get("parameters") is None:
        return ToolSpec(name, description)
    return ToolSpec(name, description, _object(function["parameters"], f"{where}.function.parameters"))


def _options(body: Mapping[str, Any]) -> ChatOptions:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise invalid_request(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    limit = _number(body, "max_tokens", int, 1), _number(body, "max_completion_tokens", int, 1)
    return ChatOptions(
        temperature=_number(body, "temperature", float, 0, 2),
        max_tokens=limit[0] if limit[1] is None else limit[1],
        top_p=_number(body, "top_p", float, 0, 1),
        stop=_stop(body),
        seed=_number(body, "seed", int),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=_typed(body, "parallel_tool_calls", bool, "a boolean"),
        reasoning_effort=_typed(body, "reasoning_effort", str, "a string"),
        user=_typed(body, "user", str, "a string"),
        extra_body={key: value for key, value in body.items() if key not in _DECODED},
    )


def _stop(body: Mapping[str, Any]) -> str | tuple[str, ...] | None:
    stop = body.get("stop")
    if stop is None or isinstance(stop, str):
        return stop
    if not isinstance(stop, list) or not all(isinstance(item, str) for item in stop):
        raise _wrong_type("stop", "a string or array of strings", stop)
    return tuple(stop)


def _tool_choice(body: Mapping[str, Any]) -> str | None:
    choice = body.get("tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice in {"none", "auto", "required"}:
            return choice
    elif isinstance(choice, Mapping) and choice.get("type") == "function":
        return _required_string(
            _object(choice.get("function"), "tool_choice.function"), "name", "tool_choice.function"
        )
    raise invalid_request(
        f"Invalid value: {_quoted(choice)}. Supported values are: 'none', 'auto', and 'required'.",
        "tool_choice",
        "invalid_value",
    )


# ── the small checks ─────────────────────────────────────────────────────────────────────


def _number(
    body: Mapping[str, Any], key: str, kind: type[float], low: float | None = None, high: float | None = None
) -> Any:
    value = body.get(key)
    if value is None:
        return None
    noun = "integer" if kind is int else "decimal"
    accepted = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise _wrong_type(key, "an integer" if kind is int else "a decimal", value)
    if low is not None and value < low:
        raise invalid_request(
            f"Invalid '{key}': {noun} below minimum value. Expected a value >= {low}, "
            f"but got {value} instead.",
            key,
            f"{noun}_below_min_value",
        )
    if high is not None and value > high:
        raise invalid_request(
            f"Invalid '{key}': {noun} above maximum value. Expected a value <= {high}, "
            f"but got {value} instead.",
            key,
            f"{noun}_above_max_value",
        )
    return value


def _typed(item: Mapping[str, Any], key: str, kind: Any, noun: str, where: str = "") -> Any:
    value = item.get(key)
    if value is None or isinstance(value, kind):
        return value
    raise _wrong_type(f"{where}.{key}" if where else key, noun, value)


def _required_string(item: Mapping[str, Any], key: str, where: str) -> str:
    value = _typed(item, key, str, "a string", where)
    if value is None:
        raise invalid_request(
            f"Missing required parameter: '{where}.{key}'.", f"{where}.{key}", "missing_required_parameter"
        )
    return str(value)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if value is None:
        raise invalid_request(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    raise _wrong_type(where, "an object", value)


def _array(value: Any, where: str, of: str) -> Sequence[Any]:
    if isinstance(value, list):
        return value
    raise _wrong_type(where, f"an array of {of}", value)


def _wrong_type(where: str, expected: str, value: object) -> WireError:
    return invalid_request(
        f"Invalid type for '{where}': expected {expected}, but got {_kind(value)} instead.",
        where,
        "invalid_type",
    )


def _empty_array(where: str) -> WireError:
    return invalid_request(
        f"Invalid '{where}': empty array. Expected an array with minimum length 1, "
        "but got an empty array instead.",
        where,
        "empty_array",
    )


def _unparsable() -> WireError:
    return invalid_request(
        "We could not parse the JSON body of your request. The API expects a JSON payload, "
        "but what was sent was not valid JSON."
    )


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _quoted(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else json.dumps(value, default=str)


_KINDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)
