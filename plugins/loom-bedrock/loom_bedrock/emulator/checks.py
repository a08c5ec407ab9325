"""What Converse demands of a conversation beyond its shape, in the words it refuses it with.

The words are those the service is reported to use, in public issue threads of its clients.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from loom_bedrock.emulator.exceptions import BedrockException
from loom_bedrock.models import parse_model_id

__all__ = ["check_conversation"]

_CLAUDE_ID = re.compile(r"[a-zA-Z0-9_-]+")


def check_conversation(model: str, body: Mapping[str, Any]) -> None:
    """Raises the ``ValidationException`` the service answers with, for the first thing it dislikes."""
    for problem in _problems(model, body):
        raise BedrockException("ValidationException", problem)


def _problems(model: str, body: Mapping[str, Any]) -> Iterator[str]:
    messages = body.get("messages") or []
    yield from _turns(messages)
    for place, message in enumerate(messages):
        yield from _blocks(message["content"], f"messages.{place}")
    yield from _tools(body, messages)
    yield from _results(messages)
    if parse_model_id(model).vendor == "anthropic":
        yield from _claude(messages)


def _turns(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not messages or messages[0]["role"] != "user":
        yield (
            "A conversation must start with a user message. Try again with a conversation that starts with"
            " a user message."
        )
    for before, after in pairwise(messages):
        if before["role"] == after["role"]:
            yield (
                "A conversation must alternate between user and assistant roles. Make sure the conversation"
                " alternates between user and assistant roles and try again."
            )


def _blocks(content: Sequence[Mapping[str, Any]], path: str) -> Iterator[str]:
    if not content:
        yield (
            f"The content field in the Message object at {path} is empty. Add a ContentBlock object to the"
            " content field and try again."
        )
    for place, block in enumerate(content):
        where = f"{path}.content.{place}"
        if "text" in block and not block["text"].strip():
            yield (
                f"The text field in the ContentBlock object at {where} is blank. Add text to the text field,"
                " and try again."
            )
        if "toolUse" in block and not isinstance(block["toolUse"]["input"], dict):
            yield (
                f"The format of the value at {where}.toolUse.input is invalid. Provide a json object for the"
                " field and try again."
            )
        result = block.get("toolResult")
        if result is not None and result.get("status") == "error" and not result["content"]:
            yield f"The content field at {where}.toolResult cannot be empty when status value is error."
        if result is not None and any(
            not part["text"].strip() for part in result["content"] if "text" in part
        ):
            yield f"The text field in the toolResult at {where} is blank. Add text to the text field."


def _tools(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    used = any(
        "toolUse" in block or "toolResult" in block for message in messages for block in message["content"]
    )
    config = body.get("toolConfig")
    if config is None:
        if used:
            yield "The toolConfig field must be defined when using toolUse and toolResult content blocks."
        return
    specs = [tool["toolSpec"] for tool in config["tools"] if "toolSpec" in tool]
    names = [spec["name"] for spec in specs]
    for name in names:
        if names.count(name) > 1:
            yield f"The tool {name} is already defined at toolConfig.tools.{names.index(name)}."
    for place, spec in enumerate(specs):
        schema = spec["inputSchema"].get("json")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            yield (
                f"The value at toolConfig.tools.{place}.toolSpec.inputSchema.json.type must be one of the"
                " following: object."
            )
    chosen = config.get("toolChoice", {}).get("tool", {}).get("name")
    if chosen is not None and chosen not in names:
        yield f"The tool {chosen} at toolConfig.toolChoice.tool.name is not defined in toolConfig.tools."


def _results(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each call needs its result in the very next message, and no result comes without a call."""
    asked: list[str] = []
    for place, message in enumerate(messages):
        content = message["content"]
        answered = [block["toolResult"]["toolUseId"] for block in content if "toolResult" in block]
        if missing := [one for one in asked if one not in answered]:
            yield _expected(place, missing)
        if len(answered) > len(asked):
            yield (
                f"The number of toolResult blocks at messages.{place}.content exceeds the number of toolUse"
                " blocks of previous turn."
            )
        asked = [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
    if asked:
        yield _expected(len(messages), asked)


def _expected(place: int, ids: Sequence[str]) -> str:
    return f"Expected toolResult blocks at messages.{place}.content for the following Ids: {', '.join(ids)}"


def _claude(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    seen: set[str] = set()
    for place, message in enumerate(messages):
        for block in message["content"]:
            call_id = block.get("toolUse", {}).get("toolUseId")
            if call_id in seen:
                yield (
                    f"The model returned the following errors: messages.{place}.content: `tool_use` ids must"
                    " be unique"
                )
            if call_id is not None:
                seen.add(call_id)
            if call_id is not None and not _CLAUDE_ID.fullmatch(call_id):
                yield (
                    f"The model returned the following errors: messages.{place}.content.tool_use.id: String"
                    " should match pattern '^[a-zA-Z0-9_-]+$'"
                )
