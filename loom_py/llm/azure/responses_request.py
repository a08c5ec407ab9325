"""Requests of the Responses API: our messages as its input items.

Conversations are stateless: nothing is stored at the service, and the model's encrypted reasoning
travels with the messages, in ``Message.provider_data`` under `NAMESPACE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from loom_py.errors import ConfigError
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.llm.azure.wire import string_or_empty
from loom_py.llm.profiles import UNKNOWN_PROFILE, ModelProfile
from loom_py.messages import ImagePart, Message, ToolCall
from loom_py.options import ChatOptions

__all__ = ["CARRIED", "NAMESPACE", "encode_responses_request"]

NAMESPACE = "azure_responses"
"""The key of ``provider_data`` under which a reply's reasoning and the order of its items are kept."""

CARRIED = frozenset({"reasoning", "compaction"})
"""Items only the model can read; they go back in the next turn, encrypted."""

_ENCRYPTED = "reasoning.encrypted_content"


def encode_responses_request(
    messages: Sequence[Message],
    tools: EncodedTools = NO_TOOLS,
    options: ChatOptions | None = None,
    *,
    deployment: str,
    profile: ModelProfile = UNKNOWN_PROFILE,
    stream: bool = False,
    carry_reasoning: bool = True,
) -> dict[str, Any]:
    """The JSON body that asks ``deployment`` for the next message.

    System messages at the start become ``instructions``; later ones stay where they are, and so do
    all where there is nothing else to answer. Sampling parameters are left out for reasoning
    models, which refuse them; ``seed`` is left out always, the API has none. Reasoning is asked
    for, and sent back, where the model reasons, or may as far as is known. With
    ``carry_reasoning=False`` the earlier turns' reasoning stays behind, as it must for a
    deployment that cannot decrypt it.

    Raises `ConfigError` for ``stop``, which the API does not have.
    """
    options = options or ChatOptions()
    if options.stop:
        raise ConfigError(
            "the Responses API has no stop sequences",
            field="stop",
            hint="Leave stop out, or use chat completions.",
        )
    carries = carry_reasoning and (profile.reasoning or profile == UNKNOWN_PROFILE)
    system = list(takewhile(lambda message: message.role == "system", messages))
    rest = messages[len(system) :]
    body: dict[str, Any] = {"model": deployment, "store": False}
    if instructions := "\n\n".join(message.text for message in system if message.text and rest):
        body["instructions"] = instructions
    body["input"] = [item for message in rest or system for item in _input_items(message, tools, carries)]
    if profile.reasoning or (carries and any(map(_has_reasoning, messages))):
        body["include"] = [_ENCRYPTED]
    if tools.definitions:
        body["tools"] = [_flat(definition) for definition in tools.definitions]
        body["tool_choice"] = _tool_choice(options.tool_choice or "auto", tools)
        if options.parallel_tool_calls is not None and profile.parallel_tools:
            body["parallel_tool_calls"] = options.parallel_tool_calls
    body.update(_settings(options, profile))
    if stream:
        body["stream"] = True
    body.update(options.extra_body)
    return body


def _settings(options: ChatOptions, profile: ModelProfile) -> dict[str, Any]:
    effort = options.reasoning_effort
    settings: dict[str, Any] = {
        "max_output_tokens": options.max_tokens,
        "reasoning": None if effort is None else {"effort": effort},
        "text": _text_settings(options) or None,
        "prompt_cache_key": getattr(options, "prompt_cache_key", None),
        "user": options.user,
    }
    if not profile.reasoning:
        settings |= {"temperature": options.temperature, "top_p": options.top_p}
    return {key: value for key, value in settings.items() if value is not None}


def _text_settings(options: ChatOptions) -> dict[str, Any]:
    """Verbosity and format of the text; a chat completion's JSON schema is one level flatter here."""
    settings: dict[str, Any] = {}
    if (verbosity := getattr(options, "verbosity", None)) is not None:
        settings["verbosity"] = verbosity
    wanted = getattr(options, "response_format", None)
    if isinstance(wanted, Mapping):
        schema = wanted.get("json_schema")
        inside = schema if isinstance(schema, Mapping) else {}
        settings["format"] = {key: value for key, value in wanted.items() if key != "json_schema"} | {
            **inside
        }
    return settings


