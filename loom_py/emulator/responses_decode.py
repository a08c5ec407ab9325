"""From the wire: the body of a Responses request as messages, tools and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loom_py.emulator.checks import check_images, check_tool_choice, check_tools
from loom_py.emulator.conversations import Conversations
from loom_py.emulator.decode import ChatRequest, decode_image
from loom_py.emulator.fields import (
    json_array,
    json_object,
    number,
    quoted,
    required_string,
    typed,
    wrong_type,
)
from loom_py.emulator.wire_errors import invalid_request
from loom_py.messages import ContentPart, Message, TextPart, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["REASONING_ITEMS", "check_responses_request", "decode_responses_request"]

REASONING_ITEMS = "reasoning_items"
"""Where a decoded assistant message keeps its reasoning items, in ``provider_data``."""

ROLES = ("assistant", "system", "developer", "user")
_MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "functions": "tools",
}
_DECODED = frozenset(
    [
        "input",
        "instructions",
        "max_output_tokens",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "stream",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
        "user",
    ]
)
MIN_OUTPUT_TOKENS = 16


def decode_responses_request(body: Mapping[str, Any], conversations: Conversations) -> ChatRequest:
    """The request in a Responses ``body``, after the stored conversation it continues.

    Reasoning, text and calls that belong together become one assistant message. Raises `WireError`
    (400), worded as the service words it, for a body it would refuse.
    """
    for key, place in _MOVED.items():
        if body.get(key) is not None:
            raise invalid_request(
                f"Unsupported parameter: '{key}'. In the Responses API, this parameter has moved to "
                f"'{place}'. Try again with the new parameter.",
                key,
                "unsupported_parameter",
            )
    typed(body, "text", Mapping, "an object")
    if body.get("include") is not None:
        json_array(body["include"], "include", "strings")
    instructions = typed(body, "instructions", str, "a string")
    before = conversations.before(typed(body, "previous_response_id", str, "a string"))
    return ChatRequest(
        messages=(
            *((Message.system(instructions),) if instructions else ()),
            *before,
            *_input(body),
        ),
        tools=_tools(body),
        options=_options(body),
        stream=typed(body, "stream", bool, "a boolean") or False,
        include_usage=True,
        model=typed(body, "model", str, "a string"),
    )


# ── input ────────────────────────────────────────────────────────────────────────────────


def _input(body: Mapping[str, Any]) -> Sequence[Message]:
    given = body.get("input")
    if given is None:
        raise invalid_request("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    if isinstance(given, str):
        return [Message.user(given)]
    if not isinstance(given, list):
        raise wrong_type("input", "a string or array of objects", given)
    items = _Items()
    for index, item in enumerate(given):
        items.add(json_object(item, f"input[{index}]"), f"input[{index}]")
    return items.finished()


class _Items:
    """Gathers input items into messages."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._reasoning: list[dict[str, Any]] = []
        self._content: list[ContentPart] = []
        self._calls: list[ToolCall] = []

    def add(self, item: Mapping[str, Any], where: str) -> None:
        kind = item.get("type", "message")
        if kind == "reasoning":
            if self._content or self._calls:
                self._close()
            typed(item, "encrypted_content", str, "a string", where)
            self._reasoning.append(dict(item))
        elif kind == "function_call":
            call = [required_string(item, key, where) for key in ("call_id", "name", "arguments")]
            self._calls.append(ToolCall.parse(*call))
        elif kind == "function_call_output":
            self._close()
            output = _text(item.get("output"), f"{where}.output")
            self._messages.append(Message.tool(output, required_string(item, "call_id", where)))
        elif kind == "message":
            self._message(item, where)
        elif kind != "item_reference":
            supported = "'function_call', 'function_call_output', 'message', and 'reasoning'"
            raise invalid_request(
                f"Invalid value: {quoted(kind)}. Supported values are: {supported}.",
                f"{where}.type",
                "invalid_value",
            )

    def _message(self, item: Mapping[str, Any], where: str) -> None:
        role = item.get("role")
        if role not in ROLES:
            supported = ", ".join(f"'{name}'" for name in ROLES[:-1])
            raise invalid_request(
                f"Invalid value: {quoted(role)}. Supported values are: {supported}, and '{ROLES[-1]}'.",
                where,
                "invalid_value",
            )
        content = _content(item.get("content"), f"{where}.content")
        if role == "assistant":
            if self._content or self._calls:
                self._close()
            self._content = [TextPart(content)] if isinstance(content, str) else list(content)
            return
        self._close()
        self._messages.append(Message("system" if role == "developer" else role, content))

    def _close(self) -> None:
        if self._reasoning or self._content or self._calls:
            content: str | tuple[ContentPart, ...] = tuple(self._content)
            if all(isinstance(part, TextPart) for part in self._content):
                content = "".join(part.text for part in self._content if isinstance(part, TextPart))
            data = {REASONING_ITEMS: self._reasoning} if self._reasoning else {}
            self._messages.append(Message("assistant", content, tuple(self._calls), provider_data=data))
        self._reasoning, self._content, self._calls = [], [], []

    def finished(self) -> list[Message]:
        self._close()
        return self._messages


