"""What the service refuses in a well-formed request: tool names, schemas, histories, parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from loom_py.emulator.decode import ChatRequest
from loom_py.emulator.wire_errors import WireError, invalid_request
from loom_py.messages import ImagePart, Message

__all__ = [
    "check_images",
    "check_reasoning_model",
    "check_request",
    "check_tool_choice",
    "check_tools",
    "is_reasoning_model",
]

MAX_TOOLS = 128
MAX_NAME = 64
TOOL_NAME = r"^[a-zA-Z0-9_\.-]+$"
HISTORY_NAME = r"^[a-zA-Z0-9_-]{1,64}$"
"""The pattern for names in a history is the older one: a "functions.x" a model made up is refused."""

_REASONING = re.compile(r"o\d|gpt-[5-9](?!\d)")
_O_SERIES = re.compile(r"o\d")
_RESPONSES_FOR_TOOLS = re.compile(r"gpt-(?:5\.[6-9]|[6-9])")
_RESPONSES_FOR_EFFORT = re.compile(r"gpt-5\.[45](?!\d)")
_UNSUPPORTED = ("top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias")


def is_reasoning_model(model: str) -> bool:
    """Whether ``model`` thinks first, and so takes no sampling parameters."""
    return bool(_REASONING.match(model)) and "-chat" not in model


def check_request(request: ChatRequest, body: Mapping[str, Any], model: str) -> None:
    """Raises `WireError` (400) if the service would refuse ``request`` for ``model``."""
    check_tools(request)
    check_tool_choice(request)
    if (body.get("n") or 1) != 1:
        raise _unsupported_value("n", body["n"])
    check_images(request)
    if is_reasoning_model(model):
        _check_reasoning(request, body, model)
    _check_history(request)


# ── tools ────────────────────────────────────────────────────────────────────────────────


def check_tools(request: ChatRequest, inside: str = ".function") -> None:
    """Refuse bad names and schemas; ``inside`` is where in a tool they stand."""
    if len(request.tools) > MAX_TOOLS:
        raise invalid_request(
            f"Invalid 'tools': array too long. Expected an array with maximum length {MAX_TOOLS}, "
            f"but got an array with length {len(request.tools)} instead.",
            "tools",
            "array_above_max_length",
        )
    for index, tool in enumerate(request.tools):
        where = f"tools[{index}]{inside}"
        _check_name(tool.name, f"{where}.name", TOOL_NAME)
        _check_schema(tool.name, tool.parameters, f"{where}.parameters")


def _check_name(name: str, where: str, pattern: str) -> None:
    if not re.fullmatch(pattern.strip("^$"), name):
        if len(name) > MAX_NAME and re.fullmatch(TOOL_NAME.strip("^$"), name):
            raise _too_long(name, where)
        raise invalid_request(
            f"Invalid '{where}': string does not match pattern. "
            f"Expected a string that matches the pattern '{pattern}'.",
            where,
            "invalid_value",
        )
    if len(name) > MAX_NAME:
        raise _too_long(name, where)


def _too_long(name: str, where: str) -> WireError:
    return invalid_request(
        f"Invalid '{where}': string too long. Expected a string with maximum length {MAX_NAME}, "
        f"but got a string with length {len(name)} instead.",
        where,
        "string_above_max_length",
    )


def _check_schema(name: str, schema: Mapping[str, Any], where: str) -> None:
    if not schema:
        return
    if schema.get("type") != "object":
        problem = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
        raise _bad_schema(name, problem, where)
    if "properties" not in schema and "$ref" not in schema:
        raise _bad_schema(name, "In context=(), object schema missing properties.", where)
    try:
        _check_arrays(name, schema, where, ())
    except RecursionError:
        raise _bad_schema(name, "the schema is nested too deeply.", where) from None


def _check_arrays(name: str, schema: object, where: str, path: tuple[str, ...]) -> None:
    if not isinstance(schema, Mapping):
        return
    if schema.get("type") == "array" and not {"items", "prefixItems"} & schema.keys():
        raise _bad_schema(name, f"In context={path!r}, array schema missing items.", where)
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        for key, value in properties.items():
            _check_arrays(name, value, where, (*path, "properties", key))
    _check_arrays(name, schema.get("items"), where, (*path, "items"))


def _bad_schema(name: str, problem: str, where: str) -> WireError:
    return invalid_request(
        f"Invalid schema for function '{name}': {problem}", where, "invalid_function_parameters"
    )


def check_tool_choice(request: ChatRequest) -> None:
    """Refuse a choice among tools that are not there."""
    options = request.options
    for key, value in (
        ("tool_choice", options.tool_choice),
        ("parallel_tool_calls", options.parallel_tool_calls),
    ):
        if value is not None and value != "none" and not request.tools:
            raise invalid_request(
                f"Invalid value for '{key}': '{key}' is only allowed when 'tools' are specified.", key
            )
    names = {tool.name for tool in request.tools} | {None, "auto", "none", "required"}
    if options.tool_choice not in names:
        raise invalid_request(
            f"Tool choice '{options.tool_choice}' not found in 'tools' parameter.", "tool_choice"
        )


# ── models that reason ───────────────────────────────────────────────────────────────────


def _check_reasoning(request: ChatRequest, body: Mapping[str, Any], model: str) -> None:
    if body.get("max_tokens") is not None:
        raise invalid_request(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    if body.get("temperature") not in {None, 1}:
        raise _unsupported_value("temperature", body["temperature"])
    refused: Sequence[str] = _UNSUPPORTED
    if _O_SERIES.match(model):
        refused = (*_UNSUPPORTED, "parallel_tool_calls")
    for key in refused:
        if body.get(key) is not None:
            raise invalid_request(
                f"Unsupported parameter: '{key}' is not supported with this model.",
                key,
                "unsupported_parameter",
            )
    effort = request.options.reasoning_effort
    needs_responses = bool(_RESPONSES_FOR_TOOLS.match(model)) or (
        bool(_RESPONSES_FOR_EFFORT.match(model)) and effort is not None
    )
    if request.tools and needs_responses and effort != "none":
        raise invalid_request(
            f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. "
            "To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
            "reasoning_effort",
        )


def check_reasoning_model(body: Mapping[str, Any], model: str) -> None:
    """Refuse what models that reason do not take in the Responses API."""
    refused: Sequence[str] = ("temperature", "top_p", "top_logprobs")
    if _O_SERIES.match(model):
        refused = (*refused, "parallel_tool_calls")
    for key in refused:
        if body.get(key) is not None and not (key in {"temperature", "top_p"} and body[key] == 1):
            raise invalid_request(f"Unsupported parameter: '{key}' is not supported with this model.", key)


def _unsupported_value(key: str, value: object) -> WireError:
    return invalid_request(
        f"Unsupported value: '{key}' does not support {value} with this model. "
        "Only the default (1) value is supported.",
        key,
        "unsupported_value",
    )


def check_images(request: ChatRequest) -> None:
    """A ``data:`` URL that could not be decoded is still a URL."""
    for index, message in enumerate(request.messages):
        parts = () if isinstance(message.content, str) else message.content
        for position, part in enumerate(parts):
            if isinstance(part, ImagePart) and (part.url or "").startswith("data:"):
                raise invalid_request(
                    "Invalid base64 image_url. Please ensure your image is valid base64.",
                    f"messages[{index}].content[{position}].image_url.url",
                    "invalid_base64",
                )


# ── history ──────────────────────────────────────────────────────────────────────────────


def _check_history(request: ChatRequest) -> None:
    known = {tool.name for tool in request.tools}
    open_calls: dict[str, None] = {}
    asked: set[str] = set()
    after_calls = False
    for index, message in enumerate(request.messages):
        where = f"messages.[{index}]"
        if message.role == "tool":
            _check_tool_message(message, where, asked, after_calls=after_calls)
            open_calls.pop(message.tool_call_id or "", None)
            continue
        if open_calls:
            raise _unanswered(open_calls, where)
        after_calls = bool(message.tool_calls)
        asked = {call.id for call in message.tool_calls}
        open_calls = dict.fromkeys(call.id for call in message.tool_calls)
        for position, call in enumerate(message.tool_calls):
            if call.name not in known:
                _check_name(
                    call.name, f"messages[{index}].tool_calls[{position}].function.name", HISTORY_NAME
                )
    if open_calls:
        raise _unanswered(open_calls, f"messages.[{len(request.messages) - 1}]")


def _check_tool_message(message: Message, where: str, asked: set[str], *, after_calls: bool) -> None:
    if not after_calls:  # "preceeding" is the service's own spelling
        raise invalid_request(
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            "'tool_calls'.",
            f"{where}.role",
        )
    if message.tool_call_id not in asked:
        raise invalid_request(
            f"Invalid parameter: 'tool_call_id' of '{message.tool_call_id}' not found in 'tool_calls' of "
            "previous message.",
            f"{where}.tool_call_id",
        )


def _unanswered(open_calls: Mapping[str, None], where: str) -> WireError:
    return invalid_request(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        "'tool_call_id'. The following tool_call_ids did not have response messages: "
        + ", ".join(open_calls),
        f"{where}.role",
    )
