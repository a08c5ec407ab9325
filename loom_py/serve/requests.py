"""From a request's body to what the agent is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import ValidationError

from loom_py.conversation import Conversation
from loom_py.errors import InvalidRequestError, UnsupportedParameterError
from loom_py.messages import ContentPart, ImagePart, Message, TextPart, ToolCall, ToolSpec
from loom_py.options import ChatOptions
from loom_py.serve import wire

__all__ = ["Ask", "parse_chat", "read_json"]

_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_PENALTIES = ("presence_penalty", "frequency_penalty", "logit_bias")
_NO_RESULT = "(The caller gave no result for this call.)"
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks of an agent: ``messages`` are all that the client sent."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    options: ChatOptions
    stream: bool
    include_usage: bool

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
            _refuse("the session waits for no such tool call", "messages", "tool_call_id is not known")
        silent = [Message.tool(_NO_RESULT, call.id, call.name) for call in waiting if call.id not in given]
        return Conversation((*new, *silent) if is_tools else (*silent, *new), self.tools)


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises `InvalidRequestError` for anything else."""
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        _refuse("the body is not UTF-8")
    except RecursionError:
        _refuse("the body is nested too deeply")
    except ValueError as exc:
        at = f" at character {exc.pos}" if isinstance(exc, json.JSONDecodeError) else ""
        _refuse(f"the body is not valid JSON{at}")
    if not isinstance(data, dict):
        _refuse(f"the body must be a JSON object, not {_KINDS.get(type(data), 'null')}")
    if _HALF_PAIR.search(body):
        try:
            json.dumps(data, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            _refuse("the body holds half of a surrogate pair, which is no character")
        except RecursionError:
            _refuse("the body is nested too deeply")
    return data


_KINDS = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean"}


def parse_chat(body: bytes) -> Ask:
    """The request in ``body``. Raises `InvalidRequestError`, whose ``param`` names the field."""
    data = read_json(body)
    try:
        request = wire.ChatRequest.model_validate(data)
    except ValidationError as exc:
        raise _invalid(exc) from None
    _check_supported(request)
    messages = _messages(request.messages)
    tools = tuple(map(_tool, request.tools or ()))
    ask = Ask(
        request.model,
        messages,
        () if request.tool_choice == "none" else tools,
        _options(request),
        bool(request.stream),
        request.stream_options is not None and request.stream_options.include_usage,
    )
    try:
        ask.whole()
    except ValueError as exc:
        _refuse(str(exc), "tools" if "tools" in str(exc) else "messages")
    return ask


def _refuse(message: str, param: str | None = None, hint: str | None = None) -> NoReturn:
    raise InvalidRequestError(message, param=param, hint=hint) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _invalid(error: ValidationError) -> InvalidRequestError:
    """The first problem in OpenAI's manner: the field by its path, never its value."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ""
    for step in first["loc"]:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step in wire.ChatRequest.model_fields or re.fullmatch(r"[a-z_]+", step):
            path += f".{step}" if path else step
    path = path[:200]
    if first["type"] == "extra_forbidden":
        return UnsupportedParameterError(
            f"unrecognized request argument: {path or 'a field'}",
            code="unknown_parameter",
            param=path or None,
            hint="Leave it out.",
        )
    if first["type"] == "missing":
        return InvalidRequestError(
            f"missing required parameter: {path}", code="missing_required_parameter", param=path
        )
    return InvalidRequestError(f"invalid value for {path}: {first['msg'].lower()}", param=path or None)


def _check_supported(request: wire.ChatRequest) -> None:
    """Raises `UnsupportedParameterError` for what would change the answer and cannot be done."""
    problems = {
        "n": request.n not in (None, 1) and "an agent gives one answer: n must be 1",
        "functions": request.functions and "functions are superseded: use tools",
        "function_call": request.function_call is not None and "function_call is superseded: use tool_choice",
        "logprobs": (request.logprobs or request.top_logprobs) and "log probabilities are not given",
        "audio": request.audio is not None and "audio is not given",
        "modalities": request.modalities not in (None, ["text"]) and "an answer is text",
        "web_search_options": request.web_search_options is not None and "the agent has its own tools",
    }
    for param, problem in problems.items():
        if problem:
            raise UnsupportedParameterError(str(problem), param=param)
    if request.stream_options is not None and not request.stream:
        _refuse("stream_options is for streams: set stream to true", "stream_options")
    if request.tool_choice not in (None, "none", "auto") and not request.tools:
        _refuse("tool_choice names what to call, and no tools were given", "tool_choice")
    if isinstance(request.tool_choice, wire.NamedTool):
        name = request.tool_choice.function.name
        if name not in {tool.function.name for tool in request.tools or ()}:
            _refuse("tool_choice names a tool that is not in tools", "tool_choice")


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
        _refuse(str(exc))


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
            _refuse("each of the tool calls must be followed by its result", where)
        if each.role == "tool":
            if each.tool_call_id not in waiting:
                _refuse("a tool message must answer a call of the message before", f"{where}.tool_call_id")
            name = waiting.pop(each.tool_call_id)
            messages.append(Message.tool(_content(each, where), each.tool_call_id, name))
        elif each.role == "assistant":
            calls = tuple(
                ToolCall.parse(call.id, call.function.name, call.function.arguments)
                for call in each.tool_calls or ()
            )
            if each.content is None and not calls:
                _refuse("an assistant message needs content or tool_calls", f"{where}.content")
            waiting = {call.id: call.name for call in calls}
            if len(waiting) < len(calls):
                _refuse("two tool calls have the same id", f"{where}.tool_calls")
            messages.append(Message.assistant(_text(each, where), calls))
        elif each.role == "user":
            messages.append(Message.user(_content(each, where)))
        else:
            messages.append(Message.system(_text(each, where)))
    if waiting:
        _refuse("the last message's tool calls have no results", "messages")
    return tuple(messages)


def _text(given: wire.WireMessage, where: str) -> str:
    """The text of a message that can hold nothing else."""
    if given.content is None:
        if given.role == "assistant":
            return ""
        _refuse(f"a {given.role} message needs content", f"{where}.content")
    if isinstance(given.content, str):
        return given.content
    texts = []
    for index, part in enumerate(given.content):
        if isinstance(part, wire.ImagePart):
            _refuse("only the user shows images", f"{where}.content[{index}]")
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
                parts.append(ImagePart.from_url(part.image_url.url, detail=part.image_url.detail))
            except ValueError as exc:
                _refuse(str(exc), f"{where}.content[{index}].image_url.url")
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
