"""An agent's events as a stream of chunks."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from loom_py.errors import StreamInterruptedError
from loom_py.events import (
    StreamEvent,
    StreamRestarted,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResultEvent,
    UsageEvent,
)
from loom_py.messages import JSONObject, Response
from loom_py.resilience.events import PolicyEvent
from loom_py.serve.answers import ALIVE, Chunks, loom_facts, sse
from loom_py.serve.exchange import ClientGoneError, Exchange
from loom_py.serve.failures import Failure

__all__ = ["EventLog", "StreamWriter"]

_TOLD = (ToolCallStarted, ToolCallCompleted, ToolResultEvent, UsageEvent, StreamRestarted)

PULSE = 1.0
"""Seconds between looks at what policies have decided meanwhile."""

SILENCE = 15
"""Pulses after which a silent stream shows that it is alive."""

_MOST_KEPT = 10_000


class EventLog:
    """What happened on the way to an answer, for a client that asked for it. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[JSONObject] = []

    def take(self, event: StreamEvent) -> None:
        """Something happened in the agent; text is no part of the log."""
        if isinstance(event, _TOLD):
            self._add(event.to_dict())

    def hear(self, event: PolicyEvent) -> None:
        """A policy decided something."""
        self._add({"type": "policy", "name": event.name, **event.fields()})

    def taken(self) -> list[JSONObject]:
        """What happened since this was asked last."""
        with self._lock:
            events, self._events = self._events, []
        return events

    def _add(self, event: JSONObject) -> None:
        with self._lock:
            if len(self._events) < _MOST_KEPT:
                self._events.append(event)


class StreamWriter:
    """Writes one stream, which begins with the first event; so an error before it has a status of its own."""

    def __init__(self, exchange: Exchange, chunks: Chunks, events: EventLog | None) -> None:
        self._exchange = exchange
        self._chunks = chunks
        self._events = events
        self._pulse: asyncio.Task[None] | None = None
        self._silent = 0
        self._has_text = False
        self._tools_ran = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.wait({self._pulse})

    async def take(self, event: StreamEvent) -> None:
        """Something happened. Raises `StreamInterruptedError` where text that was shown is taken back."""
        if self._events is not None:
            self._events.take(event)
        await self._begin()
        if isinstance(event, StreamRestarted) and event.discarded and self._events is None:
            raise StreamInterruptedError("the answer broke off and began anew")
        if isinstance(event, ToolResultEvent):
            self._tools_ran = True
        await self._tell_events()
        if event.delta:
            await self._write(self._chunks.text(self._apart() + event.delta))

    async def end(self, response: Response) -> None:
        """The end of an answer that is whole."""
        await self._begin()
        await self._tell_events()
        if self._events is not None:
            await self._write(self._chunks.loom(loom_facts(response)))
        await self._exchange.stream(self._chunks.end(response), more=False)

    async def fail(self, failure: Failure) -> None:
        """The end of one that is not: an event of the kind ``error``, and no ``[DONE]``."""
        await self._exchange.stream(sse({"error": failure.error}, event="error"), more=False)

    def _apart(self) -> str:
        """What stands between the text before a tool was used and the text after it."""
        gap = "\n\n" if self._tools_ran and self._has_text else ""
        self._tools_ran, self._has_text = False, True
        return gap

    async def _begin(self) -> None:
        if not self._exchange.started:
            await self._exchange.begin_stream()
            await self._write(self._chunks.begin())
            self._pulse = asyncio.create_task(self._beat())

    async def _tell_events(self) -> None:
        if self._events is not None and (events := self._events.taken()):
            await self._write(b"".join(map(self._chunks.loom, events)))

    async def _write(self, data: bytes) -> None:
        self._silent = 0
        await self._exchange.stream(data)

    async def _beat(self) -> None:
        """Tell what policies decide while nothing else happens, and keep the connection alive."""
        try:
            while True:
                await asyncio.sleep(PULSE)
                self._silent += 1
                await self._tell_events()
                if self._silent >= SILENCE:
                    await self._write(ALIVE)
        except ClientGoneError:
            return  # whoever writes next finds out as well
