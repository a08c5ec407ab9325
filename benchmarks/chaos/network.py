"""Sockets of the sync verbs that wait on the loop of virtual time, so that their timeouts go by it too.

Connections are real TCP. Only who waits for them is another: httpx2's blocking reads would wait in the
kernel, by the machine's clock.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpcore2
import httpx2

from benchmarks.chaos.virtual_time import VirtualTimeLoop

__all__ = ["sync_client"]

T = TypeVar("T")


def sync_client(loop: VirtualTimeLoop) -> httpx2.Client:
    """A client for threads of ``loop.run_thread``; close it when they are done."""
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
    transport = httpx2.HTTPTransport(limits=limits, trust_env=False)
    pool: Any = transport._pool
    pool._network_backend = _Backend(loop)
    return httpx2.Client(transport=transport, trust_env=False)


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = _Stream(self._loop, connection)
        try:
            stream.wait(
                lambda: self._loop.sock_connect(connection, (host, port)),
                timeout,
                httpcore2.ConnectTimeout,
                httpcore2.ConnectError,
            )
        except BaseException:
            connection.close()
            raise
        return stream


class _Stream(httpcore2.NetworkStream):
    def __init__(self, loop: VirtualTimeLoop, connection: socket.socket) -> None:
        self._loop = loop
        self._connection = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.wait(
            lambda: self._loop.sock_recv(self._connection, max_bytes),
            timeout,
            httpcore2.ReadTimeout,
            httpcore2.ReadError,
        )

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.wait(
            lambda: self._loop.sock_sendall(self._connection, buffer),
            timeout,
            httpcore2.WriteTimeout,
            httpcore2.WriteError,
        )

    def close(self) -> None:
        self._connection.close()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of an idle connection: the server has hung up if it is
            try:
                self._connection.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return False
            except OSError:
                return True
            return True
        return self._connection if info == "socket" else None

    def wait(
        self,
        io: Callable[[], Coroutine[Any, Any, T]],
        timeout: float | None,
        late: type[Exception],
        broken: type[Exception],
    ) -> T:
        """Do ``io`` on the loop, in so many virtual seconds at most."""

        async def bounded() -> T:
            async with asyncio.timeout(timeout):
                return await io()

        try:
            return self._loop.wait_in_thread(bounded)
        except TimeoutError as error:
            raise late(str(error)) from error
        except OSError as error:
            raise broken(str(error)) from error
