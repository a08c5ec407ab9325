"""A request's body in loom_py's nouns, for the model behind the emulator."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from loom_anthropic.history import NAMESPACE, THINKING
from loom_anthropic.raw_json import KeptObject
from loom_py.messages import ContentPart, ImagePart, Message, TextPart, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["MessagesRequest", "decode_request"]


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """A request as the service understands it. What it says of thinking is in ``options.extra_body``."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    options: ChatOptions = field(default_factory=ChatOptions)
    stream: bool = False


def decode_request(body: Mapping[str, Any]) -> MessagesRequest:
    """The request in a ``body`` that was checked before."""
    messages = [Message.system(text) for text in _system(body.get("system"))]
    for message in body["messages"]:
        messages += _messages(message)
    tools = [
        ToolSpec(tool["name"], tool.get("description", ""), tool["input_schema"])
        for tool in body.get("tools") or ()
    ]
    return MessagesRequest(
        body["model"], tuple(messages), tuple(tools), _options(body), body.get("stream", False)
    )


def _system(system: Any) -> list[str]:
    if system is None:
        return []
    return [system] if isinstance(system, str) else [block["text"] for block in system]


def _messages(message: Mapping[str, Any]) -> Iterator[Message]:
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if message["role"] == "assistant":
        yield _reply(blocks)
        return
    rest = []
    for block in blocks:
        if block["type"] == "tool_result":
            yield Message.tool(_content(block.get("content") or ""), block["tool_use_id"])
        else:
            rest.append(block)
    if rest:
        yield Message.user(_content(rest))


def _content(content: Any) -> str | tuple[ContentPart, ...]:
    if isinstance(content, str):
        return content
    parts = tuple(_part(block) for block in content)
    return parts[0].text if len(parts) == 1 and isinstance(parts[0], TextPart) else parts


def _part(block: Mapping[str, Any]) -> ContentPart:
    if block["type"] != "image":
        return TextPart(block.get("text", ""))
    source = block["source"]
    if source["type"] == "url":
        return ImagePart(url=source["url"])
    return ImagePart(data=base64.b64decode(source["data"]), media_type=source["media_type"])


def _reply(blocks: list[Mapping[str, Any]]) -> Message:
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    calls = [
        ToolCall.parse(block["id"], block["name"], _text_of(block["input"]))
        for block in blocks
        if block["type"] == "tool_use"
    ]
    thoughts = [dict(block) for block in blocks if block["type"] in THINKING]
    data = {NAMESPACE: {"content": thoughts}} if thoughts else {}
    return Message("assistant", text, tuple(calls), provider_data=data)


def _text_of(value: Any) -> str:
    return value.text if isinstance(value, KeptObject) else json.dumps(value, ensure_ascii=False)


def _options(body: Mapping[str, Any]) -> ChatOptions:
    choice = body.get("tool_choice") or {}
    words = {"any": "required", "tool": choice.get("name")}
    output = body.get("output_config") or {}
    wanted = output.get("format")
    thinking = body.get("thinking")
    return ChatOptions(
        temperature=body.get("temperature"),
        max_tokens=body["max_tokens"],
        top_p=body.get("top_p"),
        stop=body.get("stop_sequences"),
        tool_choice=words.get(str(choice.get("type")), choice.get("type")),
        parallel_tool_calls=False if choice.get("disable_parallel_tool_use") else None,
        reasoning_effort=output.get("effort"),
        response_format=None
        if wanted is None
        else {"type": "json_schema", "json_schema": {"name": "output", "schema": wanted["schema"]}},
        user=(body.get("metadata") or {}).get("user_id"),
        extra_body={} if thinking is None else {"thinking": thinking},
    )
