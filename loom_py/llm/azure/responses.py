"""Answers of the Responses API: `decode_responses` reads a whole one, as a pure function.

Requests are made in `responses_request`, streams are put together in `responses_stream`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from loom_py.errors import (
    ContentFilterError,
    IncompleteResponseError,
    MalformedResponseError,
    ProviderError,
    ServiceUnavailableError,
    is_filtered,
)
from loom_py.llm.azure.errors import error_from_body, filter_verdicts, is_error
from loom_py.llm.azure.responses_request import CARRIED, NAMESPACE
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.llm.azure.wire import decode_usage, finish, model_of, string_or_empty
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = [
    "calls_of",
    "decode_responses",
    "decode_responses_usage",
    "error_in",
    "failure_of",
    "finish_reason_of",
    "text_of",
]


def decode_responses(data: Any, tools: EncodedTools = NO_TOOLS) -> Response:
    """The reply in a whole response object.

    ``finish_reason`` is in the words of chat completions: ``stop``, ``tool_calls``, ``length``.
    Raises the error of a failed response, `ContentFilterError` for one the filter stopped (with the
    text so far), `IncompleteResponseError` for one that ended early without text and
    `MalformedResponseError` where there is no reply at all.
    """
    if not isinstance(data, Mapping):
        raise MalformedResponseError(f"the answer is a JSON {type(data).__name__}, not an object")
    status = string_or_empty(data.get("status"))
    if status != "failed" and not data.get("error") and is_error(data):
        raise error_from_body(data)
    if status == "failed" or data.get("error"):
        raise failure_of(data)
    usage = decode_responses_usage(data.get("usage"))
    output = data.get("output")
    if not isinstance(output, list):
        raise MalformedResponseError("the answer has no output", tokens_used=usage)
    if status not in {"", "completed", "incomplete"}:
        raise MalformedResponseError(
            f"the answer is not a finished response, its status is {status!r}",
            hint="Responses are awaited, not polled: do not ask for background or cancel them.",
            tokens_used=usage,
        )
    items = [item for item in output if isinstance(item, Mapping)]
    calls = calls_of(items, tools)
    response = Response(
        message=text_of(items),
        tokens_used=usage or TokenUsage(),
        tool_calls=calls,
        finish_reason=finish_reason_of(data),
        model=model_of(data),
        metadata=_metadata(data, items),
        provider_data=_provider_data(items, calls),
    )
    return _answer(response, data, status)


def _answer(response: Response, data: Mapping[str, Any], status: str) -> Response:
    """``response`` if it is an answer; raises the typed error if it is not."""
    filters = _filters(data)
    if response.finish_reason == "content_filter" or any(map(_blocks, filters)):
        raise _filtered(filters, response.message, response.tokens_used)
    empty = not (response.message or response.tool_calls or response.metadata.get("refusal"))
    if status == "incomplete" and empty and response.finish_reason != "length":
        raise IncompleteResponseError(
            f"the response ended early, without any text ({response.finish_reason})",
            hint="The service gave no better reason; ask again.",
            tokens_used=response.tokens_used,
        )
    return finish(response, None)


def finish_reason_of(data: Mapping[str, Any]) -> str:
    """Why the model stopped, in the words of chat completions.

    A reason of an incomplete response that they have no word for is given as sent.
    """
    if string_or_empty(data.get("status")) == "incomplete":
        details = data.get("incomplete_details")
        reason = string_or_empty(details.get("reason")) if isinstance(details, Mapping) else ""
        return "length" if reason in {"max_output_tokens", "max_tokens"} else reason or "incomplete"
    output = data.get("output")
    items = output if isinstance(output, list) else []
    return "tool_calls" if any(_is(item, "function_call") for item in items) else "stop"


def text_of(items: Iterable[Mapping[str, Any]]) -> str:
    """The text in output ``items``, refusals left out."""
    return "".join(_text(item) for item in items if _is(item, "message"))


def _text(item: Mapping[str, Any]) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    return "".join(string_or_empty(part.get("text")) for part in _parts(item) if not _is(part, "refusal"))


def _refusal(items: Iterable[Mapping[str, Any]]) -> str:
    parts = (part for item in items if _is(item, "message") for part in _parts(item))
    return "".join(string_or_empty(part.get("refusal")) for part in parts if _is(part, "refusal"))


def _parts(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = item.get("content")
    return (part for part in (content if isinstance(content, list) else ()) if isinstance(part, Mapping))


def _is(item: Any, kind: str) -> bool:
    return isinstance(item, Mapping) and item.get("type") == kind


def calls_of(items: Iterable[Mapping[str, Any]], tools: EncodedTools = NO_TOOLS) -> tuple[ToolCall, ...]:
    """The tool calls among output ``items``. One that was cut off says so in its ``error``."""
    found = [item for item in items if _is(item, "function_call")]
    return tuple(_call(index, item, tools) for index, item in enumerate(found))


def _call(index: int, item: Mapping[str, Any], tools: EncodedTools) -> ToolCall:
    call_id = string_or_empty(item.get("call_id")) or f"call_{index}"  # a result must be able to name it
    name = tools.own_name(string_or_empty(item.get("name")))
    arguments = item.get("arguments")
    if isinstance(arguments, Mapping):
        return ToolCall(call_id, name, dict(arguments))
    text = string_or_empty(arguments)
    if item.get("status") == "incomplete":  # nothing at all would read as "no arguments"
        return ToolCall(call_id, name, {}, text, "the arguments were cut off before their end")
    return ToolCall.parse(call_id, name, text)


def _provider_data(items: Iterable[Mapping[str, Any]], calls: Sequence[ToolCall]) -> dict[str, Any]:
    """What the next turn needs: reasoning as it came, and where text and calls stood among it."""
    entries: list[dict[str, Any]] = []
    remaining = iter(calls)
    for item in items:
        if string_or_empty(item.get("type")) in CARRIED:
            entries.append(dict(item))
        elif _is(item, "function_call"):
            entries.append({"type": "function_call", "call_id": next(remaining).id})
        elif _is(item, "message"):
            entry = {"type": "message", "characters": len(_text(item))}
            phase = string_or_empty(item.get("phase"))
            entries.append(entry | {"phase": phase} if phase else entry)
    needed = any(entry["type"] in CARRIED or "phase" in entry for entry in entries)
    return {NAMESPACE: {"output": entries}} if needed else {}


def _metadata(data: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if isinstance(data.get("service_tier"), str):
        metadata["service_tier"] = data["service_tier"]
    if refusal := _refusal(items):
        metadata["refusal"] = refusal
    filters = _filters(data)
    verdicts = {
        "prompt": [entry for entry in filters if _on_prompt(entry)],
        "completion": _verdicts(entry for entry in filters if not _on_prompt(entry)),
    }
    if kept := {side: found for side, found in verdicts.items() if found}:
        metadata["content_filter"] = kept
    return metadata


def decode_responses_usage(usage: Any) -> TokenUsage | None:
    """The API's usage object; ``None`` where there is none. Any of its fields may be missing."""
    if not isinstance(usage, Mapping):
        return None
    return decode_usage(
        {
            "prompt_tokens": usage.get("input_tokens"),
            "completion_tokens": usage.get("output_tokens"),
            "prompt_tokens_details": usage.get("input_tokens_details"),
            "completion_tokens_details": usage.get("output_tokens_details"),
        }
    )


