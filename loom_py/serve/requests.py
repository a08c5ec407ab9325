"""From a request's body to what the agent is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from loom_py.conversation import Conversation
from loom_py.errors import UnsupportedParameterError
from loom_py.messages import ContentPart, ImagePart, Message, TextPart, ToolCall, ToolSpec
from loom_py.options import ChatOptions
from loom_py.serve import wire
from loom_py.serve.reading import invalid_field, is_deeper, read_json, refuse, spelled

__all__ = ["Ask", "parse_chat"]

MOST_PARTS = 20_000
MOST_BIASES = 1000
MOST_LEVELS = 100
"""Of a JSON schema. OpenAI's structured outputs take 10; a writer of JSON gives up somewhere above 250."""

_PENALTIES = ("presence_penalty", "frequency_penalty", "logit_bias")
_NO_RESULT = "(The caller gave no result for this call.)"
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks of an agent: ``messages`` are all that the client sent.

    ``given`` names the fields that may be at fault where the model cannot do what is asked of it.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    options: ChatOptions
    stream: bool
    include_usage: bool
    given: frozenset[str] = frozenset()

    def whole(self) -> Conversation:
        """The conversation as the client keeps it."""
        return Conversation(self.messages, self.tools)

    def since(self, known: Sequence[Message]) -> Conversation:
        """What is new to a session that has ``known`` already: the user's last message, or the results of
        the client's tools; a call that stays without a result gets one that says so. To a session that is
        new, or was let go, all of it is."""
        if not known:
            return self.whole()
        is_tools = self.messages[-1].role == "tool"
        new = _results(self.messages) if is_tools else self.messages[-1:]
        waiting = _waiting(known)
        given = {message.tool_call_id for message in new}
        if is_tools and not given <= {call.id for call in waiting}:
            refuse("the session waits for no such tool call", "messages", "tool_call_id is not known")
        silent = [Message.tool(_NO_RESULT, call.id, call.name) for call in waiting if call.id not in given]
        return Conversation((*new, *silent) if is_tools else (*silent, *new), self.tools)


def parse_chat(body: bytes) -> Ask:
    """The request in ``body``. Raises `InvalidRequestError`, whose ``param`` names the field."""
    data = read_json(body)
    _check_known(data)
    _check_size(data)
    try:
        request = wire.ChatRequest.model_validate(data)
    except ValidationError as exc:
        raise invalid_field(exc, data) from None
    _check_supported(request)
    _check_depth(request)
    messages = _messages(request.messages)
    tools = tuple(map(_tool, request.tools or ()))
    ask = Ask(
        request.model,
        messages,
        () if request.tool_choice == "none" else tools,
        _options(request),
        bool(request.stream),
        request.stream_options is not None and request.stream_options.include_usage,
        _given(request),
    )
    try:
        ask.whole()
    except ValueError as exc:
        refuse(str(exc), "tools" if "tools" in str(exc) else "messages")
    return ask


def _check_known(data: dict[str, Any]) -> None:
    """Raises `UnsupportedParameterError` for the first field that no request has."""
    unknown = next((name for name in data if name not in wire.ChatRequest.model_fields), None)
    if unknown is not None:
        param = spelled([unknown]) or None
        raise UnsupportedParameterError(
            f"unrecognized request argument: {param or 'a field'}",
            code="unknown_parameter",
            param=param,
            hint="Leave it out.",
        )


def _check_size(data: dict[str, Any]) -> None:
    """Raises `InvalidRequestError` for more than anybody says: to look at millions would take minutes."""
    messages, biases = data.get("messages"), data.get("logit_bias")
    lists = (
        each.get(name)
        for each in (messages if isinstance(messages, list) else ())
        if isinstance(each, dict)
        for name in ("content", "tool_calls")
    )
    if sum(len(each) for each in lists if isinstance(each, list)) > MOST_PARTS:
        refuse(f"messages may have at most {MOST_PARTS:,} parts and tool calls in all", "messages")
    if isinstance(biases, dict) and len(biases) > MOST_BIASES:
        refuse(f"logit_bias may have at most {MOST_BIASES:,} tokens", "logit_bias")


def _check_supported(request: wire.ChatRequest) -> None:
    """Raises `UnsupportedParameterError` for what would change the answer and cannot be done."""
    problems = {
        "n": request.n not in (None, 1) and "an agent gives one answer: n must be 1",
        "functions": request.functions and "functions are superseded: use tools",
        "function_call": request.function_call is not None and "function_call is superseded: use tool_choice",
        "logprobs": request.logprobs and "log probabilities are not given",
        "top_logprobs": request.top_logprobs and "log probabilities are not given",
        "audio": request.audio is not None and "audio is not given",
        "modalities": request.modalities not in (None, ["text"]) and "an answer is text",
        "moderation": request.moderation is not None and "moderation is not done here",
        "web_search_options": request.web_search_options is not None and "the agent has its own tools",
    }
    for param, problem in problems.items():
        if problem:
            raise UnsupportedParameterError(str(problem), param=param)
    if request.stream_options is not None and not request.stream:
        refuse("stream_options is for streams: set stream to true", "stream_options")
    if request.tool_choice not in (None, "none", "auto") and not request.tools:
        refuse("tool_choice names what to call, and no tools were given", "tool_choice")
    if isinstance(request.tool_choice, wire.NamedTool):
        name = request.tool_choice.function.name
        if name not in {tool.function.name for tool in request.tools or ()}:
            refuse("tool_choice names a tool that is not in tools", "tool_choice")


