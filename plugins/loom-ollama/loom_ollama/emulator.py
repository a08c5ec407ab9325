"""`OllamaEmulator`: Ollama's HTTP API on loopback, with any `LLMProvider` as its model.

Written after Ollama's public API documentation and the words of its server's errors; it was not recorded
from a running one. It needs the extra ``emulator``.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from loom_py.emulator.exchange import ABORT
from loom_py.emulator.server_thread import Limits, ServerThread
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    StreamInterruptedError,
)
from loom_py.events import ToolCallCompleted
from loom_py.llm.provider import LLMProvider
from loom_py.llm.scripted import ScriptedProvider, reply
from loom_py.messages import ImagePart, Message, Response, TextPart, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["OllamaAnswer", "OllamaEmulator", "OllamaRequest"]

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
MAX_CONNECTIONS = 1000
MAX_HEADER = 64 * 1024
ROLES = {"system", "user", "assistant", "tool"}


@dataclass(frozen=True, slots=True)
class OllamaRequest:
    """A request as it arrived. ``headers`` have no credentials in them."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class OllamaAnswer(Exception):  # noqa: N818 - an answer, which a model may raise to give it
    """An answer of the server in place of the model's; an engine may raise it."""

    def __init__(
        self, status: int, body: Any, *, headers: Mapping[str, str] | None = None, kind: str = JSON
    ) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.headers = dict(headers or {})
        self.kind = kind


@dataclass(slots=True)
class _Faults:
    answers: deque[OllamaAnswer] = field(default_factory=deque)
    cuts: deque[int] = field(default_factory=deque)
    delays: deque[float] = field(default_factory=deque)


