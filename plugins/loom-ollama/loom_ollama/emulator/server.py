"""`OllamaEmulator`: the server, its faults, and what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from loom_ollama.emulator.answers import JSON, OllamaAnswer, Reply, answer_of
from loom_ollama.emulator.reading import parsed, tagged, understood
from loom_ollama.emulator.writing import last_piece, piece, tool_calls
from loom_py.emulator.limits import Limits
from loom_py.emulator.server_thread import ServerThread
from loom_py.events import ToolCallCompleted
from loom_py.llm.provider import LLMProvider
from loom_py.llm.scripted import ScriptedProvider, reply
from loom_py.messages import Message, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["OllamaEmulator", "OllamaRequest"]

MAX_CONNECTIONS = 1000
MAX_HEADER = 64 * 1024


@dataclass(frozen=True, slots=True)
class OllamaRequest:
    """A request as it arrived. ``headers`` have no credentials in them."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


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
        body = parsed(raw)
        headers = {k: v for k, v in request.headers.items() if k not in {"authorization", "cookie"}}
        self.requests.append(OllamaRequest(request.method, request.url.path, headers, body))
        reply = Reply(request, send)
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

    async def _answer(self, request: Request, body: Any, reply: Reply) -> None:
        path, method = request.url.path.rstrip("/"), request.method
        if path == "" and method in {"GET", "HEAD"}:
            await reply.whole(200, b"Ollama is running", "text/plain; charset=utf-8")
        elif path == "/api/version" and method == "GET":
            await reply.json({"version": "0.0.0-emulator"})
        elif path == "/api/tags" and method == "GET":
            await reply.json(
                {"models": [{"name": tagged(name), "model": tagged(name)} for name in self.models]}
            )
        elif path == "/api/chat" and method == "POST":
            await self._chat(request, body, reply)
        else:
            raise OllamaAnswer(404, "404 page not found", kind="text/plain")

    async def _chat(self, request: Request, body: Any, reply: Reply) -> None:
        if self._faults.delays:
            await asyncio.sleep(self._faults.delays.popleft())
        if self._faults.answers:
            raise self._faults.answers.popleft()
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._keys and key not in self._keys:
            raise OllamaAnswer(401, {"error": "unauthorized"})
        messages, tools, options = understood(body, self.models, self.without_tools)
        try:
            if body.get("stream", True):
                await self._stream(body["model"], messages, tools, options, reply)
            else:
                response = await self.engine.achat(messages, tools, options=options)
                await reply.json(
                    last_piece(
                        body["model"],
                        response,
                        tool_calls(response.tool_calls, ids=self._ids),
                        response.message,
                    )
                )
        except Exception as exc:  # noqa: BLE001 - whatever an engine raises, the server would answer
            raise answer_of(exc, body["model"], reply) from None

    async def _stream(
        self,
        model: str,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions,
        reply: Reply,
    ) -> None:
        reply.cut_after = self._faults.cuts.popleft() if self._faults.cuts else None
        response = None
        async for event in self.engine.astream_chat(messages, tools, options=options):
            if event.delta:
                await reply.line(piece(model, {"role": "assistant", "content": event.delta}))
            elif isinstance(event, ToolCallCompleted):
                said = {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": tool_calls((event.call,), ids=self._ids),
                }
                await reply.line(piece(model, said))
            response = event.response or response
        assert response is not None
        await reply.line(last_piece(model, response))
        await reply.end()


async def _gone(request: Request, work: asyncio.Task[Any] | None) -> None:
    """Stop working when the client has hung up."""
    while (await request.receive()).get("type") != "http.disconnect":
        pass
    if work is not None:
        work.cancel()
