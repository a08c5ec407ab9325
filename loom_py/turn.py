"""One chat on its way through an agent: what belongs to it, its log events and its context."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from loom_py._chat import chat_id
from loom_py._log import get_logger
from loom_py.errors import LoomError
from loom_py.events import FinalResponse, StreamEvent, TextDelta
from loom_py.loop import AgentRun
from loom_py.messages import Message, Response, TokenUsage, ToolResult, ToolSpec
from loom_py.options import ChatOptions
from loom_py.sessions import Session

__all__ = ["Turn", "is_waited_for"]

_log = get_logger()

_under_way: ContextVar[tuple[Turn, ...]] = ContextVar("loom_py_chats", default=())
"""The chats that run the code that asks: a tool that chats in its own session would wait for ever."""


@dataclass(slots=True)
class Turn:
    """One chat on its way: its session, its run through the loop and what its log events carry.

    ``said`` is what the caller said, ``foreign`` the tools that the caller runs. ``deadline`` is when it must
    be over, on the gateway's clock.
    """

    session: Session
    run: AgentRun
    said: tuple[Message, ...]
    options: ChatOptions | None
    fields: dict[str, Any]
    deadline: float | None = None
    foreign: tuple[ToolSpec, ...] = ()
    started: float = field(default_factory=time.perf_counter)
    shown: bool = False
    over: bool = False

    @property
    def latency_ms(self) -> float:
        return round((time.perf_counter() - self.started) * 1000, 1)

    def context(self) -> _Context:
        """Binds the chat's fields for the log events of tools and providers, and says who runs them.

        Never around a ``yield``: what is bound there would show in the reader of the stream.
        """
        return _Context(self)

    def __enter__(self) -> None:
        """Around the whole chat: an error says what was spent, and every end that is none is logged."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.over = True
        if error is None:
            return
        if not isinstance(error, Exception):  # cancelled, or the reader of a stream went away
            _log.info("chat_cancelled", **self.fields, latency_ms=self.latency_ms)
            return
        facts: dict[str, Any] = {"error": type(error).__name__}
        if isinstance(error, LoomError):
            self.run.account(error)
            facts = {"error": error.code, "request_id": error.request_id}
            facts |= _spent(error.tokens_used or TokenUsage(), error.cost_usd)
        _log.warning("chat_failed", **self.fields, **facts, latency_ms=self.latency_ms)

    def finished(self) -> Response:
        """The response, now that the run is over: kept in the session and logged."""
        response = self.run.response
        assert response is not None
        response.metadata["chat_id"] = self.fields["chat_id"]
        if self.session.id is not None:
            response.metadata["session_id"] = self.session.id
        self.session.messages = (*self.session.messages, *self.said, *self.run.messages)
        _log.info(
            "chat",
            **self.fields,
            turns=response.metadata["turns"],
            tool_executions=response.metadata["tool_executions"],
            **_spent(response.tokens_used, response.cost_usd),
            finish_reason=response.finish_reason,
            request_id=response.metadata.get("request_id"),
            latency_ms=self.latency_ms,
        )
        return response

    def log_results(self, results: tuple[ToolResult, ...]) -> tuple[ToolResult, ...]:
        """``results``, each with its log event."""
        for result in results:
            emit = _log.warning if result.is_error else _log.info
            emit(
                "tool_call",
                **self.fields,
                tool=result.name,
                call_id=result.call_id,
                error=result.error_code,
                latency_ms=round(result.duration_ms, 1),
            )
        return results

    def replied(self, reply: Response | None) -> Response:
        """The reply at the end of a model's stream; the gateway has checked that it is there."""
        assert reply is not None
        self.shown = bool(reply.message.strip())
        return reply

    def last_events(self, response: Response) -> Iterator[StreamEvent]:
        """What ends the stream; an answer no model wrote is shown first."""
        if not self.shown and response.message:
            yield TextDelta(response.message)
        yield FinalResponse(response)


class _Context:
    """What is bound while the code of a chat runs."""

    __slots__ = ("_before", "_chat", "_fields", "_turn")

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __enter__(self) -> None:
        from structlog.contextvars import bind_contextvars  # costly to import, so only for a chat

        turn = self._turn
        self._before = _under_way.set((*_under_way.get(), turn))
        self._chat = chat_id.set(turn.fields["chat_id"])
        self._fields = bind_contextvars(**turn.fields)

    def __exit__(self, *_: object) -> None:
        from structlog.contextvars import reset_contextvars

        reset_contextvars(**self._fields)
        chat_id.reset(self._chat)
        _under_way.reset(self._before)


def is_waited_for(session: Session) -> bool:
    """Whether a turn of ``session`` waits for the code that asks, as it does for its tools."""
    return any(turn.session is session and not turn.over for turn in _under_way.get())


def _spent(usage: TokenUsage, cost: Decimal | None) -> dict[str, Any]:
    """The fields of a log event that say what was spent."""
    return {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cost_usd": None if cost is None else str(cost),
    }
