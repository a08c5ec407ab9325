"""Conversations that the server keeps, the ones used longest ago let go."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from loom_py.agent import Agent
from loom_py.messages import ImagePart, Message
from loom_py.serve.failures import HTTPError

__all__ = ["Place", "SessionShelf", "checked_id"]

HEADER = "X-Session-Id"
_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")


def checked_id(given: str) -> str:
    """A session's name as a client gave it. Raises `HTTPError`."""
    if not _ID.fullmatch(given):
        message = f"{HEADER} must be 1 to 128 letters, digits or . _ : @ -"
        raise HTTPError(400, message, code="invalid_session_id")
    return given


@dataclass(slots=True)
class Place:
    """One session: its agent, its name there, and who is in it."""

    agent: Agent
    id: str
    used: float
    users: int = 0
    size: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def known(self) -> tuple[Message, ...]:
        """What was said in it."""
        try:
            return self.agent.history(self.id)
        except KeyError:
            return ()


class SessionShelf:
    """The sessions of all callers: nobody can name another's. Used from one event loop.

    ``most`` are kept, in ``memory`` bytes altogether, each for ``ttl`` seconds after it was used last. The
    one used longest ago goes first; one in use is never let go.
    """

    def __init__(
        self, most: int, memory: int, ttl: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._memory = memory
        self._ttl = ttl
        self._clock = clock
        self._places: OrderedDict[tuple[str, str, str], Place] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    @asynccontextmanager
    async def taken(self, agent: Agent, model: str, caller: str, session: str) -> AsyncIterator[Place]:
        """The session, for one chat at a time, in the order they came."""
        self._let_go_of_old_ones()
        key = (model, caller, session)
        place = self._places.setdefault(key, Place(agent, "/".join(key), self._clock()))
        self._places.move_to_end(key)
        place.users += 1
        self._make_room()
        try:
            async with place.lock:
                yield place
        finally:
            place.users -= 1
            place.used = self._clock()
            place.size = _size(place.known)
            if not place.users and not place.size:  # nothing was answered: it is no session
                self._drop(key)
            self._make_room()

    def forget(self, caller: str, session: str) -> bool:
        """Forget a session with every model; whether there was one. Raises `HTTPError` while it is in use."""
        self._let_go_of_old_ones()
        found = [key for key in self._places if key[1:] == (caller, session)]
        if any(self._places[key].users for key in found):
            raise HTTPError(409, "a chat of this session is under way", code="session_in_use")
        for key in found:
            self._drop(key)
        return bool(found)

    def _let_go_of_old_ones(self) -> None:
        end = self._clock() - self._ttl
        for key in [key for key, place in self._places.items() if not place.users and place.used < end]:
            self._drop(key)

    def _make_room(self) -> None:
        size = sum(place.size for place in self._places.values())
        for key in [key for key, place in self._places.items() if not place.users]:
            if len(self._places) <= self._most and size <= self._memory:
                return
            size -= self._places[key].size
            self._drop(key)

    def _drop(self, key: tuple[str, str, str]) -> None:
        place = self._places.pop(key)
        place.agent.delete_session(place.id)


def _size(messages: Iterable[Message]) -> int:
    """About how many bytes they take in memory."""
    size = 0
    for message in messages:
        parts = (message.content,) if isinstance(message.content, str) else message.content
        for part in parts:
            size += sys.getsizeof(part.url if isinstance(part, ImagePart) else getattr(part, "text", part))
        size += sum(sys.getsizeof(call.arguments_json) for call in message.tool_calls)
    return size
