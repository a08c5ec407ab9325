"""Connecting to a host that has several addresses, without waiting long for one that is dead.

As RFC 8305 ("happy eyeballs") has it: the addresses of both families in turn, the next one tried while the
one before is still silent, and the first connection wins. A cancelled attempt leaves no task and no socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

__all__ = ["dial"]

DELAY = 0.25
"""Seconds after which the next address is tried too (RFC 8305, section 5)."""

_Info: TypeAlias = tuple[int, int, int, str, Any]


async def dial(host: str, port: int, local_address: str | None = None) -> socket.socket:
    """A connected, non-blocking socket. Raises `OSError`, of the first address if there are several."""
    loop = asyncio.get_running_loop()
    addresses = in_turn(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    if len(addresses) == 1:
        return await _connect(addresses[0], local_address)
    attempts: list[asyncio.Task[socket.socket]] = []
    winner: socket.socket | None = None
    try:
        for address in (*addresses, None):
            if address is not None:
                attempts.append(loop.create_task(_connect(address, local_address)))
            while waiting := [task for task in attempts if not task.done()]:
                last = None if address is None else DELAY
                done, _ = await asyncio.wait(waiting, timeout=last, return_when=asyncio.FIRST_COMPLETED)
                if (winner := _first(done)) is not None:
                    return winner
                if address is not None:  # it was silent for long enough, or has failed
                    break
        assert attempts
        raise next(error for task in attempts if (error := task.exception()) is not None)
    finally:
        await _end(attempts, winner)


def in_turn(addresses: Sequence[_Info]) -> list[_Info]:
    """The addresses with their families taking turns, in the resolver's order."""
    families: dict[int, list[_Info]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for turn in zip_longest(*families.values()) for address in turn if address is not None]


async def _connect(address: _Info, local_address: str | None) -> socket.socket:
    family, kind, protocol, _, where = address
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        if local_address is not None:
            made.bind((local_address, 0))
        await asyncio.get_running_loop().sock_connect(made, where)
    except BaseException:
        made.close()
        raise
    return made


def _first(done: Iterable[asyncio.Task[socket.socket]]) -> socket.socket | None:
    return next(_connected(done), None)


def _connected(tasks: Iterable[asyncio.Task[socket.socket]]) -> Iterator[socket.socket]:
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            yield task.result()


async def _end(attempts: list[asyncio.Task[socket.socket]], winner: socket.socket | None) -> None:
    """End what still runs, and close what came too late."""
    for task in attempts:
        task.cancel()
    if waiting := [task for task in attempts if not task.done()]:
        await asyncio.wait(waiting)
    for late in _connected(attempts):
        if late is not winner:
            late.close()
