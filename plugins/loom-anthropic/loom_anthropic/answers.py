"""Answers of the Messages API, as pure functions: a message and its usage, as loom_py has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loom_anthropic.errors import error_from_body, is_error
from loom_anthropic.history import NAMESPACE, THINKING
from loom_anthropic.raw_json import KeptObject
from loom_py.errors import (
    ContentFilterError,
    ContextLengthError,
    IncompleteResponseError,
    MalformedResponseError,
)
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["FINISH_REASONS", "decode_calls", "decode_message", "decode_usage"]

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""The API's reasons in the words of chat completions; others stay as they are."""

CUT = frozenset({"max_tokens", "model_context_window_exceeded"})
CUT_OFF = "the arguments were cut off before their end"


def decode_message(data: Any, tools: EncodedTools = NO_TOOLS, *, model: str = "") -> Response:
    """The reply in a whole message; ``model`` is the one that was asked.

    Raises `MalformedResponseError` where there is none, the error of an error body that came with status
    200, `ContentFilterError` for a reply that the safety classifiers stopped, `IncompleteResponseError` for
    one whose token limit left no text, and `ContextLengthError` where it was the context window.
    """
    if not isinstance(data, Mapping):
        raise MalformedResponseError(f"the answer is a JSON {type(data).__name__}, not an object")
    if is_error(data):
        raise error_from_body(data)
    usage = decode_usage(data.get("usage"))
    content = data.get("content")
    if not isinstance(content, list):
        raise MalformedResponseError("the answer has no content", tokens_used=usage)
    blocks = [block for block in content if isinstance(block, Mapping)]
    stop_reason = _string(data.get("stop_reason"))
    text = "".join(_string(block.get("text")) for block in blocks if block.get("type") == "text")
    calls = decode_calls(blocks, tools, stop_reason)
    response = Response(
        message=text,
        tokens_used=usage or TokenUsage(),
        tool_calls=calls,
        finish_reason=FINISH_REASONS.get(stop_reason, stop_reason) or ("tool_calls" if calls else "stop"),
        model=_string(data.get("model")),
        metadata=_metadata(data, stop_reason),
        provider_data=_provider_data(blocks, calls, model),
    )
    return _answer(response, data.get("stop_details"))


def _answer(response: Response, details: Any) -> Response:
    """``response`` if it is an answer; raises the typed error if it is not."""
    if response.finish_reason == "refusal":
        raise _refused(response, details if isinstance(details, Mapping) else {})
    if response.finish_reason == "length" and not response.message and not response.tool_calls:
        if response.metadata.get("stop_reason") == "model_context_window_exceeded":
            raise ContextLengthError(
                "the model's context window was full before it wrote any text",
                provider_code="model_context_window_exceeded",
                tokens_used=response.tokens_used,
            )
        reasoning = response.tokens_used.reasoning
        spent = f", {reasoning} of them on thinking" if reasoning else ""
        raise IncompleteResponseError(
            f"the model used all {response.tokens_used.output} output tokens{spent} and wrote no text",
            tokens_used=response.tokens_used,
        )
    return response


def _refused(response: Response, details: Mapping[str, Any]) -> ContentFilterError:
    category, why = _string(details.get("category")), _string(details.get("explanation"))
    side = "completion" if response.message or response.tool_calls else "prompt"
    what = "stopped the reply" if side == "completion" else "declined the request"
    named = f" ({category})" if category else ""
    return ContentFilterError(
        f"Anthropic's safety classifiers {what}{named}{f': {why}' if why else ''}",
        side=side,
        categories={category: {"filtered": True}} if category else {},
        partial_text=response.message,
        provider_code="refusal",
        tokens_used=response.tokens_used,
        hint="Rephrase the request, or leave out of the history what was declined; another model may answer.",
    )


def decode_calls(
    blocks: Sequence[Mapping[str, Any]], tools: EncodedTools = NO_TOOLS, stop_reason: str = ""
) -> tuple[ToolCall, ...]:
    """The tool calls among ``blocks``; one that was cut off says so in its ``error``.

    The ``input`` of a block is an object, or the text of one as a stream has it. Raises
    `MalformedResponseError` for a call without a name.
    """
    calls: list[ToolCall] = []
    for index, block in enumerate(blocks):
        if block.get("type") == "tool_use":
            is_cut = stop_reason in CUT and index == len(blocks) - 1
            calls.append(_call(len(calls), block, tools, is_cut))
    return tuple(calls)


def _call(place: int, block: Mapping[str, Any], tools: EncodedTools, is_cut: bool) -> ToolCall:
    name = _string(block.get("name"))
    if not name:
        raise MalformedResponseError("the answer has a tool call without a name")
    call_id = _string(block.get("id")) or f"call_{place}"  # a result must be able to name it
    name = tools.own_name(name)
    arguments = block.get("input")
    if isinstance(arguments, KeptObject):
        text = arguments.text
    elif isinstance(arguments, str):
        text = arguments
    else:
        text = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    call = ToolCall.parse(call_id, name, text)
    if is_cut and not call.arguments:
        return ToolCall(call_id, name, {}, text, CUT_OFF)
    return call


def _provider_data(
    blocks: Sequence[Mapping[str, Any]], calls: Sequence[ToolCall], model: str
) -> dict[str, Any]:
    """What the next turn needs: thinking as it came, and where text and calls stood among it."""
    if not any(block.get("type") in THINKING for block in blocks):
        return {}
    entries: list[dict[str, Any]] = []
    remaining = iter(calls)
    for block in blocks:
        kind = block.get("type")
        if kind in THINKING:
            entries.append(dict(block))
        elif kind == "tool_use":
            entries.append({"type": "tool_use", "id": next(remaining).id})
        elif kind == "text":
            entries.append({"type": "text", "characters": len(_string(block.get("text")))})
    return {NAMESPACE: {"model": model, "content": entries}}


def _metadata(data: Mapping[str, Any], stop_reason: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if stop_reason:
        metadata["stop_reason"] = stop_reason
    for key in ("id", "stop_sequence"):
        if isinstance(data.get(key), str):
            metadata["message_id" if key == "id" else key] = data[key]
    usage = data.get("usage")
    for key in ("service_tier", "inference_geo", "speed"):
        if isinstance(usage, Mapping) and isinstance(usage.get(key), str):
            metadata[key] = usage[key]
    return metadata


def decode_usage(usage: Any) -> TokenUsage | None:
    """The API's usage object; ``None`` where there is none.

    Its ``input_tokens`` leave out what was read from and written to the cache; ours are all of them.
    """
    if not isinstance(usage, Mapping):
        return None
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    return TokenUsage(
        input=_count(usage, "input_tokens") + read + written,
        output=_count(usage, "output_tokens"),
        cached_input=read,
        cache_writes=written,
        reasoning=_count(usage.get("output_tokens_details"), "thinking_tokens"),
    )


def _count(source: Any, key: str) -> int:
    value = source.get(key) if isinstance(source, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