def _content(content: Any, where: str) -> str | tuple[ContentPart, ...]:
    if isinstance(content, str):
        return content
    if content is None:
        raise invalid_request(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if not isinstance(content, list):
        raise wrong_type(where, "one of a string or array of objects", content)
    return tuple(_part(part, f"{where}[{index}]") for index, part in enumerate(content))


def _part(part: Any, where: str) -> ContentPart:
    part = json_object(part, where)
    kind = part.get("type")
    if kind in {"input_text", "output_text"}:
        return TextPart(required_string(part, "text", where))
    if kind == "refusal":
        return TextPart(required_string(part, "refusal", where))
    if kind == "input_image":
        image = {"url": part.get("image_url"), "detail": part.get("detail")}
        return decode_image(image, f"{where}.image_url")
    raise invalid_request(
        f"Invalid value: {quoted(kind)}. Supported values are: 'input_text', 'input_image', 'output_text', "
        "and 'refusal'.",
        f"{where}.type",
        "invalid_value",
    )


def _text(output: Any, where: str) -> str:
    content = _content(output, where)
    return content if isinstance(content, str) else Message.user(content).text


# ── tools and options ────────────────────────────────────────────────────────────────────


def _tools(body: Mapping[str, Any]) -> tuple[ToolSpec, ...]:
    """The functions; the service's own tools, such as a web search, are left to themselves."""
    tools = []
    for index, item in enumerate(json_array(body.get("tools") or [], "tools", "objects")):
        where = f"tools[{index}]"
        tool = json_object(item, where)
        if required_string(tool, "type", where) != "function":
            continue
        name = required_string(tool, "name", where)
        description = typed(tool, "description", str, "a string", where) or ""
        schema = tool.get("parameters")
        if schema is None:
            tools.append(ToolSpec(name, description))
        else:
            tools.append(ToolSpec(name, description, json_object(schema, f"{where}.parameters")))
    return tuple(tools)


def _options(body: Mapping[str, Any]) -> ChatOptions:
    reasoning = typed(body, "reasoning", Mapping, "an object") or {}
    return ChatOptions(
        temperature=number(body, "temperature", float, 0, 2),
        max_tokens=number(body, "max_output_tokens", int, MIN_OUTPUT_TOKENS),
        top_p=number(body, "top_p", float, 0, 1),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=typed(body, "parallel_tool_calls", bool, "a boolean"),
        reasoning_effort=typed(reasoning, "effort", str, "a string", "reasoning"),
        user=typed(body, "user", str, "a string"),
        extra_body={key: value for key, value in body.items() if key not in _DECODED},
    )


def _tool_choice(body: Mapping[str, Any]) -> str | None:
    choice = body.get("tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str) and choice in {"none", "auto", "required"}:
        return choice
    if isinstance(choice, Mapping):
        return required_string(choice, "name", "tool_choice") if choice.get("type") == "function" else None
    raise invalid_request(
        f"Invalid value: {quoted(choice)}. Supported values are: 'none', 'auto', and 'required'.",
        "tool_choice",
        "invalid_value",
    )


# ── what the service refuses ─────────────────────────────────────────────────────────────


def check_responses_request(request: ChatRequest, body: Mapping[str, Any]) -> None:
    """Raises `WireError` (400) for tools, images or a history the service would refuse."""
    check_tools(request, "")
    if not body.get("tools"):
        check_tool_choice(request)
    check_images(request)
    asked: dict[str, None] = {}
    answered: set[str] = set()
    for message in request.messages:
        asked.update(dict.fromkeys(call.id for call in message.tool_calls))
        if message.role == "tool":
            identity = message.tool_call_id or ""
            if identity not in asked:
                raise invalid_request(
                    f"No tool call found for function call output with call_id {identity}.", "input"
                )
            answered.add(identity)
    for identity in asked:
        if identity not in answered:
            raise invalid_request(f"No tool output found for function call {identity}.", "input")
