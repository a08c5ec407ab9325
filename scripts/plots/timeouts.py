"""One chat for each kind of timeout, side by side. They run in real time, as sockets know no other."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from loom_py import AgentBuilder, AzureEmulator, LoomError, PolicyEvent, ScriptedProvider, call, tool
from loom_py.emulator import FaultPlan, FaultRule, Latency
from loom_py.llm.scripted import Answer, ScriptedRequest
from loom_py.resilience.events import RetryScheduled
from scripts.plots.style import COLORS, panels, save

NO_END = 30.0
"""Seconds that would be waited without a timeout."""

LEGEND = {"answered": "good", "cut off": "bad", "a tool": "line", "waits": "wait"}

PLAN = FaultPlan(
    rules=[
        FaultRule(deployment="open", latency=Latency.fixed(2.6)),
        FaultRule(deployment="read", hang=True, times=1),
        FaultRule(deployment="total", bytes_per_second=2000),
        FaultRule(latency=Latency.fixed(0.4)),
    ]
)


@dataclass
class Chat:
    """One chat: its title, what lasted from when to when, and how it ended."""

    title: str
    bars: list[tuple[str, float, float]] = field(default_factory=list)
    outcome: str = "answered"
    began: float = field(default_factory=time.monotonic)
    last: float = 0.0

    def over(self, color: str, after: float | None = None) -> None:
        """What was under way is over, or will be in so many seconds."""
        now = time.monotonic() - self.began if after is None else self.last + after
        self.bars.append((color, self.last, now))
        self.last = now


def draw(path: Path) -> None:
    """Run it and draw it."""
    chats = asyncio.run(_all())
    figure, (axis,) = panels(1, height=3.2)
    for row, chat in enumerate(chats):
        for color, begin, end in chat.bars:
            height = 0.2 if color == "wait" else 0.62
            axis.barh(row, end - begin, height, left=begin, color=COLORS[color], linewidth=0)
        axis.text(chat.last + 0.06, row, chat.outcome, va="center")
    axis.set_yticks(range(len(chats)), [chat.title for chat in chats])
    axis.set_ylim(len(chats) - 0.4, -1.3)
    axis.set_xlim(0, 4.5)
    axis.grid(visible=False, axis="y")
    for name, color in LEGEND.items():
        axis.bar(0, 0, color=COLORS[color], label=name)
    axis.legend(loc="upper center", ncols=len(LEGEND))
    save(figure, path)


async def _all() -> list[Chat]:
    chats = [Chat("no timeout"), Chat("read=1"), Chat("total=2, a stream"), Chat("tool=1"), Chat("run=3")]
    deployments = ["open", "read", "total", "tool", "run"]
    with AzureEmulator(ScriptedProvider(_model), faults=PLAN, deployments=deployments) as azure:
        settings = [azure.client_kwargs(name) for name in deployments]
        base = [AgentBuilder().with_azure_openai_llm(**each) for each in settings]
        started = [
            _chat(chats[0], base[0]),
            _chat(
                chats[1], base[1].with_timeouts(read=1).with_retries(jitter_seconds=0, initial_seconds=0.5)
            ),
            _chat(chats[2], base[2].with_timeouts(total=2), streamed=True),
            _chat(chats[3], base[3].with_timeouts(tool=1), tool_seconds=NO_END),
            _chat(chats[4], base[4].with_timeouts(run=3), tool_seconds=0.8),
        ]
        await asyncio.gather(*started)
    return chats


def _model(request: ScriptedRequest) -> Answer:
    """Asks for the tool if there is one, again and again unless it was cut off."""
    if request.tools and "did not finish" not in request.text:
        return call("work")
    return "word " * 500


async def _chat(
    chat: Chat, builder: AgentBuilder, *, streamed: bool = False, tool_seconds: float | None = None
) -> None:
    """One chat, noted as it goes."""

    def note(event: PolicyEvent) -> None:
        if isinstance(event, RetryScheduled):
            chat.over("bad")
            chat.over("wait", event.wait_seconds)

    @tool
    async def work() -> str:
        """Work for a while."""
        assert tool_seconds is not None
        chat.over("good")
        color = "bad"
        try:
            await asyncio.sleep(tool_seconds)
            color = "line"
        finally:
            chat.over(color)
        return "done"

    if tool_seconds is not None:
        builder = builder.with_tools(work)
    async with builder.with_listener(note).build() as agent:
        chat.began = time.monotonic()
        try:
            if streamed:
                async for _ in agent.astream_chat("Tell me everything."):
                    pass
            else:
                await agent.achat("Work!")
        except LoomError as error:
            chat.outcome = type(error).__name__
            chat.over("bad")
        else:
            chat.over("good")
