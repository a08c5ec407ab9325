"""The costs of an agent's whole life, kept in bounded space."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from loom_py.llm.costs.cost import Cost
from loom_py.llm.costs.report import CostReport

__all__ = ["CostLedger"]


class CostLedger:
    """Every call that was paid for, for any number of threads to write and read.

    The sums are exact for good. The detail is bounded: of chats the last ``keep_chats`` are told apart, and
    of sessions the last ``keep_sessions`` that had a call; what is older counts for its session, or for the
    agent alone.

    Raises `ValueError` where one of the two is less than 1.
    """

    def __init__(
        self, *, agent: str | None = None, keep_chats: int = 1_000, keep_sessions: int = 10_000
    ) -> None:
        if keep_chats < 1 or keep_sessions < 1:
            raise ValueError(f"keep_chats={keep_chats} and keep_sessions={keep_sessions} must be at least 1")
        self._agent = agent
        self._keep_chats = keep_chats
        self._keep_sessions = keep_sessions
        self._lock = threading.Lock()
        self._rest = CostReport()
        self._sessions: dict[str, CostReport] = {}
        self._chats: dict[tuple[str | None, str], CostReport] = {}

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
            report = self._open(chat, session)
            report.add(
                cost, deployment=deployment, chat=chat, session=session, agent=self._agent, failed=failed
            )
            self._fold()

    def report(self, *, chat: str | None = None, session: str | None = None) -> CostReport:
        """The costs of a chat, of a session, or, without either, of everything: a copy to keep.

        Raises `KeyError` for a chat or a session that had no call, or is no longer told apart.
        """
        with self._lock:
            found = CostReport(line for report in self._reports(chat, session) for line in report)
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

    def _reports(self, chat: str | None, session: str | None) -> Iterator[CostReport]:
        """Everything that is counted for a chat, a session, or at all."""
        if chat is None and session is None:
            yield self._rest
        if chat is None:
            yield from (
                report for name, report in self._sessions.items() if session is None or name == session
            )
        for (its_session, its_chat), report in self._chats.items():
            if chat in (None, its_chat) and session in (None, its_session):
                yield report

    def _open(self, chat: str | None, session: str | None) -> CostReport:
        """Where the calls of that chat are counted; it and its session are now the latest."""
        if session is not None:
            self._sessions[session] = self._sessions.pop(session, CostReport())
        if chat is None:
            return self._rest if session is None else self._sessions[session]
        report = self._chats.pop((session, chat), CostReport())
        self._chats[session, chat] = report
        return report

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
        lines = self._chats.pop(key).merged("chat")
        session = key[0]
        if session is None:
            self._rest += lines
        else:
            self._sessions[session] += lines

    def _fold_session(self, session: str) -> None:
        self._rest += self._sessions.pop(session, CostReport()).merged("session")