# ── failures ─────────────────────────────────────────────────────────────────────────────


def failure_of(data: Mapping[str, Any]) -> ProviderError:
    """The typed error of a response that failed, or of an error event's ``{"error": …}``.

    Where it says nothing of an error, its filter results may; else the service is to blame.
    """
    usage = decode_responses_usage(data.get("usage"))
    filters = _filters(data)
    error = error_in(data)
    if error is None:
        if any(map(_blocks, filters)):
            return _filtered(filters, _partial_text(data), usage)
        why = "the response failed and the service did not say why"
        return ServiceUnavailableError(why, tokens_used=usage)
    failure = error_from_body({"error": error})
    failure.tokens_used = usage
    if isinstance(failure, ContentFilterError):
        failure.partial_text = _partial_text(data)
        failure.side = "completion" if failure.partial_text else failure.side
        failure.categories = failure.categories or _verdicts(filters)
    return failure


def error_in(data: Mapping[str, Any]) -> Any:
    """The error object in ``data``; ``None`` where there is none, or it says nothing."""
    error = data.get("error")
    if isinstance(error, Mapping):
        return error if any(error.get(key) for key in ("code", "message", "type")) else None
    return error or None


def _partial_text(data: Mapping[str, Any]) -> str:
    output = data.get("output")
    return text_of(output if isinstance(output, list) else ())


def _filters(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    filters = data.get("content_filters")
    return [entry for entry in filters if isinstance(entry, Mapping)] if isinstance(filters, list) else []


def _on_prompt(entry: Mapping[str, Any]) -> bool:
    return entry.get("source_type") == "prompt"


def _blocks(entry: Mapping[str, Any]) -> bool:
    """Whether the filter blocked; where an entry does not say, whether any verdict does."""
    blocked = entry.get("blocked")
    if isinstance(blocked, bool):
        return blocked
    return any(is_filtered(verdict) for verdict in filter_verdicts([entry]).values())


def _verdicts(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Verdicts by category; one that blocked is not overruled by a later piece's."""
    merged: dict[str, Any] = {}
    for entry in entries:
        for category, verdict in filter_verdicts([entry]).items():
            if not is_filtered(merged.get(category)):
                merged[category] = verdict
    return merged


def _filtered(
    filters: Sequence[Mapping[str, Any]], text: str, usage: TokenUsage | None
) -> ContentFilterError:
    blocking = [entry for entry in filters if _blocks(entry)]
    on_prompt = bool(blocking) and not text and all(map(_on_prompt, blocking))
    what = "blocked the prompt" if on_prompt else "stopped the answer"
    return ContentFilterError(
        f"the content filter {what}",
        side="prompt" if on_prompt else "completion",
        categories=_verdicts(entry for entry in filters if _on_prompt(entry) == on_prompt),
        partial_text=text,
        tokens_used=usage,
    )
