"""A conversation as the Messages API takes it: turns that alternate, made of blocks.

Neighbours of one role become one turn; the results of one reply's tools stand together before any text;
ids of other providers are made legal; and a reply's thinking goes back among its text and its calls, in the
order it came in.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loom_anthropic.raw_json import RawObject
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.messages import ImagePart, Message, ToolCall

__all__ = ["NAMESPACE", "THINKING", "encode_history", "lacks_thinking", "legal_id"]

NAMESPACE = "anthropic"
"""The key of ``provider_data`` under which a reply's thinking and the order of its blocks are kept."""

THINKING = frozenset({"thinking", "redacted_thinking"})
"""Blocks that go back to the model exactly as they came."""

NOTHING = "(no text)"
"""What stands for a message of the user's without any text, which the API refuses."""

BEFORE = "(The conversation begins with the assistant.)"
"""The first turn of a conversation that would begin with the assistant's, which the API refuses."""

_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_ERROR = re.compile(r"Error \(\w+\)")
"""How loom_py begins the text of a tool's failure."""
_DATA_URL = re.compile(r"data:([\w.+/-]+);base64,(.*)", re.DOTALL)


def legal_id(call_id: str) -> str:
    """``call_id`` if the API takes it; else like it, with a digest that keeps two of them apart."""
    legal = _ILLEGAL.sub("_", call_id)
    if legal == call_id and call_id:
        return call_id
    digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{legal or 'call'}_{digest}"


class _Ids:
    """The ids of calls on the wire: legal, and each used once, though providers count anew in each reply.

    Results are taken to come in the order of their calls where a reply uses one id for several.
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._awaited: dict[str, list[str]] = {}

    def next_reply(self) -> None:
        """Another reply begins: what was not answered will not be."""
        self._awaited = {}

    def of_call(self, call_id: str) -> str:
        wire = legal_id(call_id)
        place = 2
        while wire in self._used:
            wire = f"{legal_id(call_id)}_{place}"
            place += 1
        self._used.add(wire)
        self._awaited.setdefault(call_id, []).append(wire)
        return wire

    def of_result(self, call_id: str) -> str:
        awaited = self._awaited.get(call_id)
        if not awaited:
            return legal_id(call_id)
        return awaited.pop(0) if len(awaited) > 1 else awaited[0]


def encode_history(
    messages: Sequence[Message], tools: EncodedTools = NO_TOOLS, *, model: str = "", carries: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The blocks of the system prompt, and the turns.

    ``carries`` says whether thinking goes back; only that of the same ``model`` does.
    """
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    ids = _Ids()
    for message in messages:
        if message.role == "system":
            system += _text_blocks(message.text)
            continue
        role = "assistant" if message.role == "assistant" else "user"
        _append(turns, role, _blocks(message, tools, ids, model if carries else None))
    for turn in turns:
        if turn["role"] == "user":
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    if turns and turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": _text_blocks(BEFORE)})
    if turns and turns[-1]["role"] == "assistant":
        _trim(turns[-1]["content"])
    return system, turns


def _append(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _trim(blocks: list[dict[str, Any]]) -> None:
    """The API refuses white space at the end of a reply that is to be continued."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()


def _text_blocks(text: str) -> list[dict[str, Any]]:
    """The text as blocks; none for white space alone, which the API refuses."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _blocks(message: Message, tools: EncodedTools, ids: _Ids, model: str | None) -> list[dict[str, Any]]:
    if message.role == "assistant":
        return list(_reply(message, tools, ids, model))
    if message.role == "tool":
        return [_result(message, ids)]
    return _parts(message) or _text_blocks(NOTHING)


def _parts(message: Message) -> list[dict[str, Any]]:
    content = message.content
    if isinstance(content, str):
        return _text_blocks(content)
    blocks: list[dict[str, Any]] = []
    for part in content:
        blocks += [_image(part)] if isinstance(part, ImagePart) else _text_blocks(part.text)
    return blocks


def _image(part: ImagePart) -> dict[str, Any]:
    if part.data is not None:
        data = base64.b64encode(part.data).decode("ascii")
        return {"type": "image", "source": _base64(part.media_type, data)}
    url = part.url or ""
    found = _DATA_URL.fullmatch(url)
    if found is not None:
        return {"type": "image", "source": _base64(found[1], found[2])}
    return {"type": "image", "source": {"type": "url", "url": url}}


def _base64(media_type: str, data: str) -> dict[str, str]:
    return {"type": "base64", "media_type": media_type, "data": data}


def _result(message: Message, ids: _Ids) -> dict[str, Any]:
    block: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": ids.of_result(message.tool_call_id or ""),
    }
    if content := _parts(message):
        block["content"] = message.text if isinstance(message.content, str) else content
    if _ERROR.match(message.text):
        block["is_error"] = True
    return block


