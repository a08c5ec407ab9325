"""Chat completions on the wire: pure functions between our classes and Azure's JSON.

`encode_request` makes the body of a request, `decode_response` reads a whole answer. Nothing here
opens a socket, reads a clock or imports the SDK. Streams are put together in `stream`, error
bodies are understood in `errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from loom_py._json import STANDARD, Codec
from loom_py.errors import (
    ConfigError,
    ContentFilterError,
    IncompleteResponseError,
    MalformedResponseError,
    is_filtered,
)
from loom_py.llm.azure.errors import error_from_body, filter_verdicts, is_error
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.llm.profiles import UNKNOWN_PROFILE, ModelProfile
from loom_py.messages import ImagePart, Message, Response, TokenUsage, ToolCall
from loom_py.options import ChatOptions

__all__ = [
    "decode_json",
    "decode_response",
    "decode_usage",
    "encode_body",
    "encode_json",
    "encode_request",
    "finish",
    "limit_parameter",
]

OLD_API = "2024-08-01"
"""API versions before this one know neither ``max_completion_tokens`` nor ``stream_options``."""

IMAGE_FOLLOWS = "(an image, shown below)"
"""The text of a tool message whose result is images alone."""


SAMPLING = ("temperature", "top_p")
"""What no reasoning model takes."""


# ── requests ─────────────────────────────────────────────────────────────────────────────


def encode_request(
    messages: Sequence[Message],
    tools: EncodedTools = NO_TOOLS,
    options: ChatOptions | None = None,
    *,
    deployment: str,
    profile: ModelProfile = UNKNOWN_PROFILE,
    api_version: str = "",
    stream: bool = False,
) -> dict[str, Any]:
    """The JSON body that asks ``deployment`` for the next message.

    The output limit travels under the name the model's family takes. Sampling parameters are left
    out for reasoning models, which refuse them. A dated ``api_version`` from before such names
    were known gets the older ones.
    """
    options = options or ChatOptions()
    is_old = _is_old(api_version)
    body: dict[str, Any] = {
        "messages": list(_encode_messages(messages, tools)),
        "model": deployment,
    }
    if tools.definitions:
        body["tools"] = list(tools.definitions)
        body["tool_choice"] = _tool_choice(options.tool_choice or "auto", tools)
        if options.parallel_tool_calls is not None and profile.parallel_tools:
            body["parallel_tool_calls"] = options.parallel_tool_calls
    if options.max_tokens is not None:
        body[limit_parameter(profile, api_version)] = options.max_tokens
    body.update(_settings(options, profile))
    if stream:
        body["stream"] = True
        if not is_old:
            body["stream_options"] = {"include_usage": True}
    body.update(options.extra_body)
    return body


def _is_old(api_version: str) -> bool:
    return api_version[:4].isdigit() and api_version < OLD_API


def limit_parameter(profile: ModelProfile, api_version: str = "") -> str:
    """The name under which the output limit travels."""
    return "max_tokens" if _is_old(api_version) and not profile.reasoning else profile.max_tokens_parameter


def _settings(options: ChatOptions, profile: ModelProfile) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "stop": options.stop if options.stop is None or isinstance(options.stop, str) else list(options.stop),
        "seed": options.seed,
        "user": options.user,
        "response_format": options.response_format,
        "verbosity": options.verbosity,
        "prompt_cache_key": options.prompt_cache_key,
    }
    settings |= {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "reasoning_effort": options.reasoning_effort,
    }
    refused = {*profile.unsupported, *(SAMPLING if profile.reasoning else ())}
    return {key: value for key, value in settings.items() if value is not None and key not in refused}


def _tool_choice(choice: str, tools: EncodedTools) -> Any:
    if choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "function": {"name": tools.wire_name(choice)}}


def _encode_messages(messages: Sequence[Message], tools: EncodedTools) -> Iterator[dict[str, Any]]:
    """The messages, with the images of tool results in a user message after the last of the results.

    A tool message may hold text only, and nothing may stand between the results of one reply.
    """
    shown: list[dict[str, Any]] = []
    for message in messages:
        if shown and message.role != "tool":
            yield {"role": "user", "content": shown}
            shown = []
        yield encode_message(message, tools)
        if message.role == "tool":
            shown += _shown_images(message)
    if shown:
        yield {"role": "user", "content": shown}


def _shown_images(message: Message) -> list[dict[str, Any]]:
    """The images of a tool result, after a line that says whose they are."""
    parts = () if isinstance(message.content, str) else message.content
    images = [_encode_part(part) for part in parts if isinstance(part, ImagePart)]
    tool = f"the tool {message.name!r}" if message.name else "the tool"
    said = {"type": "text", "text": f"What {tool} returned for the call {message.tool_call_id}:"}
    return [said, *images] if images else []


def encode_message(message: Message, tools: EncodedTools = NO_TOOLS) -> dict[str, Any]:
    """One message as Azure takes it. The model's own arguments go back byte for byte."""
    if message.role == "tool":
        text = message.text or (IMAGE_FOLLOWS if message.content else "")
        return {"role": "tool", "tool_call_id": message.tool_call_id or "", "content": text}
    content: Any = message.content
    if not isinstance(content, str):
        content = [_encode_part(part) for part in content]
    encoded: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        encoded["content"] = content or None
        encoded["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": tools.wire_name(call.name), "arguments": call.arguments_json or "{}"},
            }
            for call in message.tool_calls
        ]
    return encoded


