"""The emulator as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message as ASGIMessage
from starlette.types import Receive, Scope, Send

from loom_py.emulator.checks import check_request
from loom_py.emulator.decode import ChatRequest, decode_request, parse_body
from loom_py.emulator.encode import DONE, Completion, StreamEncoder, encode_json, encode_response, sse
from loom_py.emulator.engine_errors import as_response, as_wire_error
from loom_py.emulator.faults import Answer, Cut
from loom_py.emulator.resource import RecordedRequest, Resource, masked
from loom_py.emulator.wire_errors import (
    JSON_TYPE,
    WireError,
    deployment_not_found,
    invalid_request,
    method_not_allowed,
    resource_not_found,
    stopping,
    too_large,
)
from loom_py.errors import LoomError, StreamInterruptedError
from loom_py.events import FinalResponse, StreamEvent
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Response

__all__ = ["EmulatorApp"]

log = logging.getLogger("loom_py.emulator")

_CLASSIC = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
_V1 = re.compile(r"/openai/v1/chat/completions")


class StreamCutError(ConnectionResetError):
    """Leaves the application in the middle of an answer: the server then drops the connection."""


class Reply:
    """The answer on its way out: what was sent, and whether it was all."""

    def __init__(self, send: Send, record: RecordedRequest) -> None:
        self._send = send
        self.record = record
        self.started = False
        self.complete = False

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and the headers."""
        self.started = True
        self.record.status = status
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, piece: bytes = b"") -> None:
        """Send the last piece of the body."""
        self.complete = True
        await self._send({"type": "http.response.body", "body": piece, "more_body": False})

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole answer."""
        await self.start(status, {**headers, "content-length": str(len(body))})
        await self.end(b"" if self.record.method == "HEAD" else body)


@dataclass(slots=True)
class Exchange:
    """One request on its way through the application."""

    request: Request
    reply: Reply
    request_id: str
    apim_id: str
    deployment: str = ""
    model: str = ""
    quota: Mapping[str, str] | None = None


class EmulatorApp:
    """Answers HTTP requests as the given `Resource` would. Each request is a task of its own."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(Request(scope, receive), send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def resume(self) -> None:
        """Accept requests again after `abort`."""
        self._stopping = False

    def abort(self) -> None:
        """End every request in flight: with a 503 if no answer has begun, else by cutting it off."""
        self._stopping = True
        for task in self._running:
            task.cancel()

    async def _serve(self, request: Request, send: Send) -> None:
        record = RecordedRequest(
            request.method,
            request.scope["path"],
            masked(dict(request.query_params)),
            masked(dict(request.headers)),
        )
        self.resource.log.add(record)
        reply = Reply(send, record)
        exchange = Exchange(request, reply, str(uuid.uuid4()), str(uuid.uuid4()))
        work = asyncio.ensure_future(self._exchange(exchange))
        self._running.add(work)
        try:
            await asyncio.wait({work})
        finally:
            self._running.discard(work)
            if not work.done():  # the server cancelled us
                work.cancel()
                await asyncio.wait({work})
        if not work.cancelled():
            work.result()
        elif self._stopping and not reply.started:
            await self._refuse(exchange, stopping())
        elif self._stopping:
            raise StreamCutError("the emulator has stopped")

    async def _exchange(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except ClientDisconnect:
            return
        except WireError as error:
            await self._refuse(exchange, error)
        except (StreamCutError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("the emulator failed to answer %s", exchange.reply.record)
            exchange.reply.record.error = error
            if exchange.reply.started:
                raise StreamCutError("the emulator failed") from error
            await self._refuse(exchange, as_wire_error(error, exchange.request_id))

    # ── routing and checks ───────────────────────────────────────────────────────────────

    async def _answer(self, exchange: Exchange) -> None:
        record = exchange.reply.record
        raw = await self._read(exchange.request)
        with suppress(WireError):
            record.body = parse_body(raw)
        v1 = self._route(exchange)
        watch = asyncio.ensure_future(_cancel_on_disconnect(exchange, asyncio.current_task()))
        try:
            await self._after_routing(exchange, raw, v1=v1)
        finally:
            watch.cancel()

    async def _read(self, request: Request) -> bytes:
        """The whole body. Of one that is too large as much again is thrown away, so that the client,
        which is still sending, gets to read its answer."""
        limit = self.resource.max_body
        pieces: list[bytes] = []
        size = 0
        async for piece in request.stream():
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
            elif size > 2 * limit:
                break
        if size > limit:
            raise too_large(limit)
        return b"".join(pieces)

    def _route(self, exchange: Exchange) -> bool:
        """Find the deployment; true for the v1 path, where the body names it."""
        record, request = exchange.reply.record, exchange.request
        path = request.scope["path"]
        classic, v1 = _CLASSIC.fullmatch(path), _V1.fullmatch(path)
        if not (classic or v1) or request.method in {"GET", "HEAD"}:
            raise resource_not_found()
        if classic and not request.query_params.get("api-version"):
            raise resource_not_found()
        if request.method != "POST":
            raise method_not_allowed()
        if classic:
            record.deployment = classic[1]
        elif record.body is not None and isinstance(record.body.get("model"), str):
            record.deployment = record.body["model"]
        exchange.deployment = record.deployment or ""
        return v1 is not None

    async def _after_routing(self, exchange: Exchange, raw: bytes, *, v1: bool) -> None:
        resource, deployment = self.resource, exchange.deployment
        delay = resource.faults.delays.take(deployment)
        if delay is not None:
            await asyncio.sleep(delay.seconds)
        scripted = resource.faults.answers.take(deployment)
        if isinstance(scripted, Answer):
            await exchange.reply.whole(
                scripted.status, self._headers(exchange, scripted.headers), scripted.content
            )
            return
        if scripted is not None:
            error = scripted.to_error(
                exchange.request_id, deployment, resource.region, quirks=resource.quirks
            )
            raise error
        resource.authenticate(exchange.request.headers, keys_as_bearer=v1)
        if v1 and not deployment:
            parse_body(raw)
            raise invalid_request("you must provide a model parameter")
        if deployment not in resource.deployments:
            raise deployment_not_found(resource.quirks)
        await self._ask(exchange, raw)

    async def _ask(self, exchange: Exchange, raw: bytes) -> None:
        exchange.model = self.resource.deployments[exchange.deployment]
        body = parse_body(raw)
        request = decode_request(body)
        check_request(request, body, exchange.model)
        tokens = len(raw) // 4 + (request.options.max_tokens or 0)
        exchange.quota = self.resource.quota_for(exchange.deployment).take(tokens)
        engine = self.resource.engine_for(exchange.deployment)
        if request.stream:
            await self._stream(exchange, request, engine)
        else:
            await self._complete(exchange, request, engine)

    # ── answers ──────────────────────────────────────────────────────────────────────────

    async def _complete(self, exchange: Exchange, request: ChatRequest, engine: LLMProvider) -> None:
        try:
            response = await engine.achat(request.messages, request.tools, options=request.options)
        except Exception as error:  # noqa: BLE001  whatever an engine raises, Azure would answer
            response = self._translated(exchange, error)
        body = encode_json(encode_response(response, self._completion(exchange, request)))
        headers = self._headers(exchange, {"content-type": JSON_TYPE}, from_model=True)
        await exchange.reply.whole(200, headers, body)

    async def _stream(self, exchange: Exchange, request: ChatRequest, engine: LLMProvider) -> None:
        encoder = StreamEncoder(self._completion(exchange, request))
        events = engine.astream_chat(request.messages, request.tools, options=request.options)
        async with aclosing(self._events(exchange, events)) as safe:
            first = await anext(safe, None)  # an error before the first event is an HTTP status
            if first is None:
                raise as_wire_error(
                    StreamInterruptedError("the engine's stream was empty"), exchange.request_id
                )
            chunks = self._chunks(encoder, first, safe)
            headers = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
            cut = self.resource.faults.cuts.take(exchange.deployment)
            await exchange.reply.start(200, self._headers(exchange, headers, from_model=True))
            async with aclosing(chunks):
                await self._send_chunks(exchange.reply, chunks, cut)

    async def _send_chunks(self, reply: Reply, chunks: AsyncIterator[bytes], cut: Cut | None) -> None:
        sent = 0
        async for chunk in chunks:
            if cut is not None and sent >= cut.after_chunks:
                if not cut.clean:
                    raise StreamCutError("this stream was to be cut")
                break
            await reply.write(chunk)
            sent += 1
            if self.resource.chunk_delay:
                await asyncio.sleep(self.resource.chunk_delay)
        await reply.end()

    async def _chunks(
        self, encoder: StreamEncoder, first: StreamEvent, rest: AsyncIterator[StreamEvent]
    ) -> AsyncGenerator[bytes, None]:
        for chunk in encoder.start():
            yield sse(chunk)
        for chunk in encoder.feed(first):
            yield sse(chunk)
        try:
            async for event in rest:
                for chunk in encoder.feed(event):
                    yield sse(chunk)
        except WireError as error:
            yield sse(error.body)  # the status has gone out already
            return
        if not encoder.ended:
            raise StreamCutError("the engine's stream broke off")
        for chunk in encoder.finish():
            yield sse(chunk)
        yield DONE

    async def _events(
        self, exchange: Exchange, events: AsyncIterator[StreamEvent]
    ) -> AsyncGenerator[StreamEvent, None]:
        """The engine's events; its errors as `WireError`, as a last event, or as the end."""
        try:
            async for event in events:
                yield event
        except StreamInterruptedError as error:
            exchange.reply.record.error = error
            if not exchange.reply.started:
                raise as_wire_error(error, exchange.request_id) from error
        except Exception as error:  # noqa: BLE001  whatever an engine raises, Azure would answer
            yield FinalResponse(self._translated(exchange, error))
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    def _translated(self, exchange: Exchange, error: Exception) -> Response:
        """The engine's ``error`` as the response it stands for, or raised as `WireError`."""
        exchange.reply.record.error = error
        if not isinstance(error, LoomError):
            log.error("the engine failed", exc_info=error)
        response = as_response(error)
        if response is None:
            raise as_wire_error(error, exchange.request_id, quirks=self.resource.quirks) from error
        return response

    def _completion(self, exchange: Exchange, request: ChatRequest) -> Completion:
        return Completion(exchange.model, int(time.time()), self.resource.quirks, request.include_usage)

    async def _refuse(self, exchange: Exchange, error: WireError) -> None:
        headers: dict[str, str] = {}
        if error.media_type is not None:
            headers["content-type"] = error.media_type
        if error.from_model and exchange.model:
            headers["ms-azureml-model-error-reason"] = "model_error"
            headers["ms-azureml-model-error-statuscode"] = str(error.status)
        headers.update(error.headers)
        body = error.body
        content = (
            body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else encode_json(body)
        )
        reached = error.from_model and bool(exchange.model)
        everything = self._headers(exchange, headers, from_model=reached, region=error.status != 401)
        await exchange.reply.whole(error.status, everything, content)

    def _headers(
        self, exchange: Exchange, own: Mapping[str, str], *, from_model: bool = False, region: bool = True
    ) -> dict[str, str]:
        headers = {
            "date": formatdate(usegmt=True),
            "apim-request-id": exchange.apim_id,
            "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
            "x-content-type-options": "nosniff",
        }
        if region:
            headers["x-ms-region"] = self.resource.region
        if from_model:
            headers["x-request-id"] = exchange.request_id
            headers["azureml-model-session"] = "d20260526124601-421ae15f"
            headers["x-ms-deployment-name"] = exchange.deployment
            headers["x-ms-served-model"] = exchange.model
            headers["x-ms-rai-invoked"] = "true"
            headers["x-ms-is-spilled-over"] = "false"
            headers["x-ratelimit-abusepenalty-active"] = "False"
            headers["x-ratelimit-key"] = exchange.deployment
            headers.update(exchange.quota or {})
        return {**headers, **{name.lower(): value for name, value in own.items()}}


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _cancel_on_disconnect(exchange: Exchange, work: asyncio.Task[Any] | None) -> None:
    message: ASGIMessage = {}
    while message.get("type") != "http.disconnect":
        message = await exchange.request.receive()
    if work is not None and not exchange.reply.complete:
        work.cancel()