def _flat(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in this API's form. ``strict`` is always said: left out, the service assumes it."""
    function = definition["function"]
    return {"type": "function", **function, "strict": function.get("strict", False)}


def _tool_choice(choice: str, tools: EncodedTools) -> Any:
    if choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "name": tools.wire_name(choice)}


def _input_items(message: Message, tools: EncodedTools, carries: bool) -> list[dict[str, Any]]:
    if message.role == "assistant":
        return _assistant_items(message, tools, carries)
    content = message.content
    encoded = content if isinstance(content, str) else [_part(part) for part in content]
    if message.role == "tool":
        return [{"type": "function_call_output", "call_id": message.tool_call_id or "", "output": encoded}]
    return [{"role": message.role, "content": message.text if message.role == "system" else encoded}]


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"type": "input_image", "image_url": part.source, "detail": part.detail}
    return {"type": "input_text", "text": part.text}


def _assistant_items(message: Message, tools: EncodedTools, carries: bool) -> list[dict[str, Any]]:
    """A reply as the items it was made of, in their order where it is known and still fits."""
    text = message.text
    calls = [_call_item(call, tools) for call in message.tool_calls]
    entries = _entries(message)
    said = [entry["characters"] for entry in entries if entry["type"] == "message"]
    asked = [entry["call_id"] for entry in entries if entry["type"] == "function_call"]
    if sum(said) != len(text) or asked != [call.id for call in message.tool_calls]:
        reasoning = [entry for entry in entries if entry["type"] in CARRIED]  # the message was edited
        spoken = {"type": "message", "characters": len(text)}
        entries = [*reasoning, spoken, *({"type": "function_call"} for _ in calls)]
    items: list[dict[str, Any]] = []
    remaining, start = iter(calls), 0
    for entry in entries:
        if entry["type"] == "message":
            end = start + entry["characters"]
            if end > start:
                items.append(_said(text[start:end], entry.get("phase")))
            start = end
        elif entry["type"] == "function_call":
            items.append(next(remaining))
        elif carries and (item := _reasoning_item(entry)):
            items.append(item)
    while items and items[-1].get("type") in CARRIED:  # the service wants to see what it led to
        items.pop()
    return items


def _said(text: str, phase: Any) -> dict[str, Any]:
    item: dict[str, Any] = {"role": "assistant", "content": [{"type": "output_text", "text": text}]}
    if isinstance(phase, str):
        item["phase"] = phase
    return item


def _call_item(call: ToolCall, tools: EncodedTools) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": tools.wire_name(call.name),
        "arguments": call.arguments_json or "{}",
    }


def _reasoning_item(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """A reasoning item as it goes back; ``None`` for one that cannot.

    Items go without their ids: the service would look those up among the responses it stored, and
    it stored none. Without encrypted content nothing is left to send.
    """
    encrypted = item.get("encrypted_content")
    if not isinstance(encrypted, str) or not encrypted:
        return None
    sent: dict[str, Any] = {"type": item["type"], "encrypted_content": encrypted}
    if item["type"] == "reasoning":
        summary = item.get("summary")
        sent["summary"] = summary if isinstance(summary, list) else []
    return sent


def _entries(message: Message) -> list[dict[str, Any]]:
    """What `_provider_data` kept of the reply; nothing where that is not in its form."""
    kept = message.provider_data.get(NAMESPACE)
    output = kept.get("output") if isinstance(kept, Mapping) else None
    entries = (
        [dict(entry) for entry in output if isinstance(entry, Mapping)] if isinstance(output, list) else []
    )
    return [entry for entry in entries if _is_entry(entry)]


def _is_entry(entry: Mapping[str, Any]) -> bool:
    kind = string_or_empty(entry.get("type"))
    if kind == "message":
        characters = entry.get("characters")
        return isinstance(characters, int) and characters >= 0
    return kind in CARRIED or (kind == "function_call" and isinstance(entry.get("call_id"), str))


def _has_reasoning(message: Message) -> bool:
    return any(entry["type"] in CARRIED for entry in _entries(message))
