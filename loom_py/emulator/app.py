"""The emulator as an ASGI application: routing, checks, and who answers."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message as ASGIMessage
from starlette.types import Receive, Scope, Send

from loom_py.emulator.answering import send_answer
from loom_py.emulator.catalogue import CONNECTION_DROP, FAILURES, failure
from loom_py.emulator.decode import ChatRequest, parse_body
from loom_py.emulator.engine_errors import as_wire_error
from loom_py.emulator.exchange import ABORT, Exchange, Reply, StreamCutError
from loom_py.emulator.faults import Answer
from loom_py.emulator.filters import check_prompt
from loom_py.emulator.quotas import Ptu, Refusal, estimated_tokens
from loom_py.emulator.resource import RecordedRequest, Resource, masked
from loom_py.emulator.throttling import provisioned_full
from loom_py.emulator.upstream import AzureUpstream
from loom_py.emulator.wire_errors import (
    WireError,
    bad_http,
    stopping,
    too_large,
)

__all__ = ["EmulatorApp"]

log = logging.getLogger("loom_py.emulator")


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
            at=self.resource.clock.time(),
        )
        self.resource.log.add(record)
        began = self.resource.clock.now()
        reply = Reply(send, record, self.resource.clock)
        exchange = Exchange(self.resource, request, reply, str(uuid.uuid4()), str(uuid.uuid4()))
        work = asyncio.ensure_future(self._exchange(exchange))
        self._running.add(work)
        try:
            await asyncio.wait({work})
        finally:
            self._running.discard(work)
            if not work.done():  # the server cancelled us
                work.cancel()
                await asyncio.wait({work})
            record.seconds = self.resource.clock.now() - began
        if not work.cancelled():
            work.result()
        elif self._stopping and not reply.started:
            await exchange.refuse(stopping())
        elif self._stopping:
            raise StreamCutError("the emulator has stopped")

    async def _exchange(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except ClientDisconnect:
            return
        except WireError as error:
            await exchange.refuse(error)
        except (ConnectionResetError, asyncio.CancelledError):
            raise  # a StreamCutError above all: the server drops the connection
        except Exception as error:
            log.exception("the emulator failed to answer %s", exchange.reply.record)
            exchange.reply.record.error = error
            if exchange.reply.started:
                raise StreamCutError("the emulator failed") from error
            await exchange.refuse(as_wire_error(error, exchange.request_id))

    # ── routing and checks ───────────────────────────────────────────────────────────────

    async def _answer(self, exchange: Exchange) -> None:
        record = exchange.reply.record
        if _head_size(exchange.request) > self.resource.max_header:
            raise bad_http()
        raw = await self._read(exchange.request)
        with suppress(WireError):
            record.body = parse_body(raw)
        answer = self._route(exchange)
        if answer is not None:
            await exchange.answer(answer)
            return
        watch = asyncio.ensure_future(_cancel_on_disconnect(exchange, asyncio.current_task()))
        try:
            await self._after_routing(exchange, raw)
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

    def _route(self, exchange: Exchange) -> Answer | None:
        """Find the surface and the deployment, which most paths leave to the body."""
        dialect = self.resource.dialect
        dialect.locate(exchange)
        if isinstance(self.resource.engine_for(exchange.deployment), AzureUpstream):
            return None  # the upstream knows its own paths
        return dialect.route(exchange)

    async def _after_routing(self, exchange: Exchange, raw: bytes) -> None:
        resource, deployment = self.resource, exchange.deployment
        fault = await self._trouble(exchange)
        if fault is not None:
            await exchange.answer(fault)
            return
        resource.dialect.authenticate(exchange)
        engine = resource.engine_for(deployment)
        if isinstance(engine, AzureUpstream):
            await engine.forward(exchange.request, raw, exchange.reply)
            return
        if not deployment:
            parse_body(raw)
        if deployment not in resource.deployments:
            raise resource.dialect.not_found(exchange)
        exchange.model = resource.deployments[deployment]
        body = parse_body(raw)
        request = exchange.surface.decode(body)
        self._count(exchange, request)
        exchange.surface.check(request, body, exchange.model)
        check_prompt(resource.filters, request)
        await send_answer(exchange, request, engine)

    async def _trouble(self, exchange: Exchange) -> WireError | Answer | None:
        """What a test scripted or the fault plan wants instead of an answer, after its delays."""
        resource, deployment = self.resource, exchange.deployment
        delay = resource.faults.delays.take(deployment)
        if delay is not None:
            await resource.clock.asleep(delay.seconds)
        scripted = resource.faults.answers.take(deployment)
        if isinstance(scripted, Answer):
            return scripted
        if scripted is not None:
            return scripted.to_error(
                exchange.request_id,
                deployment,
                resource.region,
                quirks=resource.quirks,
                worded=lambda error: resource.dialect.worded(error, exchange),
            )
        if resource.plan is None:
            return None
        effects = exchange.effects = resource.plan.next(deployment)
        exchange.reply.record.fault = str(effects)
        exchange.reply.bytes_per_second = effects.bytes_per_second
        if effects.delay:
            await resource.clock.asleep(effects.delay)
        if effects.hang:
            await asyncio.Event().wait()  # until the client or the emulator gives up
        if effects.error == CONNECTION_DROP:
            exchange.request.scope.get(ABORT, lambda: None)()
            raise StreamCutError("this connection was to be dropped")
        return failure(effects.error, exchange.situation) if effects.error in FAILURES else None

    def _count(self, exchange: Exchange, request: ChatRequest) -> None:
        """Count the request against its deployment's quota. Raises `WireError` (429)."""
        deployment = exchange.deployment
        outcome = self.resource.meter_for(deployment).admit(estimated_tokens(request))
        if not isinstance(outcome, Refusal):
            exchange.grant = outcome
            return
        quota = self.resource.quotas[deployment]
        if isinstance(quota, Ptu):
            raise provisioned_full(outcome.wait)
        raise self.resource.dialect.throttled(exchange, quota, outcome)


def _head_size(request: Request) -> int:
    """Bytes of the request line and the headers, about; the server only limits heads it waits for."""
    lines = [len(name) + len(value) + 4 for name, value in request.headers.raw]
    return sum(lines) + len(request.scope["path"]) + len(request.scope["query_string"])


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
