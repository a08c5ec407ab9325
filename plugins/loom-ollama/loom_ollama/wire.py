"""Ollama's chat wire, as pure functions: messages to a request, an answer to a response."""

from __future__ import annotations

import base64
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from loom_ollama.config import OllamaConfig
from loom_py.errors import InvalidRequestError, MalformedResponseError, UnsupportedParameterError
from loom_py.messages import ImagePart, Message, Response, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["KEPT", "check_headers", "decode_response", "dumps", "encode_request", "tool_calls_of", "usage_of"]

KEPT = "ollama"
"""The key of what a message keeps for its next turn, in ``provider_data``."""

INVALID_JSON = "INVALID_JSON"
"""The key under which arguments that were no JSON object go back: the wire takes an object only."""

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
"""What names and values of headers may hold (RFC 9110, without the obsolete bytes above ASCII)."""

_DATA_URL = re.compile(r"\Adata:image/[\w.+-]+;base64,", re.IGNORECASE)


def encode_request(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    options: ChatOptions,
    config: OllamaConfig,
    *,
    stream: bool,
) -> dict[str, Any]:
    """The body of ``POST /api/chat``.

    Raises `InvalidRequestError` for an image by address, and `UnsupportedParameterError` where a tool call is
    demanded: Ollama cannot force one.
    """
    body: dict[str, Any] = {
        "model": config.model,
        "messages": [_message(message, config.model) for message in messages],
        "stream": stream,
    }
    offered = _offered(tools, options, config.model)
    if offered:
        body["tools"] = [_tool(tool) for tool in offered]
    if (form := _format(options.response_format, config.model)) is not None:
        body["format"] = form
    if (think := _think(options.reasoning_effort, config)) is not None:
        body["think"] = think
    if config.keep_alive is not None:
        body["keep_alive"] = config.keep_alive
    if settings := _settings(options, config):
        body["options"] = settings
    for name, value in options.extra_body.items():
        both = isinstance(value, Mapping) and isinstance(body.get(name), dict)
        body[name] = {**body[name], **value} if both else value
    return body


def _message(message: Message, model: str) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.text}
    if not isinstance(message.content, str):
        images = [_image(part, model) for part in message.content if isinstance(part, ImagePart)]
        if images:
            said["images"] = images
    if message.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "function": {"index": place, "name": call.name, "arguments": _arguments(call)}}
            for place, call in enumerate(message.tool_calls)
        ]
    if message.role == "tool":
        said["tool_name"] = message.name or ""
        said["tool_call_id"] = message.tool_call_id or ""
    thinking = message.provider_data.get(KEPT, {}).get("thinking")
    if thinking:
        said["thinking"] = thinking
    return said


def _arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments as the object the wire wants; of text that was none, an object that shows it."""
    if call.error is not None:
        return {INVALID_JSON: call.arguments_json}
    return {name: _finite(value) for name, value in call.arguments.items()}


def _finite(value: Any) -> Any:
    """``value`` with nulls for NaN and the infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def dumps(body: Mapping[str, Any], model: str) -> bytes:
    """The bytes of a request; half of a surrogate pair becomes a question mark.

    Raises `InvalidRequestError` for what JSON cannot hold.
    """
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidRequestError(
            f"the request cannot be written as JSON: {exc}",
            deployment=model,
            sent=False,
            hint="Check extra_body, model_options and the tools' schemas.",
        ) from None
    return text.encode("utf-8", "replace")


def check_headers(headers: Mapping[str, str], model: str) -> None:
    """Raise `InvalidRequestError` for a header that cannot be sent; its value is not shown."""
    for name, value in headers.items():
        if not (HEADER_NAME.fullmatch(name) and HEADER_VALUE.fullmatch(value)):
            raise InvalidRequestError(
                f"the header {name!r} cannot be sent",
                param="extra_headers",
                deployment=model,
                sent=False,
                hint="A header's value is one line of ASCII characters.",
            )


def _image(part: ImagePart, model: str) -> str:
    """The image in base64; Ollama fetches nothing by itself."""
    if part.data is not None:
        return base64.b64encode(part.data).decode("ascii")
    url = part.url or ""
    if found := _DATA_URL.match(url):
        return url[found.end() :]
    raise InvalidRequestError(
        "Ollama takes images as data, not by address",
        param="messages",
        deployment=model,
        hint="Read the image yourself: ImagePart.from_path(…) or ImagePart.from_bytes(…).",
    )