class OllamaEmulator:
    """A loopback Ollama whose model is any `LLMProvider`::

        with OllamaEmulator(ScriptedProvider(["Hello!"])) as server:
            provider = OllamaProvider("llama3.2", host=server.host)

    Args:
        engine: the model that answers; without one it says "Hello!".
        models: names that are pulled; others are not found.
        without_tools: models that do not take tools.
        api_keys: keys that are accepted; none means that none is asked for.
        ids: whether tool calls have ids, as newer servers send them.
        port: where to listen; 0 takes a free port.
    """

    def __init__(
        self,
        engine: LLMProvider | None = None,
        *,
        models: Sequence[str] = ("llama3.2",),
        without_tools: Iterable[str] = (),
        api_keys: Iterable[str] = (),
        ids: bool = True,
        port: int = 0,
    ) -> None:
        self.engine: LLMProvider = engine or ScriptedProvider(lambda _: reply("Hello!"))
        self.models = tuple(models)
        self.without_tools = frozenset(without_tools)
        self.requests: list[OllamaRequest] = []
        self._keys = tuple(api_keys)
        self._ids = ids
        self._port = port
        self._faults = _Faults()
        self._lock = threading.Lock()
        self._server: ServerThread | None = None
        self._running: set[asyncio.Task[None]] = set()

    # ── life ─────────────────────────────────────────────────────────────────────────────

    def start(self) -> Self:
        """Listen; requests are served when this returns."""
        with self._lock:
            if self._server is None:
                limits = Limits(MAX_CONNECTIONS, MAX_HEADER)
                self._server = ServerThread(cast("Any", self), "127.0.0.1", self._port, limits)
        return self

    def stop(self) -> None:
        """Stop listening; streams in flight are cut off."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """Its URL. Raises `RuntimeError` if it is not running."""
        if self._server is None:
            raise RuntimeError("the emulator is not running: use it in a with block, or call start()")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return 0 if self._server is None else self._server.connections

    # ── faults ───────────────────────────────────────────────────────────────────────────

    def fail_next(
        self,
        status: int,
        error: str = "it failed",
        *,
        headers: Mapping[str, str] | None = None,
        times: int = 1,
    ) -> None:
        """Answer the next ``times`` chats with ``status`` and Ollama's ``{"error": …}``."""
        self._faults.answers.extend([OllamaAnswer(status, {"error": error}, headers=headers)] * times)

    def answer_next(self, status: int, body: Any, *, kind: str = JSON, times: int = 1) -> None:
        """Answer the next ``times`` chats with exactly this ``body``, JSON unless it is text."""
        self._faults.answers.extend([OllamaAnswer(status, body, kind=kind)] * times)

    def cut_next_stream(self, after_lines: int = 1, *, times: int = 1) -> None:
        """Drop the connection of the next stream after so many lines."""
        self._faults.cuts.extend([after_lines] * times)

    def delay_next(self, seconds: float, *, times: int = 1) -> None:
        """Let the next ``times`` chats wait first, as for a model that has to be loaded."""
        self._faults.delays.extend([seconds] * times)

    # ── serving ──────────────────────────────────────────────────────────────────────────

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            return
        work = asyncio.ensure_future(self._serve(Request(scope, receive), send))
        self._running.add(work)
        try:
            await asyncio.wait({work})
        finally:
            self._running.discard(work)
            work.cancel()
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error

    def abort(self) -> None:
        """End every request in flight."""
        for task in list(self._running):
            task.cancel()

    async def _serve(self, request: Request, send: Send) -> None:
        try:
            raw = await request.body()
        except ClientDisconnect:
            return
        body: Any = raw.decode("utf-8", "replace")
        with suppress(ValueError):
            body = json.loads(raw)
        headers = {k: v for k, v in request.headers.items() if k not in {"authorization", "cookie"}}
        self.requests.append(OllamaRequest(request.method, request.url.path, headers, body))
        reply = _Reply(request, send)
        watch = asyncio.ensure_future(_gone(request, asyncio.current_task()))
        try:
            await self._answer(request, body, reply)
        except OllamaAnswer as answer:
            if reply.started:
                await reply.write(answer.content + b"\n")
                await reply.end()
            else:
                await reply.whole(answer.status, answer.content, answer.kind, answer.headers)
        finally:
            watch.cancel()

    async def _answer(self, request: Request, body: Any, reply: _Reply) -> None:
        path, method = request.url.path.rstrip("/"), request.method
        if path == "" and method in {"GET", "HEAD"}:
            await reply.whole(200, b"Ollama is running", "text/plain; charset=utf-8")
        elif path == "/api/version" and method == "GET":
            await reply.json({"version": "0.0.0-emulator"})
        elif path == "/api/tags" and method == "GET":
            await reply.json(
                {"models": [{"name": _tagged(name), "model": _tagged(name)} for name in self.models]}
            )
        elif path == "/api/chat" and method == "POST":
            await self._chat(request, body, reply)
        else:
            raise OllamaAnswer(404, "404 page not found", kind="text/plain")

    async def _chat(self, request: Request, body: Any, reply: _Reply) -> None:
        if self._faults.delays:
            await asyncio.sleep(self._faults.delays.popleft())
        if self._faults.answers:
            raise self._faults.answers.popleft()
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._keys and key not in self._keys:
            raise OllamaAnswer(401, {"error": "unauthorized"})
        messages, tools, options = self._understood(body)
        try:
            if body.get("stream", True):
                await self._stream(body["model"], messages, tools, options, reply)
            else:
                response = await self.engine.achat(messages, tools, options=options)
                await reply.json(
                    self._last(body["model"], response, self._calls(response.tool_calls), response.message)
                )
        except Exception as exc:  # noqa: BLE001 - whatever an engine raises, the server would answer
            raise _answer_of(exc, body["model"], reply) from None

    async def _stream(
        self,
        model: str,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions,
        reply: _Reply,
    ) -> None:
        reply.cut_after = self._faults.cuts.popleft() if self._faults.cuts else None
        response = None
        async for event in self.engine.astream_chat(messages, tools, options=options):
            if event.delta:
                await reply.line(self._piece(model, {"role": "assistant", "content": event.delta}))
            elif isinstance(event, ToolCallCompleted):
                said = {"role": "assistant", "content": "", "tool_calls": self._calls((event.call,))}
                await reply.line(self._piece(model, said))
            response = event.response or response
        assert response is not None
        await reply.line(self._last(model, response))
        await reply.end()

    def _piece(self, model: str, message: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "model": model,
            "created_at": datetime.now(UTC).isoformat(),
            "message": message,
            "done": False,
        }

    def _last(
        self, model: str, response: Response, calls: Sequence[Mapping[str, Any]] = (), text: str = ""
    ) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = list(calls)
        usage = response.tokens_used
        reason = "stop" if response.finish_reason == "tool_calls" else response.finish_reason
        return {
            **self._piece(model, message),
            "done": True,
            "done_reason": reason,
            "total_duration": 5_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": usage.input,
            "prompt_eval_duration": 1_000_000,
            "eval_count": usage.output,
            "eval_duration": 3_000_000,
        }

    def _calls(self, calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
        found = []
        for place, call in enumerate(calls):
            arguments: Any = call.arguments if call.error is None else call.arguments_json
            made = {"function": {"index": place, "name": call.name, "arguments": arguments}}
            found.append({"id": call.id, **made} if self._ids else made)
        return found

    # ── requests ─────────────────────────────────────────────────────────────────────────

    def _understood(self, body: Any) -> tuple[tuple[Message, ...], tuple[ToolSpec, ...], ChatOptions]:
        """The request in loom_py's nouns. Raises the server's own refusals."""
        if not isinstance(body, dict):
            raise OllamaAnswer(400, {"error": "invalid character in request body"})
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise OllamaAnswer(400, {"error": "model is required"})
        if _tagged(model) not in map(_tagged, self.models):
            raise OllamaAnswer(404, {"error": f"model '{model}' not found"})
        tools = tuple(map(_tool, _list(body, "tools")))
        if tools and model in self.without_tools:
            raise OllamaAnswer(400, {"error": f"registry.ollama.ai/library/{model} does not support tools"})
        messages = tuple(map(_message, _list(body, "messages")))
        return messages, tools, _options(body)


class _Reply:
    """The answer on its way out."""

    def __init__(self, request: Request, send: Send) -> None:
        self._request = request
        self._send = send
        self.started = False
        self.lines = 0
        self.cut_after: int | None = None

    def abort(self) -> None:
        """Drop the connection."""
        self._request.scope.get(ABORT, lambda: None)()

    async def whole(
        self, status: int, content: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        await self._start(status, kind, {**(headers or {}), "content-length": str(len(content))})
        await self._send({"type": "http.response.body", "body": content, "more_body": False})

    async def json(self, data: Any) -> None:
        await self.whole(200, json.dumps(data, ensure_ascii=False).encode(), JSON)

    async def line(self, data: Any) -> None:
        if self.cut_after is not None and self.lines >= self.cut_after:
            raise StreamInterruptedError("this stream was to be cut")
        self.lines += 1
        await self.write(json.dumps(data, ensure_ascii=False).encode() + b"\n")

    async def write(self, content: bytes) -> None:
        if not self.started:
            await self._start(200, NDJSON, {})
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self.started = True
        raw = {"content-type": kind, **{name.lower(): value for name, value in headers.items()}}
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in raw.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})


