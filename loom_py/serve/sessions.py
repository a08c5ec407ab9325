"""Conversations that the server keeps, the ones used longest ago let go."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from loom_py.agent import Agent
from loom_py.messages import Message
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

    ``most`` are kept, each for ``ttl`` seconds after it was used last; one in use is never let go.
    """

    def __init__(self, most: int, ttl: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._ttl = ttl
        self._clock = clock
        self._places: OrderedDict[tuple[str, str, str], Place] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    @asynccontextmanager
    async def taken(self, agent: Agent, model: str, caller: str, session: str) -> AsyncIterator[Place]:
        """The session, for one chat at a time, in the order they came."""
        self._let_go()
        key = (model, caller, session)
        place = self._places.setdefault(key, Place(agent, f"{caller}/{session}", self._clock()))
        self._places.move_to_end(key)
        place.users += 1
        try:
            async with place.lock:
                yield place
        finally:
            place.users -= 1
            place.used = self._clock()
            if not place.users and not place.known:  # nothing was answered: it is no session
                self._places.pop(key, None)
                agent.delete_session(place.id)

    def forget(self, caller: str, session: str) -> bool:
        """Forget a session with every model; whether there was one. Raises `HTTPError` while it is in use."""
        found = [key for key in self._places if key[1:] == (caller, session)]
        if any(self._places[key].users for key in found):
            raise HTTPError(409, "a chat of this session is under way", code="session_in_use")
        for key in found:
            self._drop(key)
        return bool(found)

    def _let_go(self) -> None:
        now = self._clock()
        idle = [key for key, place in self._places.items() if not place.users]
        more = len(self._places) - self._most + 1
        for number, key in enumerate(idle):
            if number < more or now - self._places[key].used > self._ttl:
                self._drop(key)

    def _drop(self, key: tuple[str, str, str]) -> None:
        place = self._places.pop(key)
        place.agent.delete_session(place.id)
