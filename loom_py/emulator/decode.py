"""From the wire: the body of a chat-completions request as messages, tools and options."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loom_py.emulator.fields import (
    empty_array,
    json_array,
    json_object,
    kind_of,
    no_constant,
    number,
    quoted,
    required_string,
    typed,
    unparsable,
    wrong_type,
)
from loom_py.emulator.wire_errors import invalid_request
from loom_py.messages import ContentPart, ImagePart, Message, TextPart, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["ChatRequest", "decode_image", "decode_request", "parse_body"]

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
        body = json.loads(raw, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise unparsable() from None
    if not isinstance(body, dict):
        raise invalid_request(
            f"Invalid type for request body: expected an object, but got {kind_of(body)} instead."
        )
    return body


def decode_request(body: Mapping[str, Any]) -> ChatRequest:
    """The request in a chat-completions ``body``.

    What `ChatOptions` has no field for travels in ``extra_body``. Raises `WireError` (400), worded
    as the service words it, for a body it would refuse.
    """
    stream = typed(body, "stream", bool, "a boolean") or False
    stream_options = typed(body, "stream_options", Mapping, "an object")
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
        model=typed(body, "model", str, "a string"),
    )


# ── messages ─────────────────────────────────────────────────────────────────────────────


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    if body.get("messages") is None:
        raise invalid_request(
            "Missing required parameter: 'messages'.", "messages", "missing_required_parameter"
        )
    messages = json_array(body["messages"], "messages", "objects")
    if not messages:
        raise empty_array("messages")
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(messages))


def _message(item: Any, where: str) -> Message:
    item = json_object(item, where)
    role = item.get("role")
    if role not in ROLES:
        supported = ", ".join(f"'{name}'" for name in ROLES[:-1])
        raise invalid_request(
            f"Invalid value: {quoted(role)}. Supported values are: {supported}, and '{ROLES[-1]}'.",
            f"{where}.role",
            "invalid_value",
        )
    if role == "function":
        raise invalid_request("Messages with role 'function' are deprecated; use 'tool'.", f"{where}.role")
    calls = _tool_calls(item, where) if role == "assistant" else ()
    content = _content(item.get("content"), where, role, optional=bool(calls) or bool(item.get("refusal")))
    name = typed(item, "name", str, "a string", where)
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
        raise wrong_type(f"{where}.content", "a string or array of objects", content)
    return tuple(_part(part, f"{where}.content[{index}]", role) for index, part in enumerate(content))


def _part(part: Any, where: str, role: str) -> ContentPart:
    part = json_object(part, where)
    kind = part.get("type")
    if kind in {"text", "refusal"}:
        return TextPart(required_string(part, kind, where))
    if kind != "image_url":
        raise invalid_request(
            f"Invalid value: {quoted(kind)}. Supported values are: 'text' and 'image_url'.",
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
    return decode_image(json_object(part.get("image_url"), f"{where}.image_url"), f"{where}.image_url")


def decode_image(image: Mapping[str, Any], where: str) -> ImagePart:
    """The image an ``image_url`` object names."""
    url = required_string(image, "url", where)
    detail: Literal["auto", "low", "high"] = "auto"
    if image.get("detail") is not None:
        detail = image["detail"]
    if detail not in {"auto", "low", "high"}:
        raise invalid_request(
            f"Invalid value: {quoted(detail)}. Supported values are: 'low', 'high', and 'auto'.",
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
    calls = json_array(item["tool_calls"], f"{where}.tool_calls", "objects")
    if not calls:
        raise empty_array(f"{where}.tool_calls")
    return tuple(_tool_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls))


def _tool_call(call: Any, where: str) -> ToolCall:
    call = json_object(call, where)
    function = json_object(call.get("function"), f"{where}.function")
    return ToolCall.parse(
        required_string(call, "id", where),
        required_string(function, "name", f"{where}.function"),
        required_string(function, "arguments", f"{where}.function"),
    )


# ── tools and options ────────────────────────────────────────────────────────────────────


def _tools(body: Mapping[str, Any]) -> tuple[ToolSpec, ...]:
    if body.get("tools") is None:
        return ()
    tools = json_array(body["tools"], "tools", "objects")
    if not tools:
        raise empty_array("tools")
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))


def _tool(tool: Any, where: str) -> ToolSpec:
    tool = json_object(tool, where)
    if tool.get("type") != "function":
        raise invalid_request(
            f"Invalid value: {quoted(tool.get('type'))}. Supported values are: 'function'.",
            f"{where}.type",
            "invalid_value",
        )
    function = json_object(tool.get("function"), f"{where}.function")
    name = required_string(function, "name", f"{where}.function")
    description = typed(function, "description", str, "a string", f"{where}.function") or ""
    if function.get("parameters") is None:
        return ToolSpec(name, description)
    return ToolSpec(name, description, json_object(function["parameters"], f"{where}.function.parameters"))


def _options(body: Mapping[str, Any]) -> ChatOptions:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise invalid_request(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    limit = number(body, "max_tokens", int, 1), number(body, "max_completion_tokens", int, 1)
    return ChatOptions(
        temperature=number(body, "temperature", float, 0, 2),
        max_tokens=limit[0] if limit[1] is None else limit[1],
        top_p=number(body, "top_p", float, 0, 1),
        stop=_stop(body),
        seed=number(body, "seed", int),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=typed(body, "parallel_tool_calls", bool, "a boolean"),
        reasoning_effort=typed(body, "reasoning_effort", str, "a string"),
        user=typed(body, "user", str, "a string"),
        extra_body={key: value for key, value in body.items() if key not in _DECODED},
    )


def _stop(body: Mapping[str, Any]) -> str | tuple[str, ...] | None:
    stop = body.get("stop")
    if stop is None or isinstance(stop, str):
        return stop
    if not isinstance(stop, list) or not all(isinstance(item, str) for item in stop):
        raise wrong_type("stop", "a string or array of strings", stop)
    return tuple(stop)


def _tool_choice(body: Mapping[str, Any]) -> str | None:
    choice = body.get("tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice in {"none", "auto", "required"}:
            return choice
    elif isinstance(choice, Mapping) and choice.get("type") == "function":
        return required_string(
            json_object(choice.get("function"), "tool_choice.function"), "name", "tool_choice.function"
        )
    raise invalid_request(
        f"Invalid value: {quoted(choice)}. Supported values are: 'none', 'auto', and 'required'.",
        "tool_choice",
        "invalid_value",
    )
