"""Messages as Bedrock's content blocks: strictly alternating, nothing blank, reasoning where it belongs."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from loom_bedrock.names import CallIds, ToolNames
from loom_py.content import ContentPart, ImagePart, TextPart
from loom_py.errors import InvalidRequestError
from loom_py.messages import Message, ToolCall

__all__ = ["NAMESPACE", "encode_messages", "pack_reasoning", "unpack_reasoning"]

NAMESPACE = "bedrock"
"""The key of ``provider_data`` under which a reply's reasoning and the order of its blocks are kept."""

INVALID_JSON = "INVALID_JSON"
"""The key under which arguments that were no JSON object go back: a tool's input must be one."""

NO_OUTPUT = "(no output)"
"""What stands for the result of a tool that said nothing: a blank text is refused."""

NO_TEXT = "(no text)"
"""What stands for a message of the user's that says nothing."""

BEFORE = "(The conversation begins with the assistant.)"
"""The first turn of a conversation that would begin with the assistant's, which Bedrock refuses."""

_FORMATS = {f"image/{kind}": kind for kind in ("png", "jpeg", "gif", "webp")} | {"image/jpg": "jpeg"}
_DATA_URL = re.compile(r"data:(?P<type>[^;,]+)(?:;[^;,]+)*;base64,(?P<data>.*)", re.DOTALL)
_FAILED = re.compile(r"Error \(\w+\): ")
"""How an agent tells the model that a tool failed."""

Block = dict[str, Any]


def encode_messages(
    messages: Sequence[Message], names: ToolNames, *, model: str, strict_ids: bool
) -> tuple[list[Block], list[Block]]:
    """The ``system`` blocks and the ``messages`` of a request.

    Instructions go to ``system`` wherever they stand. Neighbours of one role become one message, the
    results of tools go into the user's, first, and blank texts are left out, as Bedrock refuses them.
    Raises `InvalidRequestError` for an image that is not sent along, and where there is nothing to answer.
    """
    instructions = (message.text for message in messages if message.role == "system")
    system: list[Block] = [{"text": text} for text in instructions if text.strip()]
    turns = _turns(messages, names, model, CallIds(strict=strict_ids))
    if not turns:
        raise InvalidRequestError(
            "there is no message to answer", param="messages", hint="Add one of the user's.", sent=False
        )
    if turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [{"text": BEFORE}]})
    if turns[-1]["role"] == "assistant":
        _trim(turns[-1]["content"])
    return system, turns


def _turns(messages: Sequence[Message], names: ToolNames, model: str, ids: CallIds) -> list[Block]:
    turns: list[Block] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = list(_blocks(message, names, model, ids))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks or role == "user":
            turns.append({"role": role, "content": blocks or [{"text": NO_TEXT}]})
    for turn in turns:
        turn["content"].sort(key=_results_first)
    return turns


def _trim(blocks: list[Block]) -> None:
    """Claude refuses white space at the end of a reply that is to be continued."""
    if "text" in blocks[-1]:
        blocks[-1] = {"text": blocks[-1]["text"].rstrip()}


def _results_first(block: Block) -> int:
    return 0 if "toolResult" in block else 1


def _blocks(message: Message, names: ToolNames, model: str, ids: CallIds) -> Iterator[Block]:
    if message.role == "tool":
        yield _result(message, ids)
    elif message.role == "assistant":
        yield from _assistant(message, names, model, ids)
    else:
        yield from _content(message.content)


def _content(content: str | Iterable[ContentPart]) -> Iterator[Block]:
    for part in (TextPart(content),) if isinstance(content, str) else content:
        if isinstance(part, ImagePart):
            yield {"image": _image(part)}
        elif part.text.strip():
            yield {"text": part.text}


def _result(message: Message, ids: CallIds) -> Block:
    content = list(_content(message.content)) or [{"text": NO_OUTPUT}]
    result: Block = {"toolUseId": ids.of_result(message.tool_call_id or ""), "content": content}
    if _FAILED.match(message.text):
        result["status"] = "error"
    return {"toolResult": result}


def _assistant(message: Message, names: ToolNames, model: str, ids: CallIds) -> Iterator[Block]:
    ids.next_reply()
    calls = [_call(call, names, ids) for call in message.tool_calls]
    kept = unpack_reasoning(message, model)
    if kept is not None:
        for block in kept:
            yield calls[block["call"]] if "call" in block else block
        return
    yield from _content(message.content)
    yield from calls


