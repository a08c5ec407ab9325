"""The model's answer: asked for, filtered, spoiled where a fault wants it, encoded and sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from loom_py.emulator.decode import ChatRequest
from loom_py.emulator.encode import Completion, encode_json
from loom_py.emulator.engine_errors import as_response, as_wire_error
from loom_py.emulator.exchange import Exchange, StreamCutError
from loom_py.emulator.faults import Cut
from loom_py.emulator.filters import Filtering, filter_events, filter_response
from loom_py.emulator.surface import Encoder
from loom_py.emulator.wire_errors import JSON_TYPE, WireError, filter_down, server_error
from loom_py.errors import LoomError, StreamInterruptedError
from loom_py.events import FinalResponse, StreamEvent
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Response

__all__ = ["send_answer"]

log = logging.getLogger("loom_py.emulator")


async def send_answer(exchange: Exchange, request: ChatRequest, engine: LLMProvider) -> None:
    """Ask ``engine`` and answer in the way of the exchange's surface."""
    twist = exchange.effects.error
    filtering = Filtering(
        exchange.resource.filters,
        always=twist == "content-filter-completion",
        always_late=twist == "content-filter-async",
    )
    completion = Completion(
        exchange.model,
        int(exchange.resource.clock.time()),
        exchange.resource.quirks,
        request.include_usage,
        deployment=exchange.deployment,
        filtering=filtering,
    )
    if request.stream and twist != "json-for-stream":
        await _Stream(exchange, request, completion).send(engine)
    else:
        await _complete(exchange, request, engine, completion)


async def _complete(
    exchange: Exchange, request: ChatRequest, engine: LLMProvider, completion: Completion
) -> None:
    try:
        response = await engine.achat(request.messages, request.tools, options=request.options)
    except Exception as error:  # noqa: BLE001  whatever an engine raises, Azure would answer
        response = _translated(exchange, error)
    if exchange.effects.error == "empty-length":
        response = _thought_too_long(response)
    response = filter_response(response, completion.filtering)
    _settle(exchange, response)
    if exchange.effects.error == "content-filter-down":
        completion = replace(completion, filter_down=True)
    body = encode_json(exchange.shaped(exchange.surface.whole(response, completion)))
    headers = exchange.headers({"content-type": JSON_TYPE}, from_model=True)
    await exchange.reply.whole(200, headers, body)


def _settle(exchange: Exchange, response: Response) -> None:
    exchange.reply.record.usage = response.tokens_used
    if exchange.grant is not None:
        exchange.resource.meter_for(exchange.deployment).settle(exchange.grant, response.tokens_used)


def _thought_too_long(response: Response) -> Response:
    """All its tokens went into reasoning."""
    usage = replace(response.tokens_used, reasoning=response.tokens_used.output)
    return replace(response, message="", tool_calls=(), finish_reason="length", tokens_used=usage)


def _translated(exchange: Exchange, error: Exception) -> Response:
    """The engine's ``error`` as the response it stands for, or raised as `WireError`."""
    exchange.reply.record.error = error
    if not isinstance(error, LoomError):
        log.error("the engine failed", exc_info=error)
    response = as_response(error)
    if response is None:
        raise as_wire_error(error, exchange.request_id, quirks=exchange.resource.quirks) from error
    return response


class _Stream:
    """One answer that is streamed."""

    def __init__(self, exchange: Exchange, request: ChatRequest, completion: Completion) -> None:
        self.exchange = exchange
        self.request = request
        self.completion = completion
        self.surface = exchange.surface
        self.encoder: Encoder = exchange.surface.encoder(completion)

    async def send(self, engine: LLMProvider) -> None:
        exchange, request = self.exchange, self.request
        events = self._events(engine.astream_chat(request.messages, request.tools, options=request.options))
        filtered = filter_events(events, request, self.completion.filtering)
        async with aclosing(filtered):
            first = await anext(filtered, None)  # an error before the first event is an HTTP status
            if first is None:
                raise as_wire_error(
                    StreamInterruptedError("the engine's stream was empty"), exchange.request_id
                )
            chunks = self._spoiled(self._chunks(first, filtered))
            headers = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
            cut = exchange.resource.faults.cuts.take(exchange.deployment) or exchange.effects.cut
            await exchange.reply.start(200, exchange.headers(headers, from_model=True))
            async with aclosing(chunks):
                await self._send_chunks(chunks, cut)

    async def _send_chunks(self, chunks: AsyncIterator[bytes], cut: Cut | None) -> None:
        reply, resource, sent = self.exchange.reply, self.exchange.resource, 0
        async for chunk in chunks:
            if not chunk:
                continue
            if cut is not None and sent >= cut.after_chunks:
                if not cut.clean:
                    raise StreamCutError("this stream was to be cut")
                break
            if sent == self.exchange.effects.stall_after_chunks:
                await asyncio.Event().wait()  # until the client or the emulator gives up
            await reply.write(chunk)
            sent += 1
            if resource.chunk_delay:
                await resource.clock.asleep(resource.chunk_delay)
        await reply.end()

    async def _chunks(
        self, first: StreamEvent, rest: AsyncIterator[StreamEvent]
    ) -> AsyncGenerator[bytes, None]:
        encoder = self.encoder
        for chunk in encoder.start():
            yield self._frame(chunk)
        for chunk in encoder.feed(first):
            yield self._frame(chunk)
        try:
            async for event in rest:
                for chunk in encoder.feed(event):
                    yield self._frame(chunk)
        except WireError as error:
            yield self._frame(encoder.error(self._worded(error)))  # the status has gone out already
            return
        if encoder.final is None:
            raise StreamCutError("the engine's stream broke off")
        _settle(self.exchange, encoder.final)
        for chunk in encoder.finish():
            yield self._frame(chunk)
        if self.surface.end:
            yield self.surface.end

    def _frame(self, chunk: dict[str, Any]) -> bytes:
        """A chunk as it goes out, which may be nothing at all."""
        shaped = self.exchange.shaped(chunk)
        return self.surface.frame(shaped) if shaped is not None else b""

    def _worded(self, error: WireError) -> WireError:
        return self.exchange.resource.dialect.worded(error, self.exchange)

    async def _spoiled(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The chunks, until the exchange's fault breaks in after the first that holds text."""
        errors = {
            "stream-error": server_error(self.exchange.request_id),
            "content-filter-down": filter_down(),
        }
        twist = self.exchange.effects.error or ""
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
                if twist in errors and self.encoder.begun:
                    yield self._frame(self.encoder.error(self._worded(errors[twist])))
                    return
                if twist == "broken-sse" and self.encoder.begun:
                    yield b'data: {"choices":[{"delta":{"cont'
                    return

    async def _events(self, events: AsyncIterator[StreamEvent]) -> AsyncGenerator[StreamEvent, None]:
        """The engine's events; its errors as `WireError`, as a last event, or as the end."""
        exchange = self.exchange
        try:
            async for event in events:
                if exchange.effects.error == "empty-length":
                    if event.response is None:
                        continue
                    event = FinalResponse(_thought_too_long(event.response))
                yield event
        except StreamInterruptedError as error:
            exchange.reply.record.error = error
            if not exchange.reply.started:
                raise as_wire_error(error, exchange.request_id) from error
        except Exception as error:  # noqa: BLE001  whatever an engine raises, Azure would answer
            yield FinalResponse(_translated(exchange, error))
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
