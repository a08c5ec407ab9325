"""Chat completions of servers that keep to OpenAI's wire in the main: written plainly, read leniently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loom_openai_compatible.config import OpenAICompatibleConfig
from loom_openai_compatible.lenient import (
    call_of,
    choices_of,
    error_of,
    failure_of,
    finish_reason_of,
    id_of,
    reasoning_of,
    told,
    usage_of,
)
from loom_openai_compatible.stream import LenientAssembler, LenientDecoder
from loom_py.llm.azure.errors import error_from_body
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.llm.azure.surfaces import CHAT
from loom_py.llm.azure.wire import decode_response, decode_usage, encode_request
from loom_py.llm.profiles import ModelProfile
from loom_py.messages import Message, Response
from loom_py.options import ChatOptions

__all__ = ["LENIENT_CHAT", "decode_leniently"]


def _encode(
    messages: Sequence[Message],
    tools: EncodedTools,
    options: ChatOptions,
    *,
    config: OpenAICompatibleConfig,
    profile: ModelProfile,
    stream: bool,
    carry_reasoning: bool,
) -> dict[str, Any]:
    body = encode_request(messages, tools, options, deployment=config.model, profile=profile, stream=stream)
    if not config.usage_in_streams:
        body.pop("stream_options", None)
    for message in body["messages"]:
        if message["content"] is None:  # some chat templates cannot write it
            message["content"] = ""
    return body


def decode_leniently(data: Any, tools: EncodedTools = NO_TOOLS) -> Response:
    """The reply in a whole answer, as `decode_response` reads it once it has OpenAI's form."""
    if (error := error_of(data)) is not None:
        raise error_from_body(error)
    if not isinstance(data, Mapping):
        return decode_response(data, tools)
    data = {**data, "usage": usage_of(data.get("usage"))}
    choice = next(iter(choices_of(data)), None)
    if choice is None:
        return decode_response(data, tools)
    if (failure := failure_of(choice)) is not None:
        failure.tokens_used = decode_usage(data["usage"])
        raise failure
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return decode_response(data, tools)
    calls = _calls(message)
    reason = finish_reason_of(choice.get("finish_reason"), has_calls=bool(calls)) or "stop"
    plain = {**choice, "finish_reason": reason, "message": {**message, "tool_calls": calls}}
    response = decode_response({**data, "choices": [plain]}, tools)
    return told(response, reasoning_of(message), has_usage=data["usage"] is not None)


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls of a message, each with an id of its own; one in the older ``function_call`` among them."""
    given = message.get("tool_calls")
    raw = list(given) if isinstance(given, list) else []
    if not raw and isinstance(message.get("function_call"), Mapping):
        raw = [{"function": message["function_call"]}]
    calls: list[dict[str, Any]] = []
    for one in raw:
        if (call := call_of(one)) is not None:
            calls.append({**call, "id": id_of(call, {known["id"] for known in calls})})
    return calls


LENIENT_CHAT = replace(
    CHAT, encode=_encode, decode=decode_leniently, assembler=LenientAssembler, decoder=LenientDecoder
)
"""Chat completions of such a server."""