def _offered(tools: Sequence[ToolSpec], options: ChatOptions, model: str) -> Sequence[ToolSpec]:
    choice = options.tool_choice
    if choice == "none":
        return ()
    if choice not in (None, "auto"):
        raise UnsupportedParameterError(
            f"Ollama cannot be made to call a tool: tool_choice={choice!r}",
            param="tool_choice",
            deployment=model,
            hint='Leave tool_choice out, or use "auto" or "none"; for typed answers use output=.',
        )
    return tools


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _format(wanted: Mapping[str, Any] | None, model: str) -> Any:
    """OpenAI's ``response_format`` as Ollama's ``format``: ``"json"`` or a schema."""
    kind = None if wanted is None else wanted.get("type")
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return "json"
    schema = wanted.get("json_schema") if kind == "json_schema" else None
    found = schema.get("schema") if isinstance(schema, Mapping) else None
    if isinstance(found, Mapping):
        return dict(found)
    raise InvalidRequestError(
        f"response_format of type {kind!r} is not known, or has no schema",
        param="response_format",
        deployment=model,
    )


def _think(effort: str | None, config: OllamaConfig) -> bool | str | None:
    """Whether, or how hard, to think: by the call's ``reasoning_effort``, else by the settings."""
    if effort is None:
        return config.think
    if effort in {"none", "minimal"}:
        return False
    return "high" if effort in {"xhigh", "max"} else effort


def _settings(options: ChatOptions, config: OllamaConfig) -> dict[str, Any]:
    """The model's options, under Ollama's names."""
    stop = options.stop
    wanted = {
        "temperature": config.temperature if options.temperature is None else options.temperature,
        "num_predict": options.max_tokens or config.max_tokens,
        "top_p": options.top_p,
        "seed": options.seed,
        "stop": [stop] if isinstance(stop, str) else None if stop is None else list(stop),
        "num_ctx": config.context_window,
    }
    return {
        **{name: value for name, value in config.model_options.items() if value is not None},
        **{name: value for name, value in wanted.items() if value is not None},
    }


# ── answers ──────────────────────────────────────────────────────────────────────────────


def decode_response(data: Mapping[str, Any], config: OllamaConfig, options: ChatOptions) -> Response:
    """The response of a whole answer, or of the pieces of a stream put together; without its cost.

    Raises `MalformedResponseError` for what is no answer.
    """
    message = data.get("message")
    if not isinstance(message, Mapping) or data.get("done") is not True:
        raise MalformedResponseError(
            "the answer holds no finished message", deployment=config.model, hint=NOT_OLLAMA
        )
    content, thinking = message.get("content") or "", message.get("thinking") or ""
    if not isinstance(content, str) or not isinstance(thinking, str):
        raise MalformedResponseError("the answer's text is no text", deployment=config.model)
    calls = tool_calls_of(message, config.model)
    if options.parallel_tool_calls is False:
        calls = calls[:1]
    return Response(
        message=content,
        tokens_used=usage_of(data),
        tool_calls=calls,
        finish_reason="tool_calls" if calls else _finish_reason(data),
        model=str(data.get("model") or config.model),
        metadata=_facts(data, thinking),
        provider_data={KEPT: {"thinking": thinking}} if thinking else {},
    )


NOT_OLLAMA = "Is it Ollama that answers at this host?"


def tool_calls_of(message: Mapping[str, Any], model: str) -> tuple[ToolCall, ...]:
    """The tool calls of a message; those without an id, as older servers send them, get one."""
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise MalformedResponseError("the answer's tool calls are no list", deployment=model)
    return tuple(_tool_call(call, model) for call in calls)


def _tool_call(call: Any, model: str) -> ToolCall:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not isinstance(function, Mapping):
        raise MalformedResponseError("a tool call of the answer names no tool", deployment=model)
    id_ = str(call.get("id") or f"call_{uuid.uuid4().hex[:24]}")
    arguments = function.get("arguments")
    if isinstance(arguments, Mapping):
        return ToolCall(id_, name, dict(arguments))
    if arguments is None or isinstance(arguments, str):
        return ToolCall.parse(id_, name, arguments)
    text = f"the arguments must be a JSON object, not {type(arguments).__name__}"
    return ToolCall(id_, name, {}, str(arguments), text)


def usage_of(data: Mapping[str, Any]) -> TokenUsage:
    """The tokens an answer says it used; 0 where it does not say."""
    return TokenUsage(_count(data, "prompt_eval_count"), _count(data, "eval_count"))


def _count(data: Mapping[str, Any], name: str) -> int:
    found = data.get(name)
    return found if type(found) is int and found > 0 else 0


def _finish_reason(data: Mapping[str, Any]) -> str:
    reason = data.get("done_reason")
    return reason if isinstance(reason, str) and reason else "stop"


_SECONDS = {
    "total_duration": "total_seconds",
    "load_duration": "load_seconds",
    "prompt_eval_duration": "prompt_seconds",
    "eval_duration": "generation_seconds",
}
"""Ollama's durations, in nanoseconds, and what they are called here, in seconds."""


def _facts(data: Mapping[str, Any], thinking: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"provider": "ollama"}
    for name, ours in _SECONDS.items():
        if type(found := data.get(name)) is int:
            facts[ours] = round(found / 1e9, 6)
    if thinking:
        facts["thinking"] = thinking
    if "prompt_eval_count" not in data:
        facts["usage_incomplete"] = True  # the prompt came from the server's cache, and was not counted
    return facts
