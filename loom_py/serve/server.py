"""The server: listens, serves, and on SIGTERM lets what is under way come to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from loom_py._log import get_logger
from loom_py.agent import Agent
from loom_py.errors import ConfigError
from loom_py.serve import loops
from loom_py.serve.app import app_of
from loom_py.serve.config import ServeConfig
from loom_py.serve.files import connections_within
from loom_py.serve.protocol import BoundedProtocol
from loom_py.serve.service import Service

__all__ = ["GRACE", "OnReady", "Server", "listen", "serve", "serving", "url_of"]

GRACE = 2.0
"""Seconds for what was cut off to tell its client so."""

BACKLOG = 2048

_log = get_logger()
OnReady = Callable[[str], object]


class Server(uvicorn.Server):
    """uvicorn's server with our limits and our way to stop. Used once.

    ``drain()`` is the first SIGTERM: not ready any more, no new chats, what is under way is finished for up
    to ``drain_timeout`` seconds. ``force()`` is the second: what is under way is cut off.
    """

    def __init__(self, service: Service, on_ready: OnReady | None = None) -> None:
        config = service.config
        limits = {
            "max_connections": connections_within(config.max_connections),
            "header_timeout": config.header_timeout,
            "write_timeout": config.write_timeout,
        }
        super().__init__(
            uvicorn.Config(
                app_of(service),
                http=type("_Bounded", (BoundedProtocol,), limits),
                h11_max_incomplete_event_size=config.max_header,
                loop="asyncio",
                lifespan="on",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=max(1, round(config.keep_alive)),
            )
        )
        self._service = service
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self.was_cut = False
        self.url = ""

    def drain(self) -> None:
        """Begin to stop. Saying it again does nothing."""
        if not self._stopping.is_set():
            self._service.is_draining = True
            _log.info("draining", in_flight=len(self._service.running))
            self._stopping.set()

    def force(self) -> None:
        """Stop now."""
        self.drain()
        self._forced.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT, at once if they come again; and end as usual, not by the signal."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if self._stopping.is_set():
                self.force()
            else:
                self.drain()

        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            try:
                loop.add_signal_handler(number, stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
        try:
            yield
        finally:
            for number, handler in before.items():
                with suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
                signal.signal(number, handler)

    async def serve_in_worker(self, sockets: list[socket.socket]) -> None:
        """Serve as one of several, whose signals another process takes; SIGTERM just drains."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.drain)
        await self._serve(sockets)

    async def main_loop(self) -> None:
        """Say that it listens, and wait for the end."""
        self.url = url_of(self.servers[0].sockets[0])
        _log.info("serving", url=self.url, models=list(self._service.agents))
        if self._on_ready is not None:
            self._on_ready(self.url)
        while not self._stopping.is_set():
            await self.on_tick(0)  # the date in the answers
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let what is under way end, cut off what does not, and close."""
        config, state = self._service.config, self.server_state
        await self._unless_forced(config.drain_delay, lambda: False)
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        await asyncio.sleep(0.05)  # what has arrived by now is read, and told that the server stops
        for connection in list(state.connections):
            connection.shutdown()
        ended = await self._unless_forced(
            config.drain_timeout, lambda: not (state.tasks or state.connections)
        )
        if not ended:
            self.was_cut = bool(self._service.running)
            _log.warning("drain_cut", in_flight=len(self._service.running), forced=self._forced.is_set())
            self._service.cut()
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    while state.tasks or state.connections:  # noqa: ASYNC110 - uvicorn has no event for this
                        await asyncio.sleep(0.01)
            for connection in list(state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)
        await self.lifespan.shutdown()
        await self._service.close_agents()
        _log.info("stopped", cut=self.was_cut)

    async def _unless_forced(self, seconds: float, is_over: Callable[[], bool]) -> bool:
        """Wait until it is over; false where the time or the patience ended first."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not (over := is_over()) and loop.time() < until and not self._forced.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return over


def listen(config: ServeConfig) -> socket.socket:
    """The listening socket. Raises `ConfigError` where the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host.strip("[]"),
            config.port,
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_PASSIVE,
        )[0]
    except (OSError, ValueError):  # a name may also be one that cannot be asked for
        raise ConfigError(
            f"cannot listen on {config.host!r}: it is no address of this machine",
            field="host",
            hint="Give an address such as 127.0.0.1, or 0.0.0.0 for all.",
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise ConfigError(
            f"cannot listen on {config.host}:{config.port}: {exc.strerror}",
            field="port",
            hint="Choose another port, or 0 for any that is free.",
        ) from None
    return listener


def url_of(listener: Any) -> str:
    """Where a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    agents: Agent | Mapping[str, Agent],
    config: ServeConfig | None = None,
    *,
    on_ready: OnReady | None = None,
) -> int:
    """Serve ``agents`` until SIGTERM or SIGINT; 0 if all answers under way came to their end, else 1.

    ``on_ready`` is called with the URL once it listens. The agents are closed at the end, for their
    connections belong to the server's event loop. Raises `ConfigError`.
    """
    config = config or ServeConfig()
    with listen(config) as listener:
        service = Service(agents, config)

        async def main() -> Server:
            server = Server(service, on_ready)
            await server.serve(sockets=[listener])
            return server

        return int(loops.run(main()).was_cut)


@contextmanager
def serving(agents: Agent | Mapping[str, Agent], config: ServeConfig | None = None) -> Iterator[str]:
    """Serve in a thread while the block runs: for tests and notebooks. Gives the URL.

    Without ``config`` it takes any free port. At the end of the block answers under way are finished and
    the agents closed.
    """
    config = config or ServeConfig(port=0)
    listener = listen(config)
    try:
        service = Service(agents, config)
    except BaseException:
        listener.close()
        raise
    ready = threading.Event()
    found: list[Server | BaseException] = []
    running: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        running.append(asyncio.get_running_loop())
        server = Server(service, lambda _: ready.set())
        found.append(server)
        await server.serve(sockets=[listener])

    def target() -> None:
        try:
            loops.run(main())
        except BaseException as exc:  # noqa: BLE001 - raised again in the thread that waits
            found.insert(0, exc)
        finally:
            ready.set()

    thread = threading.Thread(target=target, name="loom-serve", daemon=True)
    thread.start()
    ready.wait()
    server = found[0]
    if isinstance(server, BaseException):
        raise server
    try:
        yield server.url
    finally:
        with suppress(RuntimeError):  # the loop has ended by itself
            running[0].call_soon_threadsafe(server.drain)
        thread.join()
