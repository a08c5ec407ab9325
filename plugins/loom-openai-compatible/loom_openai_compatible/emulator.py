"""`CompatibleEmulator`: a loopback server with OpenAI's ``/v1`` API that differs as real ones do.

The shapes of its answers and errors are those of the servers' public documentation and source (2024–2026):
vLLM's OpenAI-compatible server, llama.cpp's ``llama-server``, LiteLLM's proxy and FastAPI. None of them was
recorded. Needs the extra ``emulator`` of loom-py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from loom_py.clock import Clock, RealClock
from loom_py.emulator.chat_surface import ChatSurface
from loom_py.emulator.decode import ChatRequest
from loom_py.emulator.dialect import error_object
from loom_py.emulator.echo import EchoProvider
from loom_py.emulator.encode import Completion, StreamEncoder
from loom_py.emulator.exchange import Exchange
from loom_py.emulator.fault_plan import FaultPlan, PlanRun
from loom_py.emulator.faults import Answer
from loom_py.emulator.limits import Limits
from loom_py.emulator.openai_dialect import OpenAIDialect
from loom_py.emulator.quotas import Quota
from loom_py.emulator.resource import MAX_HEADER, RequestLog, Resource
from loom_py.emulator.server import Emulator, named, several
from loom_py.emulator.wire_errors import WireError, invalid_request
from loom_py.llm.provider import LLMProvider
from loom_py.messages import ToolCall

__all__ = ["CompatibleEmulator", "ErrorStyle", "Quirks"]

ErrorStyle: TypeAlias = Literal["openai", "vllm", "llama.cpp", "litellm", "fastapi"]
"""Whose error bodies: vLLM's flat object, llama.cpp's with a number as code, LiteLLM's with a number in a
string, FastAPI's ``detail``."""

MAX_CONNECTIONS = 1000


@dataclass(frozen=True, slots=True)
class Quirks:
    """In what the server differs from OpenAI. Without any it answers as OpenAI does.

    Attributes:
        errors: the shape of error bodies.
        usage: whether whole answers tell their usage.
        usage_in_streams: whether streams do, if they are asked to.
        done_mark: whether streams end in ``[DONE]``.
        finish_reasons: whether replies say why they ended.
        calls_finish_with_stop: the finish reason of a reply with tool calls is ``stop``.
        ids_of_calls: whether tool calls have ids.
        indexes_of_calls: whether the tool calls of a stream have indexes.
        arguments_as_objects: a call's arguments are an object, and whole in one chunk.
        null_content: a reply without text has no content at all.
        reasoning: thoughts before the answer, in the field that ``reasoning_field`` names.
        takes_max_completion_tokens: whether that name of the token limit is taken, beside ``max_tokens``.
        takes_developer_role: whether messages of the developer are taken.
        takes_stream_options: whether ``stream_options`` are taken.
    """

    errors: ErrorStyle = "openai"
    usage: bool = True
    usage_in_streams: bool = True
    done_mark: bool = True
    finish_reasons: bool = True
    calls_finish_with_stop: bool = False
    ids_of_calls: bool = True
    indexes_of_calls: bool = True
    arguments_as_objects: bool = False
    null_content: bool = False
    reasoning: str = ""
    reasoning_field: str = "reasoning_content"
    takes_max_completion_tokens: bool = False
    takes_developer_role: bool = False
    takes_stream_options: bool = True

    def __post_init__(self) -> None:
        if self.errors not in get_args(ErrorStyle):
            raise ValueError(f"errors must be one of {', '.join(get_args(ErrorStyle))}, not {self.errors!r}")


class CompatibleClientSettings(TypedDict):
    """What an `OpenAICompatibleClient` needs to reach a model of the emulator."""

    base_url: str
    model: str
    api_key: str | None


