"""What all requests to one server have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from loom_py._log import get_logger
from loom_py.agent import Agent
from loom_py.errors import ConfigError
from loom_py.resilience.health import Health
from loom_py.serve.callers import Caller, Callers
from loom_py.serve.config import ServeConfig
from loom_py.serve.exchange import Exchange
from loom_py.serve.failures import HTTPError
from loom_py.serve.metrics import Metrics
from loom_py.serve.sessions import SessionShelf
from loom_py.serve.watching import attach

__all__ = ["Service"]

_log = get_logger()


class Service:
    """The agents by their models' names, who may call them, and what is under way.

    One of several workers does not keep sessions: the next chat may come to another.
    Raises `ConfigError` for agents that cannot be served, and for keys or a ledger that cannot be read.
    """

    def __init__(
        self, agents: Agent | Mapping[str, Agent], config: ServeConfig, *, keeps_sessions: bool = True
    ) -> None:
        self.agents = _named(agents)
        self.config = config
        self.callers = Callers.of(config)
        self.sessions: SessionShelf | None = None
        if keeps_sessions:
            self.sessions = SessionShelf(config.max_sessions, config.session_memory, config.session_ttl)
        self.metrics = Metrics(self.states)
        self.is_draining = False
        self.is_cut = False
        self.running: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        for agent in self.agents.values():
            attach(agent)

    def states(self) -> dict[str, Health]:
        """How each model's agent stands. It may read a ledger."""
        return {name: agent.health() for name, agent in self.agents.items()}

    def agent(self, model: str) -> Agent:
        """The agent of that name. Raises `HTTPError`."""
        found = self.agents.get(model)
        if found is None:
            known = ", ".join(self.agents)
            raise HTTPError(
                404, f"there is no model of that name, but: {known}", code="model_not_found", param="model"
            )
        return found

    def caller(self, headers: Headers) -> Caller:
        """Who sent the request. Raises `AuthenticationError`."""
        return self.callers.identify(headers.get("authorization"))

    def exchange(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        """A request with this server's limits."""
        config = self.config
        return Exchange(
            scope,
            receive,
            send,
            max_body=config.max_body,
            body_timeout=config.body_timeout,
        )

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A place among the chats under way. Raises `HTTPError` where there is none."""
        if self.is_draining:
            raise HTTPError(503, "the server is stopping", code="server_stopping", retry_after=1)
        if self._in_flight >= self.config.max_concurrency:
            message = f"{self._in_flight} chats are under way already"
            raise HTTPError(503, message, code="server_busy", retry_after=1)
        self._in_flight += 1
        self.metrics.in_flight.inc()
        try:
            yield
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.dec()

    def cut(self) -> None:
        """End what is under way: there is no time left for it."""
        self.is_cut = True
        for task in self.running:
            task.cancel()

    async def aclose(self) -> None:
        """Close what was opened here."""
        await self.callers.aclose()

    async def close_agents(self) -> None:
        """Close the agents, on the event loop they were used on: their connections belong to it."""
        for name, agent in self.agents.items():
            try:
                await agent.aclose()
            except Exception as exc:  # noqa: BLE001 - the others are closed all the same
                _log.warning("agent_not_closed", model=name, error=type(exc).__name__)


def _named(agents: object) -> dict[str, Agent]:
    if isinstance(agents, Agent):
        return {agents.name: agents}
    named: dict[Any, Any] = dict(agents) if isinstance(agents, Mapping) else {}
    if not named:
        raise ConfigError("give an agent, or agents by their names", field="agents")
    for name, agent in named.items():
        if not isinstance(agent, Agent):
            kind = type(agent).__name__
            hint = "Call build() first." if hasattr(agent, "build") else None
            raise ConfigError(f"agents[{name!r}] must be an Agent, not {kind}", field="agents", hint=hint)
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ConfigError(f"{name!r} is no name for a model", field="agents")
    return named