def _check_depth(request: wire.ChatRequest) -> None:
    """Raises `InvalidRequestError` for schemas that cannot be meant, and that not every service can read."""
    schemas: dict[str, object] = {
        f"tools[{index}].function.parameters": tool.function.parameters
        for index, tool in enumerate(request.tools or ())
    }
    for where, schema in (schemas | {"response_format": request.response_format}).items():
        if is_deeper(schema, MOST_LEVELS):
            refuse(f"{where} is nested too deeply: {MOST_LEVELS} levels are the most", where)


def _given(request: wire.ChatRequest) -> frozenset[str]:
    """The fields that say something. Messages do only with an image: any model reads text."""
    given = {name for name in request.model_fields_set if getattr(request, name) is not None}
    shows = any(
        isinstance(part, wire.ImagePart)
        for message in request.messages
        if isinstance(message.content, list)
        for part in message.content
    )
    return frozenset(given if shows else given - {"messages"})


def _options(request: wire.ChatRequest) -> ChatOptions:
    choice = request.tool_choice
    extra = {name: value for name in _PENALTIES if (value := getattr(request, name)) is not None}
    try:
        return ChatOptions(
            temperature=request.temperature,
            max_tokens=request.max_completion_tokens or request.max_tokens,
            top_p=request.top_p,
            stop=request.stop,
            seed=request.seed,
            tool_choice=_choice(choice),
            parallel_tool_calls=request.parallel_tool_calls,
            reasoning_effort=request.reasoning_effort,
            verbosity=request.verbosity,
            response_format=request.response_format,
            prompt_cache_key=request.prompt_cache_key,
            user=request.user,
            extra_body=extra,
        )
    except ValueError as exc:
        refuse(str(exc))


def _choice(choice: str | wire.NamedTool | None) -> str | None:
    """What the model is told. ``"none"`` is about the caller's tools, which are then not offered; the
    agent's own are its own affair."""
    if isinstance(choice, wire.NamedTool):
        return choice.function.name
    return choice if choice == "required" else None


def _tool(given: wire.FunctionTool) -> ToolSpec:
    function = given.function
    return ToolSpec(function.name, function.description or "", function.parameters or _NO_ARGUMENTS)


# ── messages ─────────────────────────────────────────────────────────────────────────────


def _messages(given: Sequence[wire.WireMessage]) -> tuple[Message, ...]:
    """The conversation. Raises `InvalidRequestError` where calls and results do not belong together."""
    messages: list[Message] = []
    waiting: dict[str, str] = {}
    for index, each in enumerate(given):
        where = f"messages[{index}]"
        if waiting and each.role != "tool":
            refuse("each of the tool calls must be followed by its result", where)
        if each.role == "tool":
            if each.tool_call_id not in waiting:
                refuse("a tool message must answer a call of the message before", f"{where}.tool_call_id")
            name = waiting.pop(each.tool_call_id)
            messages.append(Message.tool(_content(each, where), each.tool_call_id, name))
        elif each.role == "assistant":
            calls = tuple(
                ToolCall.parse(call.id, call.function.name, call.function.arguments)
                for call in each.tool_calls or ()
            )
            if each.content is None and not each.refusal and not calls:
                refuse("an assistant message needs content or tool_calls", f"{where}.content")
            waiting = {call.id: call.name for call in calls}
            if len(waiting) < len(calls):
                refuse("two tool calls have the same id", f"{where}.tool_calls")
            messages.append(Message.assistant(_text(each, where), calls))
        elif each.role == "user":
            messages.append(Message.user(_content(each, where)))
        else:
            messages.append(Message.system(_text(each, where)))
    if waiting:
        refuse("the last message's tool calls have no results", "messages")
    return tuple(messages)


def _text(given: wire.WireMessage, where: str) -> str:
    """The text of a message that can hold nothing else."""
    if given.content is None:
        if given.role == "assistant":
            return given.refusal or ""
        refuse(f"a {given.role} message needs content", f"{where}.content")
    if isinstance(given.content, str):
        return given.content
    texts = []
    for index, part in enumerate(given.content):
        if isinstance(part, wire.ImagePart):
            refuse("only the user shows images", f"{where}.content[{index}]")
        texts.append(part.text if isinstance(part, wire.TextPart) else part.refusal)
    return "".join(texts)


def _content(given: wire.WireMessage, where: str) -> str | tuple[ContentPart, ...]:
    """The content of a message of the user or a tool."""
    if not isinstance(given.content, list) or not any(
        isinstance(part, wire.ImagePart) for part in given.content
    ):
        return _text(given, where)
    parts: list[ContentPart] = []
    for index, part in enumerate(given.content):
        if isinstance(part, wire.ImagePart):
            try:
                parts.append(ImagePart.from_url(part.image_url.url, detail=part.image_url.detail or "auto"))
            except ValueError as exc:
                refuse(str(exc), f"{where}.content[{index}].image_url.url")
        else:
            parts.append(TextPart(part.text if isinstance(part, wire.TextPart) else part.refusal))
    return tuple(parts)


def _results(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The results of tools at the end."""
    first = len(messages)
    while first and messages[first - 1].role == "tool":
        first -= 1
    return tuple(messages[first:])


def _waiting(known: Sequence[Message]) -> tuple[ToolCall, ...]:
    """The calls at the end of a session that wait for the client."""
    return known[-1].tool_calls if known and known[-1].role == "assistant" else ()