# ── replies ──────────────────────────────────────────────────────────────────────────────


def _reply(message: Message, tools: EncodedTools, ids: _Ids, model: str | None) -> Iterator[dict[str, Any]]:
    """A reply as the blocks it was made of, in their order where it is known and still fits."""
    ids.next_reply()
    calls = [_call(call, tools, ids) for call in message.tool_calls]
    text = message.text
    remaining, start = iter(calls), 0
    for entry in _order(message, model):
        if entry["type"] == "text":
            end = start + entry["characters"]
            yield from _text_blocks(text[start:end])
            start = end
        elif entry["type"] == "tool_use":
            yield next(remaining)
        else:
            yield {key: value for key, value in entry.items() if key != "cache_control"}


def _order(message: Message, model: str | None) -> list[dict[str, Any]]:
    """What stands where in a reply; text, then calls, after its thinking where the message was edited.

    Thinking that leads to nothing any more stays away: a reply may not end with it.
    """
    entries = _entries(message, model)
    said = [entry["characters"] for entry in entries if entry["type"] == "text"]
    asked = [entry["id"] for entry in entries if entry["type"] == "tool_use"]
    if sum(said) != len(message.text) or asked != [call.id for call in message.tool_calls]:
        thought = [entry for entry in entries if entry["type"] in THINKING]
        calls = ({"type": "tool_use"} for _ in message.tool_calls)
        entries = [*thought, {"type": "text", "characters": len(message.text)}, *calls]
    while entries and entries[-1]["type"] in THINKING:
        entries.pop()
    if not message.text.strip() and not message.tool_calls:
        return []
    return entries


def _entries(message: Message, model: str | None) -> list[dict[str, Any]]:
    """What the decoder kept of the reply; nothing where it is another model's or not in its form."""
    kept = message.provider_data.get(NAMESPACE)
    if not isinstance(kept, Mapping) or model is None or kept.get("model") != model:
        return []
    content = kept.get("content")
    entries = content if isinstance(content, list) else []
    entries = [dict(entry) for entry in entries if isinstance(entry, Mapping)]
    return [entry for entry in entries if _is_entry(entry)]


def _is_entry(entry: Mapping[str, Any]) -> bool:
    kind = entry.get("type")
    if kind == "text":
        characters = entry.get("characters")
        return isinstance(characters, int) and characters >= 0
    if kind == "tool_use":
        return isinstance(entry.get("id"), str)
    if kind == "thinking":
        return isinstance(entry.get("thinking"), str) and bool(entry.get("signature"))
    return kind == "redacted_thinking" and isinstance(entry.get("data"), str)


def _call(call: ToolCall, tools: EncodedTools, ids: _Ids) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": ids.of_call(call.id),
        "name": tools.wire_name(call.name),
        "input": _input(call),
    }


def _input(call: ToolCall) -> Any:
    """The arguments in the model's own text; of text that was no object, an object that shows it."""
    try:
        value = json.loads(call.arguments_json or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {"INVALID_JSON": call.arguments_json}
    if isinstance(value, dict):
        return RawObject(call.arguments_json) if call.arguments_json else {}
    return {"INVALID_JSON": call.arguments_json} if call.error else call.arguments


def _refuse(constant: str) -> None:
    """Python reads NaN and the infinities, which no JSON has and the API refuses."""
    raise ValueError(f"{constant} is no JSON")


def lacks_thinking(messages: Sequence[Message], model: str) -> bool:
    """Whether tools have run in the present turn that were asked for without thinking of ``model``.

    The API refuses to go on thinking by a budget in such a turn, as when another provider began it.
    """
    for message in reversed(messages):
        if message.role == "user":
            return False
        if message.role == "assistant" and message.tool_calls:
            entries = _entries(message, model)
            if not entries or entries[0]["type"] not in THINKING:
                return True
    return False