async def _gone(request: Request, work: asyncio.Task[Any] | None) -> None:
    """Stop working when the client has hung up."""
    while (await request.receive()).get("type") != "http.disconnect":
        pass
    if work is not None:
        work.cancel()


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _list(body: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = body.get(name) or ()
    if not isinstance(found, list | tuple):
        raise OllamaAnswer(400, {"error": f"json: cannot unmarshal into Go struct field ChatRequest.{name}"})
    return found


def _message(data: Any) -> Message:
    if not isinstance(data, dict) or data.get("role") not in ROLES:
        raise OllamaAnswer(400, {"error": "invalid role in messages"})
    content: Any = data.get("content", "")
    if not isinstance(content, str):
        raise OllamaAnswer(
            400, {"error": "json: cannot unmarshal array into Go struct field .content of type string"}
        )
    if images := data.get("images"):
        parts = [ImagePart(url=f"data:image/png;base64,{image}") for image in images]
        content = (TextPart(content), *parts)
    calls = tuple(
        ToolCall(call.get("id", ""), call["function"]["name"], _arguments(call["function"]))
        for call in data.get("tool_calls") or ()
    )
    return Message(data["role"], content, calls, data.get("tool_call_id"), data.get("tool_name"))


def _arguments(function: Mapping[str, Any]) -> dict[str, Any]:
    found = function.get("arguments", {})
    if not isinstance(found, dict):
        kind = "string" if isinstance(found, str) else type(found).__name__
        raise OllamaAnswer(
            400, {"error": f"json: cannot unmarshal {kind} into Go struct field .arguments of type map"}
        )
    return found


def _tool(data: Any) -> ToolSpec:
    function = data.get("function") if isinstance(data, dict) else None
    if not isinstance(function, dict) or not function.get("name"):
        raise OllamaAnswer(400, {"error": "a tool has no function"})
    return ToolSpec(function["name"], function.get("description", ""), function.get("parameters", {}))


def _options(body: Mapping[str, Any]) -> ChatOptions:
    given = body.get("options") or {}
    form = body.get("format")
    wanted: dict[str, Any] | None = None
    if form == "json":
        wanted = {"type": "json_object"}
    elif isinstance(form, dict):
        wanted = {"type": "json_schema", "json_schema": {"name": "format", "schema": form}}
    think = body.get("think")
    return ChatOptions(
        temperature=given.get("temperature"),
        max_tokens=given.get("num_predict"),
        top_p=given.get("top_p"),
        seed=given.get("seed"),
        stop=given.get("stop"),
        response_format=wanted,
        reasoning_effort=think if isinstance(think, str) else None,
    )


_STATUSES = (
    (AuthenticationError, 401),
    (PermissionDeniedError, 403),
    (NotFoundError, 404),
    (RequestTimeoutError, 504),
    (RateLimitError, 429),
    (InvalidRequestError, 400),
)


def _answer_of(error: Exception, model: str, reply: _Reply) -> Exception:
    """What the server does when its model raises ``error``."""
    if isinstance(error, OllamaAnswer):
        return error
    if isinstance(error, (StreamInterruptedError, ConnectionFailedError)):
        reply.abort()
        return asyncio.CancelledError()  # type: ignore[return-value]
    said = str(getattr(error, "message", error))
    if isinstance(error, ContextLengthError):
        return OllamaAnswer(400, {"error": "the input length exceeds the context length"})
    if isinstance(error, NotFoundError):
        return OllamaAnswer(404, {"error": f"model '{model}' not found"})
    status = next((number for kind, number in _STATUSES if isinstance(error, kind)), 500)
    wait = getattr(error, "retry_after", None)
    headers = {} if wait is None else {"retry-after": f"{wait:g}"}
    return OllamaAnswer(status, {"error": said}, headers=headers)