def _call(call: ToolCall, names: ToolNames, ids: CallIds) -> Block:
    input_ = _finite(call.arguments) if call.error is None else {INVALID_JSON: call.arguments_json}
    return {
        "toolUse": {
            "toolUseId": ids.of_call(call.id),
            "name": names.to_wire(call.name),
            "input": input_,
        }
    }


def _finite(value: Any) -> Any:
    """``value`` with nulls for NaN and the infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ── images ───────────────────────────────────────────────────────────────────────────────


def _image(part: ImagePart) -> Block:
    media_type, data = (part.media_type, part.data) if part.data is not None else _from_url(part.url or "")
    kind = _FORMATS.get(media_type.lower())
    if kind is None:
        raise InvalidRequestError(
            f"Bedrock reads no images of type {media_type!r}",
            param="messages",
            hint="Use PNG, JPEG, GIF or WebP.",
            sent=False,
        )
    return {"format": kind, "source": {"bytes": data}}


def _from_url(url: str) -> tuple[str, bytes]:
    """The type and the bytes of a ``data:`` URL; Bedrock fetches no other."""
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise InvalidRequestError(
            "Bedrock does not fetch images: it takes their bytes, not a URL",
            param="messages",
            hint="Load the image and use ImagePart.from_bytes or ImagePart.from_path.",
            sent=False,
        )
    try:
        return match["type"], base64.b64decode(match["data"], validate=True)
    except binascii.Error:
        raise InvalidRequestError(
            "the data: URL of an image is not base64", param="messages", sent=False
        ) from None


# ── reasoning ────────────────────────────────────────────────────────────────────────────


def pack_reasoning(model: str, blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ``provider_data`` of a reply with these content blocks; empty where the model did not reason.

    Models that reason want it back unchanged, with its signature and in its place, when the results of
    their tool calls arrive. Kept is the order of all blocks: reasoning in full, texts by their lengths,
    calls by their numbers.
    """
    if not any("reasoningContent" in block for block in blocks):
        return {}
    kept: list[dict[str, Any]] = []
    calls = 0
    for block in blocks:
        if "reasoningContent" in block:
            kept.append({"reasoning": _packed(block["reasoningContent"])})
        elif "text" in block:
            kept.append({"text": len(block["text"])})
        elif "toolUse" in block:
            kept.append({"call": calls})
            calls += 1
    return {NAMESPACE: {"model": model, "blocks": kept}}


def _packed(content: Mapping[str, Any]) -> dict[str, Any]:
    if "redactedContent" in content:
        return {"redacted": base64.b64encode(content["redactedContent"]).decode("ascii")}
    return dict(content.get("reasoningText", {}))


def unpack_reasoning(message: Message, model: str) -> list[Block] | None:
    """The content blocks of a reply of ``model`` with its reasoning, in their order; calls as numbers.

    ``None`` where it did not reason, another model did, or the message is no longer what it said: a
    signature holds for its own model alone.
    """
    kept = message.provider_data.get(NAMESPACE)
    if not isinstance(kept, Mapping) or kept.get("model") != model or not isinstance(message.content, str):
        return None
    try:
        return list(_unpacked(kept["blocks"], message.content, len(message.tool_calls)))
    except (KeyError, TypeError, ValueError):
        return None


def _unpacked(kept: Sequence[Mapping[str, Any]], text: str, calls: int) -> Iterator[Block]:
    lengths = sum(block.get("text", 0) for block in kept)
    numbers = [block["call"] for block in kept if "call" in block]
    if lengths != len(text) or numbers != list(range(calls)):
        raise ValueError("the message was changed")
    start = 0
    for block in kept:
        if "reasoning" in block:
            yield {"reasoningContent": _reasoning(block["reasoning"])}
        elif "call" in block:
            yield {"call": block["call"]}
        else:
            piece, start = text[start : start + block["text"]], start + block["text"]
            if piece.strip():
                yield {"text": piece}


def _reasoning(kept: Mapping[str, Any]) -> Block:
    if "redacted" in kept:
        return {"redactedContent": base64.b64decode(kept["redacted"])}
    return {"reasoningText": dict(kept)}
