"""A request as an engine reads it: messages, tools and options."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from loom_py.content import ContentPart, ImagePart, TextPart
from loom_py.messages import Message, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["read_messages", "read_options", "read_tools"]


def read_messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    """The conversation of a Converse request; cache points and reasoning are nothing to an engine."""
    system = [Message.system(block["text"]) for block in body.get("system") or () if "text" in block]
    names: dict[str, str] = {}
    found: list[Message] = []
    for message in body["messages"]:
        if message["role"] == "assistant":
            found.append(_assistant(message["content"], names))
        else:
            found += _user(message["content"], names)
    return (*system, *found)


def _assistant(content: list[dict[str, Any]], names: dict[str, str]) -> Message:
    text = "".join(block.get("text", "") for block in content)
    calls = []
    for block in content:
        if (use := block.get("toolUse")) is not None:
            names[use["toolUseId"]] = use["name"]
            arguments = json.dumps(use["input"], ensure_ascii=False)
            calls.append(ToolCall.parse(use["toolUseId"], use["name"], arguments))
    return Message.assistant(text, calls)


def _user(content: list[dict[str, Any]], names: Mapping[str, str]) -> Iterator[Message]:
    for block in content:
        if (result := block.get("toolResult")) is not None:
            call_id = result["toolUseId"]
            yield Message.tool(_simple(result["content"]), call_id, names.get(call_id))
    rest = [block for block in content if "text" in block or "image" in block]
    if rest:
        yield Message.user(_simple(rest))


def _simple(content: list[dict[str, Any]]) -> str | tuple[ContentPart, ...]:
    """One text as it is, several blocks as parts."""
    parts = tuple(_part(block) for block in content if {"text", "image", "json"} & set(block))
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    return parts


def _part(block: Mapping[str, Any]) -> ContentPart:
    if "image" in block:
        image = block["image"]
        data = base64.b64decode(image["source"]["bytes"])
        return ImagePart(data=data, media_type=f"image/{image['format']}")
    if "json" in block:
        return TextPart(json.dumps(block["json"], ensure_ascii=False))
    return TextPart(block["text"])


def read_tools(body: Mapping[str, Any]) -> tuple[ToolSpec, ...]:
    """The tools a request offers."""
    entries = (body.get("toolConfig") or {}).get("tools", ())
    specs = (entry["toolSpec"] for entry in entries if "toolSpec" in entry)
    return tuple(
        ToolSpec(spec["name"], spec.get("description", ""), spec["inputSchema"]["json"]) for spec in specs
    )


def read_options(body: Mapping[str, Any]) -> ChatOptions:
    """The settings of a request."""
    inference = body.get("inferenceConfig") or {}
    choice = (body.get("toolConfig") or {}).get("toolChoice") or {}
    kind = next(iter(choice), None)
    chosen = choice["tool"]["name"] if kind == "tool" else {"any": "required", None: None}.get(kind, kind)
    return ChatOptions(
        temperature=inference.get("temperature"),
        max_tokens=inference.get("maxTokens"),
        top_p=inference.get("topP"),
        stop=inference.get("stopSequences"),
        tool_choice=chosen,
        response_format=_format((body.get("outputConfig") or {}).get("textFormat")),
        extra_body=body.get("additionalModelRequestFields") or {},
    )


def _format(text_format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if text_format is None:
        return None
    told = text_format["structure"]["jsonSchema"]
    schema = {**told, "schema": json.loads(told["schema"])}
    return {"type": "json_schema", "json_schema": schema}
