"""Tokens before a call is made, and for models that do not count them.

Three questions, three answers: about how much a call uses (`estimate_usage`), what a quota counts when
the call arrives (`estimate_tokens`), and what its input may cost at the very most (`worst_input_tokens`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from loom_py.messages import ContentPart, ImagePart, Message, TextPart, TokenUsage, ToolCall, ToolSpec

__all__ = ["CHARACTERS_PER_TOKEN", "Count", "estimate_tokens", "estimate_usage", "worst_input_tokens"]

Count: TypeAlias = Callable[[str], int]
"""How many tokens a text has, exactly: see `loom_py.llm.tokenizers.exact_counter`."""

CHARACTERS_PER_TOKEN = 4
"""The usual rule of thumb for English text; an estimate, and marked as one."""

IMAGE_TOKENS = 85
"""What OpenAI bills for an image at low detail."""

TYPICAL_IMAGE_TOKENS = 765
"""An image of 1024 × 1024 at high detail with GPT-4o: 85, and 170 for each of four tiles."""

FORMAT_TOKENS = 4
"""What the chat format adds to a message in an exact estimate: its marks and its role."""


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _message_tokens(message: Message) -> int:
    parts = () if isinstance(message.content, str) else message.content
    images = sum(isinstance(part, ImagePart) for part in parts)
    calls = sum(_tokens(call.name + call.arguments_json) for call in message.tool_calls)
    return _tokens(message.text) + IMAGE_TOKENS * images + calls


def _tool_tokens(tool: ToolSpec) -> int:
    schema = ""
    with suppress(TypeError, ValueError):  # a test may pass a schema that is not JSON
        schema = json.dumps(dict(tool.parameters))
    return _tokens(tool.name + tool.description + schema)


def estimate_usage(messages: Sequence[Message], tools: Sequence[ToolSpec], answer: Message) -> TokenUsage:
    """About how many tokens this call would take: a quarter of its characters."""
    asked = sum(map(_message_tokens, messages)) + sum(map(_tool_tokens, tools))
    return TokenUsage(max(1, asked), max(1, _message_tokens(answer)))


# ── tools, whose schemas are written down once ───────────────────────────────────────────

_MOST_TOOLS = 4096
_tool_texts: dict[int, tuple[ToolSpec, str, int]] = {}


def _tool_text(tool: ToolSpec) -> tuple[ToolSpec, str, int]:
    """The tool, what a model reads of it at most, and the bytes of that.

    Kept by identity, for a specification is frozen, and neither hashable nor weakly referable.
    """
    known = _tool_texts.get(id(tool))
    if known is None:
        text = f"{tool.name}\n{tool.description}\n{_json(tool.parameters)}"
        known = (tool, text, _bytes(text))
        if len(_tool_texts) >= _MOST_TOOLS:
            _tool_texts.clear()
        _tool_texts[id(tool)] = known
    return known


def _json(schema: Mapping[str, Any]) -> str:
    return json.dumps(dict(schema), ensure_ascii=False, default=str)


def _bytes(text: str) -> int:
    """Bytes in UTF-8; half a surrogate pair counts as the three of a replacement character."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


# ── what a quota counts ──────────────────────────────────────────────────────────────────