def _encode_part(part: Any) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": part.source, "detail": part.detail}}
    return {"type": "text", "text": part.text}


def encode_json(body: Mapping[str, Any]) -> bytes:
    """The bytes of a request. Raises `ConfigError` for what JSON cannot hold.

    Half of a surrogate pair, as undecodable file names have, becomes a question mark.
    """
    return _written(STANDARD.dumps, body)


def encode_body(
    body: dict[str, Any], tools: EncodedTools, codec: Codec = STANDARD, *, has_own_messages: bool = False
) -> bytes:
    """`encode_json` of a whole body, in which the definitions of ``tools`` are not written anew.

    With ``has_own_messages`` its messages are as `encode_request` wrote them, and ``codec`` may write them.
    """
    rest, parts = dict(body), []
    if has_own_messages and "messages" in rest:
        parts.append(b'"messages":' + _written(codec.dumps_text, rest.pop("messages")))
    if tools.definitions and rest.get("tools") == list(tools.definitions):
        del rest["tools"]
        parts.append(b'"tools":' + _written(tools.json, STANDARD.dumps))
    if rest:
        parts.append(_written(STANDARD.dumps, rest)[1:-1])
    return b"{" + b",".join(parts) + b"}"


def _written(write: Callable[[Any], bytes], value: Any) -> bytes:
    try:
        return write(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigError(f"the request cannot be written as JSON: {exc}", field="messages") from None


# ── answers ──────────────────────────────────────────────────────────────────────────────


def decode_json(
    body: bytes, content_type: str | None = None, loads: Callable[[bytes], Any] = STANDARD.loads
) -> Any:
    """The JSON of an answer with status 200, whatever its Content-Type claims.

    Raises `MalformedResponseError` that says what it is instead.
    """
    try:
        return loads(body)
    except (ValueError, RecursionError):
        pass
    start = body.lstrip()[:1]
    if not start:
        raise MalformedResponseError("the server answered 200 with an empty body")
    if start in {b"{", b"["}:
        raise MalformedResponseError("the server answered 200 with JSON that is broken or cut off")
    kind = "an HTML page" if start == b"<" else f"{content_type or 'a body'} that is not JSON"
    hint = "Check that the endpoint is the Azure OpenAI resource and not a portal or proxy page."
    raise MalformedResponseError(f"the server answered 200 with {kind}", hint=hint)


def decode_response(data: Any, tools: EncodedTools = NO_TOOLS) -> Response:
    """The reply in a whole chat completion.

    Raises `MalformedResponseError` where there is none, the error of an error body that came with
    status 200, `ContentFilterError` for an answer the filter cut off and
    `IncompleteResponseError` for one whose token limit left no text.
    """
    if not isinstance(data, Mapping):
        raise MalformedResponseError(f"the answer is a JSON {type(data).__name__}, not an object")
    if is_error(data):
        raise error_from_body(data)
    usage = decode_usage(data.get("usage"))
    choice = _first_choice(data.get("choices"))
    if choice is None:
        raise MalformedResponseError("the answer has no choices", tokens_used=usage)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise MalformedResponseError("the answer's choice has no message", tokens_used=usage)
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    if not all(isinstance(call, Mapping) and isinstance(call.get("function"), Mapping) for call in calls):
        raise MalformedResponseError("the answer has a tool call without a function", tokens_used=usage)
    response = Response(
        message=_text(message.get("content")),
        tokens_used=usage or TokenUsage(),
        tool_calls=tuple(_decode_call(index, call, tools) for index, call in enumerate(calls)),
        finish_reason=string_or_empty(choice.get("finish_reason")) or ("tool_calls" if calls else "stop"),
        model=model_of(data),
        metadata=_metadata(data, choice, message),
    )
    return finish(response, choice.get("content_filter_results"))


def model_of(data: Any) -> str:
    """The model an answer names, empty where it names none."""
    return string_or_empty(data.get("model")) if isinstance(data, Mapping) else ""


def finish(response: Response, verdicts: Any) -> Response:
    """``response`` if it is an answer; raises the typed error if it is not.

    ``verdicts`` are the completion's filter results as sent.
    """
    if response.finish_reason == "content_filter":
        raise ContentFilterError(
            "the content filter stopped the answer",
            side="completion",
            categories=filter_verdicts(verdicts),
            partial_text=response.message,
            tokens_used=response.tokens_used,
        )
    found = filter_verdicts(verdicts)
    if blocked := [name for name, verdict in found.items() if is_filtered(verdict)]:
        # the asynchronous filter speaks after the text, even after "stop"
        raise ContentFilterError(
            f"the content filter withdrew the answer ({', '.join(blocked)})",
            side="completion",
            categories=found,
            partial_text=response.message,
            tokens_used=response.tokens_used,
        )
    if response.finish_reason == "length" and not response.message and not response.tool_calls:
        reasoning = response.tokens_used.reasoning
        spent = f", {reasoning} of them on reasoning" if reasoning else ""
        how_many = response.tokens_used.output or "its"  # not every server tells
        raise IncompleteResponseError(
            f"the model used all {how_many} output tokens{spent} and wrote no text",
            tokens_used=response.tokens_used,
        )
    if response.metadata.get("refusal") and not response.message:
        return replace(response, message=response.metadata["refusal"])
    return response


def _first_choice(choices: Any) -> Mapping[str, Any] | None:
    if not isinstance(choices, list):
        return None
    return next((choice for choice in choices if isinstance(choice, Mapping)), None)


def string_or_empty(value: Any) -> str:
    """``value`` if it is a string."""
    return value if isinstance(value, str) else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # some models answer in parts
        return "".join(string_or_empty(part.get("text")) for part in content if isinstance(part, Mapping))
    return ""


def _decode_call(index: int, call: Mapping[str, Any], tools: EncodedTools) -> ToolCall:
    function = call["function"]
    call_id = string_or_empty(call.get("id")) or f"call_{index}"  # a result must be able to name it
    name = tools.own_name(string_or_empty(function.get("name")))
    arguments = function.get("arguments")
    if isinstance(arguments, Mapping):  # some models send the object itself
        return ToolCall(call_id, name, dict(arguments))
    return ToolCall.parse(call_id, name, string_or_empty(arguments))


def _metadata(
    data: Mapping[str, Any], choice: Mapping[str, Any], message: Mapping[str, Any]
) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if isinstance(data.get("service_tier"), str):
        metadata["service_tier"] = data["service_tier"]
    if isinstance(message.get("refusal"), str):
        metadata["refusal"] = message["refusal"]
    verdicts = {
        "prompt": data.get("prompt_filter_results"),
        "completion": choice.get("content_filter_results"),
    }
    if kept := {side: found for side, found in verdicts.items() if found}:
        metadata["content_filter"] = kept
    return metadata


def decode_usage(usage: Any) -> TokenUsage | None:
    """Azure's usage object; ``None`` where there is none, or nothing in it.

    Older API versions send no detail objects at all; any of them may be ``null``.
    """
    if not isinstance(usage, Mapping) or not usage:
        return None
    prompt = usage.get("prompt_tokens_details")
    completion = usage.get("completion_tokens_details")
    return TokenUsage(
        input=_count(usage, "prompt_tokens"),
        output=_count(usage, "completion_tokens"),
        cached_input=_count(prompt, "cached_tokens"),
        cache_writes=_count(prompt, "cache_write_tokens"),
        reasoning=_count(completion, "reasoning_tokens"),
    )


def _count(source: Any, key: str) -> int:
    value = source.get(key) if isinstance(source, Mapping) else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
