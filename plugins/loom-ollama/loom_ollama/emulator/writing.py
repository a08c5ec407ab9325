"""A model's response as the pieces that Ollama's server writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from loom_py.messages import Response, ToolCall

__all__ = ["last_piece", "piece", "tool_calls"]


def piece(model: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a stream."""
    return {
        "model": model,
        "created_at": datetime.now(UTC).isoformat(),
        "message": message,
        "done": False,
    }


def last_piece(
    model: str, response: Response, calls: Sequence[Mapping[str, Any]] = (), text: str = ""
) -> dict[str, Any]:
    """The line that ends a stream, or a whole answer; times are in nanoseconds, and made up."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = list(calls)
    usage = response.tokens_used
    reason = "stop" if response.finish_reason == "tool_calls" else response.finish_reason
    return {
        **piece(model, message),
        "done": True,
        "done_reason": reason,
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": usage.input,
        "prompt_eval_duration": 1_000_000,
        "eval_count": usage.output,
        "eval_duration": 3_000_000,
    }


def tool_calls(calls: Iterable[ToolCall], *, ids: bool) -> list[dict[str, Any]]:
    """The calls of a message; with their ``ids`` as newer servers send them."""
    found = []
    for place, call in enumerate(calls):
        arguments: Any = call.arguments if call.error is None else call.arguments_json
        made = {"function": {"index": place, "name": call.name, "arguments": arguments}}
        found.append({"id": call.id, **made} if ids else made)
    return found