def estimate_tokens(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    max_tokens: int | None,
    *,
    count: Count | None = None,
) -> int:
    """The tokens that Azure OpenAI counts against a quota when the request arrives.

    That is the prompt by its characters, a quarter each, and ``max_tokens``, the most tokens of the
    reply (``None`` counts nothing, as there). Source: "Manage Azure OpenAI quota" in Microsoft's
    documentation, which does not say whether tools and images are included; here they are. With
    ``count`` the text counts its exact tokens instead, for an endpoint that counts so.
    """
    if count is not None:
        return _counted(messages, tools, count) + (max_tokens or 0)
    characters = images = 0
    for message in messages:
        content = message.content
        if type(content) is str:
            characters += len(content)
        else:
            text, seen = _characters_and_images(message)
            characters += text
            images += seen
        if message.tool_calls:
            for call in message.tool_calls:
                characters += len(call.name) + (len(call.arguments_json) or 2)
    for message in messages:
        if message.role != "system":
            break
        characters += 2  # where they are joined to one text of instructions, an empty line stands between
    for tool in tools:
        characters += len(_tool_text(tool)[1])
    return -(-characters // CHARACTERS_PER_TOKEN) + images + (max_tokens or 0)


_SHOWN = "What the tool  returned for the call :"
"""The line over a tool's images, without the tool's name and the call's id."""


def _characters_and_images(message: Message) -> tuple[int, int]:
    """The characters of a message's text parts, and the tokens of its images."""
    characters = images = 0
    for part in message.content:
        if isinstance(part, TextPart):
            characters += len(part.text)
        elif isinstance(part, ImagePart):
            images += IMAGE_TOKENS if part.detail == "low" else TYPICAL_IMAGE_TOKENS
    if message.role == "tool":  # images travel in a message of their own, and are announced twice
        characters += 2 * len(_SHOWN) + len(repr(message.name)) + len(message.tool_call_id or "")
    return characters, images


def _counted(messages: Sequence[Message], tools: Sequence[ToolSpec], count: Count) -> int:
    total = sum(count(_tool_text(tool)[1]) for tool in tools)
    for message in messages:
        total += FORMAT_TOKENS + count(message.text)
        for call in message.tool_calls:
            total += FORMAT_TOKENS + count(call.name) + count(call.arguments_json)
        if type(message.content) is not str:
            total += _characters_and_images(message)[1]
    return total


# ── what a call may cost at most ─────────────────────────────────────────────────────────

CALL_OVERHEAD = 16
"""The beginning of the reply and what the service puts before the messages; 3 to 10 were seen."""

MESSAGE_OVERHEAD = 16
"""The marks around a message, its role, channel and recipient: 3 to 5, or 11 in the newer format."""

TOOLS_OVERHEAD = 256
"""The frame around all tools and the text on calling several at once."""

TOOL_OVERHEAD = 32
"""The frame around one tool: 7 to 12 were seen. Its schema is written shorter than its JSON."""

LOW_DETAIL = 3779
"""An image at low detail: 2,833 tokens with GPT-4o mini, and no more than 1,536 patches at 2.46 elsewhere."""

HIGH_DETAIL = 48_169
"""The dearest family, GPT-4o mini: 2,833, and 5,667 for each of at most eight tiles of 512 × 512."""

TILES_DETAIL = 1445
"""GPT-4o, GPT-4.1, o1 and o3: at most 85, and 170 for each of at most eight tiles."""

_TILES = ("gpt-4o", "gpt-4.1", "o1", "o3")
_SMALL = ("mini", "nano")


def worst_input_tokens(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    *,
    model: str | None = None,
    response_format: Mapping[str, Any] | None = None,
    count: Count | None = None,
) -> int:
    """An upper bound of the input tokens of one call, to reserve money by.

    A byte-level tokenizer never makes more tokens of a text than it has bytes in UTF-8; what the chat
    format adds is bounded by constants above the figures seen. An image counts what the largest would
    cost with ``model``, or with the dearest family where that is not given (OpenAI's documentation of
    images and vision). ``response_format`` is the API's own object, which a model reads too. With
    ``count`` the text counts its exact tokens; names, ids and formatting stay bounded.
    """
    size = count or _bytes
    total = CALL_OVERHEAD + MESSAGE_OVERHEAD * len(messages)
    for message in messages:
        content = message.content
        if isinstance(content, str):
            total += size(content)
        else:
            image = _image_bound(model)
            total += sum(_part_bound(part, image, size) for part in content)
            total += MESSAGE_OVERHEAD + 2 * len(_SHOWN)  # for a tool's images, in a message of their own
        if message.name:
            total += 2 * _bytes(message.name)
        if message.tool_call_id:
            total += 2 * _bytes(message.tool_call_id)
        for call in message.tool_calls:
            total += _call_bound(call, size)
        if message.provider_data:
            total += _data_bound(message.provider_data)
    if tools:
        total += TOOLS_OVERHEAD + TOOL_OVERHEAD * len(tools)
        for tool in tools:
            _, text, length = _tool_text(tool)
            total += length if count is None else count(text)
    if response_format is not None:
        total += TOOLS_OVERHEAD + size(_json(response_format))
    return total


def _image_bound(model: str | None) -> int:
    name = (model or "").lower()
    is_tiled = name.startswith(_TILES) and not any(word in name for word in _SMALL)
    return TILES_DETAIL if is_tiled else HIGH_DETAIL


def _part_bound(part: ContentPart, image: int, size: Count) -> int:
    if isinstance(part, TextPart):
        return size(part.text)
    return min(image, LOW_DETAIL) if part.detail == "low" else image


def _call_bound(call: ToolCall, size: Count) -> int:
    return MESSAGE_OVERHEAD + _bytes(call.id) + _bytes(call.name) + size(call.arguments_json or "{}")


def _data_bound(data: Any) -> int:
    """What earlier reasoning may cost when it is sent again: the bytes of every text in it."""
    if isinstance(data, str):
        return _bytes(data)
    if isinstance(data, Mapping):
        return sum(_bytes(str(key)) + _data_bound(value) for key, value in data.items())
    if isinstance(data, (list, tuple)):
        return sum(map(_data_bound, data))
    return CALL_OVERHEAD
