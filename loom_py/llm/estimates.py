"""Tokens estimated by characters, for models that do not count them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from loom_py.messages import ImagePart, Message, TokenUsage, ToolSpec

__all__ = ["CHARACTERS_PER_TOKEN", "estimate_usage"]

CHARACTERS_PER_TOKEN = 4
"""The usual rule of thumb for English text; an estimate, and marked as one."""

IMAGE_TOKENS = 85
"""What OpenAI bills for an image at low detail."""


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
