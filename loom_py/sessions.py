"""Conversations kept in memory, one per session id."""

from __future__ import annotations

import threading

from loom_py._concurrency import FairLock
from loom_py.messages import Message

__all__ = ["Session", "Sessions"]


class Session:
    """One conversation. Chats on it take turns, in order of arrival."""

    __slots__ = ("id", "lock", "messages")

    def __init__(self, id: str | None) -> None:
        self.id = id
        self.lock = FairLock()
        self.messages: tuple[Message, ...] = ()


class Sessions:
    """All conversations of an agent. A chat without a session id gets one of its own, not kept.

    A session in which nothing was answered yet is none.
    """

    __slots__ = ("_lock", "_sessions")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def get(self, session_id: str | None) -> Session:
        """The session of that id, begun if it is new."""
        if session_id is None:
            return Session(None)
        with self._lock:
            return self._sessions.setdefault(session_id, Session(session_id))

    def ids(self) -> tuple[str, ...]:
        """The ids of all sessions that are kept, oldest first."""
        with self._lock:
            return tuple(name for name, session in self._sessions.items() if session.messages)

    def messages(self, session_id: str) -> tuple[Message, ...]:
        """The messages of a session, without the system prompt. Raises `KeyError` if there is none."""
        with self._lock:
            session = self._sessions.get(session_id)
        if session is None or not session.messages:
            raise KeyError(session_id)
        return session.messages

    def delete(self, session_id: str) -> bool:
        """Forget a session; whether there was one."""
        with self._lock:
            session = self._sessions.pop(session_id, None)
        return session is not None and bool(session.messages)
