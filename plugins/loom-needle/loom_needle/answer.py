"""Text made by rule, for the model writes none: from tool results, or to say what it can do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from loom_py.messages import Message, ToolCall, ToolSpec

__all__ = ["compose", "decline"]

_ERROR = re.compile(r"Error \((?P<code>\w+)\): (?P<reason>.*?)(?:\nSuggestion: .*)?", re.DOTALL)


def compose(turn: Sequence[Message]) -> str:
    """The answer that the tool results in ``turn`` give, the messages after the user's question.

    One result is the answer as it stands. Of several, those that are sentences follow each other, and
    bare values are led by the call they belong to. A failure is told as one, without the advice that
    was meant for the model.
    """
    calls = {call.id: call for message in turn for call in message.tool_calls}
    results = [message for message in turn if message.role == "tool"]
    if len(results) == 1:
        return _single(results[0], calls)
    return "\n".join(_line(result, calls) for result in results)


def _single(result: Message, calls: Mapping[str, ToolCall]) -> str:
    if not result.text.strip() or _ERROR.fullmatch(result.text):
        return f"I have no answer: {_line(result, calls)}"
    return result.text


def _line(result: Message, calls: Mapping[str, ToolCall]) -> str:
    call = calls.get(result.tool_call_id or "")
    label = _label(call) if call else result.name or "a tool"
    if error := _ERROR.fullmatch(result.text):
        return f"{label} failed ({error['code']}): {error['reason']}"
    text = result.text.strip()
    if not text:
        return f"{label} returned nothing."
    return text if text.endswith((".", "!", "?")) and " " in text else f"{label}: {result.text}"


def _label(call: ToolCall) -> str:
    arguments = ", ".join(f"{name}={_value(value)}" for name, value in call.arguments.items())
    return f"{call.name}({arguments})"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def decline(offered: Sequence[ToolSpec]) -> str:
    """The reply where no call is sure enough: what the tools on offer can do."""
    if not offered:
        return "I only choose tools, and I was given none to choose from."
    lines = [f"- {tool.name}: {_first_line(tool.description)}".rstrip(": ") for tool in offered]
    return "I can't tell which tool fits that question. What I can do:\n" + "\n".join(lines)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