class CompatibleEmulator(Emulator):
    """A loopback OpenAI-compatible server whose model is any `LLMProvider`.

    ::

        with CompatibleEmulator(ScriptedProvider(["Hello!"]), quirks=Quirks(errors="vllm")) as server:
            client = OpenAICompatibleClient(**server.client_kwargs())

    Args:
        engine: the model that answers; without one the user's words are echoed.
        models: the names it serves, ``llama-3.1-8b`` alone unless they are given.
        api_keys: accepted bearer keys; without any, none is wanted.
        quirks: in what it differs from OpenAI.
        quotas: model -> its `Quota`, enforced.

    The other arguments, and the scripting of faults, are those of `AzureEmulator`, where ``deployment`` is
    the model.
    """

    def __init__(
        self,
        engine: LLMProvider | None = None,
        *,
        models: Mapping[str, str] | Sequence[str] = ("llama-3.1-8b",),
        api_keys: Iterable[str] = (),
        quirks: Quirks | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        chunk_delay: float = 0.0,
        log_size: int = 10_000,
        quotas: Mapping[str, Quota] | None = None,
        faults: FaultPlan | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or RealClock()
        resource = Resource(
            engine=engine or EchoProvider(),
            deployments=named(models),
            api_keys=several("api_keys", api_keys),
            quirks=False,
            chunk_delay=chunk_delay,
            log=RequestLog(log_size),
            quotas=dict(quotas or {}),
            plan=None if faults is None else PlanRun(faults, clock, ""),
            clock=clock,
            dialect=_CompatibleDialect(quirks or Quirks()),
        )
        super().__init__(resource, host, port, Limits(MAX_CONNECTIONS, MAX_HEADER))

    @property
    def base_url(self) -> str:
        """Its URL, such as ``http://127.0.0.1:40321/v1``. Raises `RuntimeError` if it is not running."""
        return f"{self.endpoint}/v1"

    def client_kwargs(self, model: str | None = None) -> CompatibleClientSettings:
        """``base_url``, ``model`` and ``api_key`` for a client; the first model unless named."""
        return {
            "base_url": self.base_url,
            "model": model or next(iter(self._resource.deployments)),
            "api_key": self._resource.api_keys[0] if self._resource.api_keys else None,
        }


class _CompatibleDialect(OpenAIDialect):
    """OpenAI's API with quirks."""

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks

    def route(self, exchange: Exchange) -> Answer | None:
        answer = super().route(exchange)
        if isinstance(exchange.surface, ChatSurface):
            exchange.surface = _Surface(self._quirks)
        return answer

    def authenticate(self, exchange: Exchange) -> None:
        if exchange.resource.api_keys:
            super().authenticate(exchange)

    def headers(self, exchange: Exchange, *, from_model: bool, region: bool) -> dict[str, str]:
        """No more than any server has; a request id, which most give."""
        headers = super().headers(exchange, from_model=False, region=region)
        return {name: headers[name] for name in ("date", "x-request-id")} | {"server": "uvicorn"}

    def worded(self, error: WireError, exchange: Exchange) -> WireError:
        if error.is_verbatim:
            return error
        plain = super().worded(error, exchange)
        found = error_object(plain)
        if not found:
            return plain
        message = str(found.get("message"))
        if found.get("code") == "context_length_exceeded" and "context length" not in message:
            message = _TOO_LONG  # these servers say in words what OpenAI has a code for
        body = _STYLES[self._quirks.errors](plain.status, message, found)
        return WireError(plain.status, body, headers=plain.headers, from_model=plain.from_model)

    def shaped(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any] | None:
        shaped = super().shaped(body, exchange)
        if shaped is None or "choices" not in shaped:
            return shaped
        for name in ("service_tier", "system_fingerprint"):
            shaped.pop(name, None)
        return self._quirky(shaped)

    def _quirky(self, body: dict[str, Any]) -> dict[str, Any] | None:
        quirks = self._quirks
        is_chunk = body.get("object") == "chat.completion.chunk"
        if not (quirks.usage_in_streams if is_chunk else quirks.usage):
            body.pop("usage", None)
            if is_chunk and not body["choices"]:
                return None  # the chunk that has the usage alone
        for choice in body["choices"]:
            message = choice["delta" if is_chunk else "message"]
            self._spoil_calls(message, is_chunk=is_chunk)
            if quirks.null_content and not message.get("content") and not is_chunk:
                message["content"] = None
            if quirks.reasoning and message.get("role") == "assistant":
                message[quirks.reasoning_field] = quirks.reasoning
            if not quirks.finish_reasons:
                choice["finish_reason"] = None
            elif quirks.calls_finish_with_stop and choice["finish_reason"] == "tool_calls":
                choice["finish_reason"] = "stop"
        return body

    def _spoil_calls(self, message: dict[str, Any], *, is_chunk: bool) -> None:
        quirks = self._quirks
        for call in message.get("tool_calls") or ():
            if not quirks.ids_of_calls:
                call.pop("id", None)
            if is_chunk and not quirks.indexes_of_calls:
                call.pop("index", None)
            if quirks.arguments_as_objects and not is_chunk:
                call["function"]["arguments"] = _object(call["function"]["arguments"])


class _Surface(ChatSurface):
    """Chat completions that refuse what the server does not know."""

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self.end = super().end if quirks.done_mark else b""

    def check(self, request: ChatRequest, body: Mapping[str, Any], model: str) -> None:
        quirks = self._quirks
        refused = [
            name
            for name, is_taken in (
                ("max_completion_tokens", quirks.takes_max_completion_tokens),
                ("stream_options", quirks.takes_stream_options),
            )
            if name in body and not is_taken
        ]
        if refused:
            raise invalid_request(f"Unrecognized request argument supplied: {refused[0]}", refused[0])
        roles = [message.get("role") for message in body["messages"]]
        if "developer" in roles and not quirks.takes_developer_role:
            raise invalid_request("Unexpected message role: developer", "messages")
        super().check(request, body, model)

    def encoder(self, completion: Completion) -> StreamEncoder:
        is_whole = self._quirks.arguments_as_objects or not self._quirks.indexes_of_calls
        return _WholeCalls(completion, self._quirks) if is_whole else super().encoder(completion)


class _WholeCalls(StreamEncoder):
    """Each tool call comes in one chunk."""

    def __init__(self, completion: Completion, quirks: Quirks) -> None:
        super().__init__(completion)
        self._quirks = quirks

    def _begin(self, call_id: str, name: str) -> Iterator[dict[str, Any]]:
        return iter(())

    def _complete(self, call: ToolCall) -> Iterator[dict[str, Any]]:
        if call.id in self._calls:
            return
        index = self._calls[call.id] = len(self._calls)
        arguments: Any = call.arguments_json
        if self._quirks.arguments_as_objects:
            arguments = _object(arguments)
        function = {"name": call.name, "arguments": arguments}
        yield self._delta(
            {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}
        )


def _object(arguments: str) -> Any:
    """Arguments as the object they are; as text where they are none."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


_TOO_LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the messages,"
    " Please reduce the length of the messages."
)


def _vllm(status: int, message: str, found: Mapping[str, Any]) -> Any:
    kind = {404: "NotFoundError", 400: "BadRequestError", 401: "AuthenticationError"}.get(status)
    return {
        "object": "error",
        "message": message,
        "type": kind or ("RateLimitError" if status == 429 else "InternalServerError"),
        "param": found.get("param"),
        "code": status,
    }


def _llama_cpp(status: int, message: str, found: Mapping[str, Any]) -> Any:
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        503: "unavailable_error",
    }
    error: dict[str, Any] = {"code": status, "message": message, "type": kinds.get(status, "server_error")}
    if found.get("code") == "context_length_exceeded":
        error |= {"type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}
        error["message"] = (
            "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it"
        )
    return {"error": error}


def _litellm(status: int, message: str, found: Mapping[str, Any]) -> Any:
    kinds = {400: "BadRequestError", 401: "AuthenticationError", 429: "RateLimitError"}
    kind = kinds.get(status, "InternalServerError" if status >= 500 else "APIError")
    if found.get("code") == "context_length_exceeded":
        kind = "ContextWindowExceededError"
    said = f"litellm.{kind}: OpenAIException - {message}"
    return {"error": {"message": said, "type": found.get("type"), "param": None, "code": str(status)}}


def _fastapi(status: int, message: str, found: Mapping[str, Any]) -> Any:
    if status in {400, 422} and found.get("param"):
        return {"detail": [{"type": "value_error", "loc": ["body", found["param"]], "msg": message}]}
    return {"detail": message}


_STYLES: dict[str, Any] = {
    "openai": lambda _, __, found: {"error": dict(found)},
    "vllm": _vllm,
    "llama.cpp": _llama_cpp,
    "litellm": _litellm,
    "fastapi": _fastapi,
}
