"""What a server needs of the agents it serves: to charge the caller, and to hear what policies decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from loom_py.agent import Agent
from loom_py.resilience.events import PolicyEvent
from loom_py.serve.callers import CallersBudgets

__all__ = ["attach", "listening"]

_listeners: ContextVar[tuple[Callable[[PolicyEvent], object], ...]] = ContextVar(
    "loom_py_serve_listeners", default=()
)


def attach(agent: Agent) -> None:
    """Let callers' budgets pay, and requests hear of policies. Doing it twice does nothing."""
    policies = agent._policies
    if isinstance(policies.budgets, CallersBudgets):
        return
    policies.budgets = CallersBudgets(policies.budgets)
    tell = policies.emit

    def emit(event: PolicyEvent) -> None:
        tell(event)
        for listener in _listeners.get():
            listener(event)

    policies.emit = emit


@contextmanager
def listening(listener: Callable[[PolicyEvent], object]) -> Iterator[None]:
    """``listener`` hears what the policies decide for the chats within."""
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)
