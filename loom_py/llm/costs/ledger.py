"""The costs of an agent's whole life, kept in bounded space."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from loom_py.llm.costs.cost import Cost
from loom_py.llm.costs.report import CostReport
from loom_py.llm.costs.sums import Sums

__all__ = ["CostLedger"]

Key = TypeVar("Key")


class CostLedger:
    """Every call that was paid for, for any number of threads to write and read.

    The sums are exact for good. The detail is bounded: of chats the last ``keep_chats`` are told apart, and
    of sessions the last ``keep_sessions`` that had a call; what is older counts for its session, or for the
    agent alone.

    Raises `ValueError` where one of the two is less than 1.
    """

    __slots__ = ("_agent", "_chats", "_keep_chats", "_keep_sessions", "_lock", "_rest", "_sessions")

    def __init__(
        self, *, agent: str | None = None, keep_chats: int = 1_000, keep_sessions: int = 10_000
    ) -> None:
        if keep_chats < 1 or keep_sessions < 1:
            raise ValueError(f"keep_chats={keep_chats} and keep_sessions={keep_sessions} must be at least 1")
        self._agent = agent
        self._keep_chats = keep_chats
        self._keep_sessions = keep_sessions
        self._lock = threading.Lock()
        self._rest = Sums()
        self._sessions: dict[str, Sums] = {}
        self._chats: dict[tuple[str | None, str], Sums] = {}

    def add(
        self,
        cost: Cost,
        *,
        deployment: str = "",
        chat: str | None = None,
        session: str | None = None,
        failed: bool = False,
    ) -> None:
        """Count one call of a chat. ``failed`` says that it failed after it was billed."""
        with self._lock:
            self._open(chat, session).add(cost, deployment, chat, session, self._agent, failed=failed)
            if len(self._chats) > self._keep_chats or len(self._sessions) > self._keep_sessions:
                self._fold()

    def report(self, *, chat: str | None = None, session: str | None = None) -> CostReport:
        """The costs of a chat, of a session, or, without either, of everything: a copy to keep.

        Raises `KeyError` for a chat or a session that had no call, or is no longer told apart.
        """
        with self._lock:
            found = CostReport(line for sums in self._found(chat, session) for line in sums)
        if not found.calls and (chat is not None or session is not None):
            raise KeyError(session if chat is None else chat)
        return found

    def forget(self, session: str) -> None:
        """Tell a session and its chats apart no more, as when it is deleted; the sums stay."""
        with self._lock:
            for key in [key for key in self._chats if key[0] == session]:
                self._fold_chat(key)
            self._fold_session(session)

    def __repr__(self) -> str:
        return f"CostLedger({self.report()!r})"

    def _found(self, chat: str | None, session: str | None) -> Iterator[Sums]:
        """Everything that is counted for a chat, a session, or at all."""
        if chat is None and session is None:
            yield self._rest
        if chat is None:
            yield from (sums for name, sums in self._sessions.items() if session is None or name == session)
        for (its_session, its_chat), sums in self._chats.items():
            if chat in (None, its_chat) and session in (None, its_session):
                yield sums

    def _open(self, chat: str | None, session: str | None) -> Sums:
        """Where the calls of that chat are counted; it and its session are now the latest."""
        found = self._rest
        if session is not None:
            found = _latest(self._sessions, session)
        if chat is not None:
            found = _latest(self._chats, (session, chat))
        return found

    def _fold(self) -> None:
        """Give up the detail of the oldest, beyond what is kept."""
        while len(self._chats) > self._keep_chats:
            self._fold_chat(next(iter(self._chats)))
        while len(self._sessions) > self._keep_sessions:
            oldest = next(iter(self._sessions))
            for key in [key for key in self._chats if key[0] == oldest]:
                self._fold_chat(key)
            self._fold_session(oldest)

    def _fold_chat(self, key: tuple[str | None, str]) -> None:
        """A chat's sums become its session's, without the chat's name."""
        session = key[0]
        into = self._rest if session is None else self._sessions[session]
        lines = self._chats.pop(key)
        into.add_lines(replace(line, key=line.key._replace(chat=None)) for line in lines)

    def _fold_session(self, session: str) -> None:
        lines = self._sessions.pop(session, ())
        self._rest.add_lines(replace(line, key=line.key._replace(session=None)) for line in lines)


def _latest(known: dict[Key, Sums], key: Key) -> Sums:
    """The sums of ``key``, which are now the last in the order."""
    found = known.pop(key, None)
    if found is None:
        found = Sums()
    known[key] = found
    return found
