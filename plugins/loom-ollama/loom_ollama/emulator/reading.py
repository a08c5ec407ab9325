"""A request, checked as Ollama's server checks it, in loom_py's nouns."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from loom_ollama.emulator.answers import OllamaAnswer
from loom_py.messages import ImagePart, Message, TextPart, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["parsed", "tagged", "understood"]

ROLES = {"system", "user", "assistant", "tool"}


def parsed(raw: bytes) -> Any:
    """The JSON of a body; its text where it is none."""
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except ValueError:
        return raw.decode("utf-8", "replace")


def _refuse_constant(name: str) -> Any:
    """Go's decoder knows neither NaN nor the infinities."""
    raise ValueError(f"invalid character in request body: {name}")


def understood(
    body: Any, models: Iterable[str], without_tools: Container[str]
) -> tuple[tuple[Message, ...], tuple[ToolSpec, ...], ChatOptions]:
    """The request in loom_py's nouns. Raises the server's own refusals."""
    if not isinstance(body, dict):
        raise OllamaAnswer(400, {"error": "invalid character in request body"})
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise OllamaAnswer(400, {"error": "model is required"})
    if tagged(model) not in map(tagged, models):
        raise OllamaAnswer(404, {"error": f"model '{model}' not found"})
    tools = tuple(map(_tool, _list(body, "tools")))
    if tools and model in without_tools:
        raise OllamaAnswer(400, {"error": f"registry.ollama.ai/library/{model} does not support tools"})
    messages = tuple(map(_message, _list(body, "messages")))
    return messages, tools, _options(body)


def tagged(name: str) -> str:
    """The name with its tag, ``latest`` where it has none."""
    return name if ":" in name else f"{name}:latest"


def _list(body: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = body.get(name) or ()
    if not isinstance(found, list | tuple):
        raise OllamaAnswer(400, {"error": f"json: cannot unmarshal into Go struct field ChatRequest.{name}"})
    return found


def _message(data: Any) -> Message:
    if not isinstance(data, dict) or data.get("role") not in ROLES:
        raise OllamaAnswer(400, {"error": "invalid role in messages"})
    content: Any = data.get("content", "")
    if not isinstance(content, str):
        raise OllamaAnswer(
            400, {"error": "json: cannot unmarshal array into Go struct field .content of type string"}
        )
    if images := data.get("images"):
        parts = [ImagePart(url=f"data:image/png;base64,{image}") for image in images]
        content = (TextPart(content), *parts)
    calls = tuple(
        ToolCall(call.get("id", ""), call["function"]["name"], _arguments(call["function"]))
        for call in data.get("tool_calls") or ()
    )
    return Message(data["role"], content, calls, data.get("tool_call_id"), data.get("tool_name"))


def _arguments(function: Mapping[str, Any]) -> dict[str, Any]:
    found = function.get("arguments", {})
    if not isinstance(found, dict):
        kind = "string" if isinstance(found, str) else type(found).__name__
        raise OllamaAnswer(
            400, {"error": f"json: cannot unmarshal {kind} into Go struct field .arguments of type map"}
        )
    return found


def _tool(data: Any) -> ToolSpec:
    function = data.get("function") if isinstance(data, dict) else None
    if not isinstance(function, dict) or not function.get("name"):
        raise OllamaAnswer(400, {"error": "a tool has no function"})
    return ToolSpec(function["name"], function.get("description", ""), function.get("parameters", {}))


def _options(body: Mapping[str, Any]) -> ChatOptions:
    given = body.get("options") or {}
    form = body.get("format")
    wanted: dict[str, Any] | None = None
    if form == "json":
        wanted = {"type": "json_object"}
    elif isinstance(form, dict):
        wanted = {"type": "json_schema", "json_schema": {"name": "format", "schema": form}}
    think = body.get("think")
    return ChatOptions(
        temperature=given.get("temperature"),
        max_tokens=given.get("num_predict"),
        top_p=given.get("top_p"),
        seed=given.get("seed"),
        stop=given.get("stop"),
        response_format=wanted,
        reasoning_effort=think if isinstance(think, str) else None,
    )
