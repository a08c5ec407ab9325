"""HTTP/1.1 on the wire: uvicorn's, with limits on time and connections."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from loom_py.serve.failures import HTTPError, failure_of

__all__ = ["BoundedProtocol"]

LEAST_TAKEN = 16 * 1024
"""Bytes that a client takes within the time to write, or all that is left."""

_quiet = logging.getLogger("loom_py.serve.http")
_quiet.disabled = True  # what clients do wrong is answered, and a client that hangs up is no error


class BoundedProtocol(H11Protocol):
    """A connection on which a request's head must arrive in time, and answers must be taken in time.

    uvicorn bounds only the silence between requests, and any byte ends that silence; who sends a head
    byte by byte, or does not read an answer, would be waited for without end.
    """

    max_connections = 2000
    header_timeout = 10.0
    write_timeout = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._has_begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or turn away what is too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # what the system does not take at once is waited for
        if len(self.connections) > self.max_connections:
            message = f"{self.max_connections} connections are open already"
            self._say(HTTPError(503, message, code="too_many_connections", retry_after=1))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more to wait for."""
        self._head_has_come()
        self._stop_write_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Listen, unless this connection has been turned away."""
        if self.transport.is_closing():
            return
        self._has_begun = True
        super().data_received(data)
        if self._is_busy():
            self._head_has_come()
        else:
            self._expect_head()

    def pause_writing(self) -> None:
        """The client does not take what it is sent as fast as it comes."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """The client has taken it all."""
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP. An answer that has begun is broken off: nothing fits into it."""
        if self._is_busy() and self.cycle.response_started:
            self.transport.abort()
            return
        self._say(HTTPError(400, "this is not HTTP, or its head is too large", code="invalid_http"))

    def _is_busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.header_timeout, self._too_slow)

    def _head_has_come(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self._is_busy():
            return
        if self._has_begun and self.cycle is None:
            message = f"the request's head did not arrive within {self.header_timeout:g} s"
            self._say(HTTPError(408, message, code="request_timeout"))
        else:
            self.transport.close()

    def _wait_for_reader(self) -> None:
        left = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() > max(0, left - LEAST_TAKEN):
                self.transport.abort()
            else:
                self._wait_for_reader()

        self._write_timer = self.loop.call_later(self.write_timeout, look)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _say(self, error: HTTPError) -> None:
        """Write a whole answer without the help of a state machine that may have given up, and hang up."""
        failure = failure_of(error, from_agent=False)
        headers = {**failure.headers, "content-length": str(len(failure.body)), "connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        status = f"HTTP/1.1 {failure.status} {HTTPStatus(failure.status).phrase}\r\n"
        self.transport.write((status + head + "\r\n").encode("latin-1") + failure.body)
        self.transport.close()
