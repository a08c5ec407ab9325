"""The two regions: emulators on real sockets, served by the loop of virtual time itself."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from benchmarks.chaos.plan import REGIONS, REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE, Scenario
from loom_py import AzureEmulator, ScriptedProvider, TokenUsage, call, reply
from loom_py.clock import Clock
from loom_py.emulator import Quota
from loom_py.emulator.exchange import StreamCutError
from loom_py.llm.scripted import Answer, ScriptedRequest

__all__ = ["Bill", "Region", "two_regions"]

ASKING = TokenUsage(input=1200, output=40)
"""What the reply costs that asks for the tool."""

ANSWERING = TokenUsage(input=1300, output=60)
"""What the reply costs that answers."""

USD_PER_TOKEN = (Decimal("2.50") / 10**6, Decimal("10.00") / 10**6)
"""gpt-4o, input and output, global standard (Azure's price list)."""

_RUN = re.compile(r"item (\d+)")


def usd(usage: TokenUsage) -> Decimal:
    """What so many tokens of gpt-4o cost."""
    return usage.input * USD_PER_TOKEN[0] + usage.output * USD_PER_TOKEN[1]


@dataclass
class Bill:
    """What the model was made to generate, per run: whatever became of it is billed."""

    by_run: dict[int, TokenUsage] = field(default_factory=dict)

    def add(self, run: int, usage: TokenUsage) -> None:
        """One reply was generated."""
        self.by_run[run] = self.by_run.get(run, TokenUsage()) + usage

    @property
    def total(self) -> Decimal:
        """All of it, in USD."""
        return sum((usd(usage) for usage in self.by_run.values()), Decimal(0))

    def needed(self, right: set[int]) -> Decimal:
        """What those runs would have cost had every reply of theirs come through once."""
        return len(right) * (usd(ASKING) + usd(ANSWERING))


class Region:
    """One region: its address, and what came to it. ``happened`` counts requests, statuses and faults."""

    def __init__(self, name: str, scenario: Scenario, clock: Clock, bill: Bill) -> None:
        self.name = name
        self.deployment = scenario.deployment(name)
        self.happened: Counter[str] = Counter()
        self.state = ServerState()
        self._bill = bill
        self._azure = AzureEmulator(
            ScriptedProvider(self._model),
            deployments={self.deployment: "gpt-4o-2024-11-20"},
            region=name,
            faults=scenario.faults(name),
            quotas={self.deployment: Quota(TOKENS_PER_MINUTE, REQUESTS_PER_MINUTE)},
            clock=clock,
            log_size=1,
        )
        self.api_key = self._azure.api_key
        self.endpoint = ""

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self.state.connections)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The emulator's application, with a tally of what it does."""
        statuses: list[int] = []

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        self.happened["requests"] += 1
        try:
            await self._azure.app(scope, receive, noting)
        except StreamCutError:
            self.happened["cut"] += 1
            raise
        finally:
            self.happened[str(statuses[0]) if statuses else "no answer"] += 1

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Region]:
        """Serve on loopback until the block ends."""
        config = uvicorn.Config(
            self, http=H11Protocol, lifespan="off", ws="none", log_config=None, access_log=False,
            server_header=False, date_header=False, timeout_keep_alive=75,
        )  # fmt: skip
        config.load()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        self.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._protocol(config), sock=listener)
        try:
            yield self
        finally:
            server.close()
            for connection in list(self.state.connections):
                connection.shutdown()
            self._azure.app.abort()
            while self.state.tasks or self.state.connections:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.1)
            await server.wait_closed()

    def _protocol(self, config: uvicorn.Config) -> Any:
        def make() -> H11Protocol:
            protocol = H11Protocol(config=config, server_state=self.state, app_state={})
            protocol.logger = _quiet
            return protocol

        return make

    async def _model(self, request: ScriptedRequest) -> Answer:
        """Ask for the tool with the number of the question; then answer with what it found."""
        question = next(message.text for message in request.messages if message.role == "user")
        found = _RUN.search(question)
        assert found is not None
        run = int(found[1])
        if request.messages[-1].role == "tool":
            self._bill.add(run, ANSWERING)
            return reply(f"The code of item {run} is {request.text} as you asked.", tokens=ANSWERING)
        self._bill.add(run, ASKING)
        return reply(tool_calls=[call("look_up", item=run)], tokens=ASKING)


_quiet = logging.getLogger("benchmarks.chaos.http")
_quiet.disabled = True  # a stream that is cut on purpose is no error to report


@asynccontextmanager
async def two_regions(scenario: Scenario, clock: Clock, bill: Bill) -> AsyncIterator[tuple[Region, ...]]:
    """Both regions, listening."""
    async with AsyncExitStack() as stack:
        yield tuple(
            [
                await stack.enter_async_context(Region(name, scenario, clock, bill).listening())
                for name in REGIONS
            ]
        )
