"""The loopback server: uvicorn in a thread of its own, with an end to everything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from http import HTTPStatus
from typing import Any, cast

from loom_py.emulator.limits import Limits, missing

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError as error:
    raise missing(error.name) from error

from loom_py.emulator.app import EmulatorApp
from loom_py.emulator.encode import encode_json
from loom_py.emulator.exchange import ABORT
from loom_py.emulator.wire_errors import WireError, bad_http, too_many_connections

__all__ = ["ServerThread"]

KEEP_ALIVE = 75
"""Seconds an idle connection stays open: longer than any client's pool keeps it."""

_quiet = logging.getLogger("loom_py.emulator.http")
_quiet.disabled = True  # a stream that is cut on purpose is no error to report


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, with its complaints about cut streams kept out of everybody's logs."""

    max_connections = 1000

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turn away what is too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            _say(transport, too_many_connections(self.max_connections))
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Listen, unless this connection has been turned away."""
        if not self.transport.is_closing():
            super().data_received(data)
            if self.scope is not None:  # the request's task has not begun yet
                cast("dict[str, Any]", self.scope)[ABORT] = self.transport.abort

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP gets Azure's JSON too."""
        _say(self.transport, bad_http())
        self.transport.close()


def _say(transport: asyncio.Transport, error: WireError) -> None:
    """Write a whole answer, without the help of a protocol that has given up."""
    body = encode_json(error.body)
    headers = {
        **error.headers,
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    phrase = HTTPStatus(error.status).phrase
    transport.write(f"HTTP/1.1 {error.status} {phrase}\r\n{head}\r\n".encode("latin-1") + body)


class _Server(uvicorn.Server):
    """uvicorn's server, told to stop by an event rather than by polling."""

    def __init__(self, config: uvicorn.Config, app: EmulatorApp, ready: threading.Event) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        self._ready.set()
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        self._app.abort()
        deadline = asyncio.get_running_loop().time() + 2.0
        while self._busy() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)  # uvicorn has no event for this
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await asyncio.sleep(0)

    def _busy(self) -> bool:
        return bool(self.server_state.tasks or self.server_state.connections)


def _listening(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    The protocol is named, for asyncio switches off the delay of small writes only where it is; a
    keep-alive connection would wait 40 ms for each answer otherwise.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


class ServerThread:
    """A thread with its own event loop that serves ``app``; it serves when the constructor returns."""

    def __init__(self, app: EmulatorApp, host: str, port: int, limits: Limits) -> None:
        self._socket = _listening(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._app = app
        self._limits = limits
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name=f"azure-emulator-{self.port}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self.stop()
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits for us
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        config = uvicorn.Config(
            self._app,
            http=type("_Bounded", (_Protocol,), {"max_connections": self._limits.connections}),
            h11_max_incomplete_event_size=self._limits.header,
            loop="asyncio",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        self._loop = asyncio.get_running_loop()
        self._server = _Server(config, self._app, self._ready)
        await self._server.serve(sockets=[self._socket])

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return 0 if self._server is None else len(self._server.server_state.connections)

    def stop(self) -> None:
        if self._loop is not None and self._server is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._server.stopping.set)
        self._thread.join()
        self._socket.close()
