"""What the service demands of a conversation: its turns, their blocks, and how calls and results pair up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from loom_anthropic.emulator.errors import invalid

__all__ = ["IMAGE_TYPES", "check_messages", "signature_of"]

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,200}")
_BLOCKS = {
    "user": ("text", "image", "document", "tool_result", "search_result"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
}


def signature_of(thinking: str) -> str:
    """The signature by which the emulator knows thinking of its own again."""
    digest = hashlib.sha256(f"loom-anthropic emulator:{thinking}".encode("utf-8", "surrogatepass"))
    return base64.b64encode(digest.digest()).decode("ascii")


def check_messages(messages: Any, *, thinks: bool = False, prefill: bool = True) -> None:
    """Raises `WireError` (400) for a conversation that the service refuses.

    ``thinks`` says that the request has a thinking budget, ``prefill`` that the model continues a reply.
    """
    if messages is None:
        raise invalid("messages: Field required")
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    turns = [_turn(place, message, len(messages)) for place, message in enumerate(messages)]
    if turns[0][0] != "user":
        raise invalid('messages: first message must use the "user" role')
    for (role, _), (following, _) in pairwise(turns):
        if role == following:
            raise invalid(
                'messages: roles must alternate between "user" and "assistant", but found multiple'
                f' "{role}" roles in a row'
            )
    _check_pairs(turns)
    if turns[-1][0] == "assistant":
        _check_prefill(turns[-1][1], prefill)
    if thinks:
        _check_turn_thinks(turns)


def _turn(place: int, message: Any, count: int) -> tuple[str, list[Mapping[str, Any]]]:
    """The role and the blocks of one message."""
    if not isinstance(message, Mapping):
        raise invalid(f"messages.{place}: Input should be a valid dictionary")
    role = message.get("role")
    if role not in _BLOCKS:
        raise invalid(f'messages: Unexpected role "{role}". Allowed roles are "user" or "assistant".')
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list):
        raise invalid(f"messages.{place}.content: Input should be a valid list")
    is_last_reply = role == "assistant" and place == count - 1
    if (not blocks or content == "") and not is_last_reply:
        raise invalid(
            f"messages.{place}: all messages must have non-empty content except for the optional final"
            " assistant message"
        )
    for index, block in enumerate(blocks):
        _check_block(f"messages.{place}.content.{index}", role, block)
    return str(role), blocks


def _check_block(where: str, role: str, block: Any) -> None:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if kind not in _BLOCKS[role]:
        expected = ", ".join(f"'{name}'" for name in _BLOCKS[role])
        raise invalid(f"{where}: Input tag '{kind}' found using 'type' does not match any of: {expected}")
    if kind == "text":
        _check_text(where, block)
    elif kind == "image":
        _check_image(where, block.get("source"))
    elif kind == "tool_use":
        _check_call(where, block)
    elif kind == "thinking":
        _check_thought(where, block)
    elif kind == "tool_result" and isinstance(block.get("content"), list):
        for index, inner in enumerate(block["content"]):
            if not isinstance(inner, Mapping) or inner.get("type") not in ("text", "image"):
                raise invalid(f"{where}.tool_result.content.{index}: Input should be a text or image block")
            _check_block(f"{where}.tool_result.content.{index}", "user", inner)


def _check_text(where: str, block: Mapping[str, Any]) -> None:
    text = block.get("text")
    if not isinstance(text, str):
        raise invalid(f"{where}.text.text: Input should be a valid string")
    if not text:
        raise invalid("messages: text content blocks must be non-empty")
    if not text.strip():
        raise invalid("messages: text content blocks must contain non-whitespace text")


def _check_image(where: str, source: Any) -> None:
    kind = source.get("type") if isinstance(source, Mapping) else None
    if kind == "url":
        if not str(source.get("url", "")).startswith(("https://", "http://")):
            raise invalid(f"{where}.image.source.url: Only HTTPS URLs are supported.")
    elif kind == "base64":
        if source.get("media_type") not in IMAGE_TYPES:
            expected = ", ".join(f"'{name}'" for name in IMAGE_TYPES)
            raise invalid(f"{where}.image.source.base64.media_type: Input should be {expected}")
        try:
            base64.b64decode(source.get("data") or "!", validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"{where}.image.source.base64.data: Invalid base64 data") from None
    else:
        raise invalid(f"{where}.image.source: Input tag '{kind}' does not match 'base64', 'url', 'file'")


def _check_call(where: str, block: Mapping[str, Any]) -> None:
    if not isinstance(block.get("id"), str) or not _ID.fullmatch(block["id"]):
        raise invalid(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not isinstance(block.get("name"), str) or not _NAME.fullmatch(block["name"]):
        raise invalid(f"{where}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,200}}$'")
    if not isinstance(block.get("input"), Mapping):
        raise invalid(f"{where}.tool_use.input: Input should be a valid dictionary")


def _check_thought(where: str, block: Mapping[str, Any]) -> None:
    if not isinstance(block.get("thinking"), str):
        raise invalid(f"{where}.thinking.thinking: Field required")
    if block.get("signature") != signature_of(block["thinking"]):
        raise invalid(f"{where}: Invalid `signature` in `thinking` block")


def _check_pairs(turns: list[tuple[str, list[Mapping[str, Any]]]]) -> None:
    """Every call is answered at the beginning of the next message, and nothing else is."""
    seen: set[str] = set()
    asked: list[str] = []
    for place, (role, blocks) in enumerate(turns):
        results = _leading_results(blocks) if role == "user" else []
        missing = [call_id for call_id in asked if call_id not in results]
        if missing:
            raise invalid(
                f"messages.{place - 1}: `tool_use` ids were found without `tool_result` blocks immediately"
                f" after: {', '.join(missing)}. Each `tool_use` block must have a corresponding"
                " `tool_result` block in the next message."
            )
        for index, block in enumerate(blocks):
            if block.get("type") == "tool_result" and block.get("tool_use_id") not in asked:
                raise invalid(
                    f"messages.{place}.content.{index}: unexpected `tool_use_id` found in `tool_result`"
                    f" blocks: {block.get('tool_use_id')}. Each `tool_result` block must have a"
                    " corresponding `tool_use` block in the previous message."
                )
        if len(set(results)) != len(results):
            raise invalid(f"messages.{place}: each tool_use must have a single result.")
        asked = [str(block["id"]) for block in blocks if block.get("type") == "tool_use"]
        if len({*asked}) != len(asked) or seen & {*asked}:
            raise invalid("messages: `tool_use` ids must be unique")
        seen |= {*asked}
    if asked:
        raise invalid(
            f"messages.{len(turns) - 1}: `tool_use` ids were found without `tool_result` blocks immediately"
            f" after: {', '.join(asked)}."
        )


def _leading_results(blocks: list[Mapping[str, Any]]) -> list[str]:
    """The ids of the results that stand before everything else."""
    found = []
    for block in blocks:
        if block.get("type") != "tool_result":
            break
        found.append(str(block.get("tool_use_id")))
    return found


def _check_prefill(blocks: list[Mapping[str, Any]], prefill: bool) -> None:
    if not prefill:
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user"
            " message."
        )
    text = str(blocks[-1].get("text", "")) if blocks else ""
    if text != text.rstrip():
        raise invalid("messages: final assistant content cannot end with trailing whitespace")


def _check_turn_thinks(turns: list[tuple[str, list[Mapping[str, Any]]]]) -> None:
    """While tools run in a turn with a thinking budget, its replies begin with their thinking."""
    for place in range(len(turns) - 1, -1, -1):
        role, blocks = turns[place]
        if role == "user" and not _leading_results(blocks):
            return
        if role == "assistant" and blocks and blocks[0].get("type") not in ("thinking", "redacted_thinking"):
            raise invalid(
                f"messages.{place}.content.0.type: Expected `thinking` or `redacted_thinking`, but found"
                f" `{blocks[0].get('type')}`. When `thinking` is enabled, a final `assistant` message must"
                " start with a thinking block."
            )
