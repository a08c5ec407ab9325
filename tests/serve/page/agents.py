"""Agents for the chat page's tests: what their model does is said by the question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path

from loom_py import AgentBuilder, BaseProvider, ChatOptions, Message, Response, TokenUsage, ToolSpec
from loom_py.errors import RateLimitError, ServiceUnavailableError, StreamInterruptedError
from loom_py.events import (
    FinalResponse,
    StreamEvent,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    UsageEvent,
)
from loom_py.messages import ToolCall

HOSTILE = Path(__file__).with_name("hostile.md").read_text("utf-8")

SHOWN = Path(__file__).with_name("shown.md").read_text("utf-8")

PAUSE = 0.03
"""Seconds between the words of a slow answer."""


class Actor(BaseProvider):
    """A model that acts on the first word of the last message of the user."""

    name = "actor"
    model = "actor-1"

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.heard: list[list[tuple[str, str]]] = []

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """What the question says to do."""
        self.begun += 1
        self.heard.append([(message.role, message.text) for message in messages])
        last = messages[-1]
        question = next(message.text for message in reversed(messages) if message.role == "user")
        calls = _calls(question, self.begun) if last.role == "user" else []
        words = _words(question, after_tools=last.role == "tool")
        try:
            for word in words if not calls or question.startswith(("both", "restart")) else []:
                yield TextDelta(word)
                await asyncio.sleep(PAUSE if question.startswith(("slow", "cut")) else 0)
            if question.startswith("cut"):
                raise StreamInterruptedError("upstream broke off", partial_text="".join(words))
            if question.startswith("restart") and self.begun == 2:
                raise StreamInterruptedError("upstream broke off", partial_text="".join(words))
            for one in calls:
                yield ToolCallStarted(one.id, one.name)
                yield ToolCallCompleted(one)
            usage = TokenUsage(1200, 34)
            yield UsageEvent(usage)
            text = "" if calls else "".join(words)
            reason = "tool_calls" if calls else "stop"
            yield FinalResponse(
                Response(
                    text,
                    usage,
                    Decimal("0.0041"),
                    tool_calls=tuple(calls),
                    finish_reason=reason,
                    model=self.model,
                )
            )
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise


def _calls(question: str, number: int) -> list[ToolCall]:
    match question.split():
        case ["query" | "both" | "Which" | "restart", *_]:
            sql = "SELECT route, sum(seats_sold) AS sold FROM flights GROUP BY route"
            return [ToolCall(f"call_{number}", "query_flights", {"sql": sql, "limit": 3})]
        case ["wait", *_]:
            return [ToolCall(f"call_{number}", "wait_for_it", {"seconds": 3})]
        case ["break", *_]:
            return [ToolCall(f"call_{number}", "fails", {})]
        case ["hostile", *_]:
            return [ToolCall(f"call_{number}", "hostile_rows", {"filter": HOSTILE})]
    return []


def _words(question: str, *, after_tools: bool) -> list[str]:
    match question.split():
        case ["slow" | "cut", number, *_]:
            return [f"word{index} " for index in range(int(number))]
        case ["hostile", *_]:
            return [HOSTILE[at : at + 7] for at in range(0, len(HOSTILE), 7)]
        case ["busy", *_]:
            raise RateLimitError("upstream quota", retry_after=2.0)
        case ["away", *_]:
            raise ServiceUnavailableError("upstream-secret is away")
        case ["long", number, *_]:
            return ["x" * 200 + " "] * int(number)
        case ["show" | "query" | "both" | "Which", *_] if after_tools or question.startswith("show"):
            return [SHOWN[at : at + 12] for at in range(0, len(SHOWN), 12)]
        case ["restart", *_]:
            return ["the whole answer" if after_tools else "before the tool"]
        case ["both", *_]:
            return ["I look at the sales of each route first."]
        case ["say", *_]:
            return [question.removeprefix("say ")]
        case _:
            return [f"You said: {question}"]


ROWS = [
    {"route": "OSL–BGO", "sold": 33977},
    {"route": "OSL–TRD", "sold": 35902},
    {"route": "BGO–SVG", "sold": 12190},
]


def query_flights(sql: str, limit: int) -> str:
    """Rows of the flights' database.

    Args:
        sql: the statement.
        limit: the most rows.
    """
    return json.dumps(ROWS[:limit], ensure_ascii=False)


async def wait_for_it(seconds: int) -> str:
    """Takes its time.

    Args:
        seconds: how long.
    """
    await asyncio.sleep(seconds)
    return "waited"


def fails() -> str:
    """Never works."""
    raise ValueError("the <b>database</b> is locked")


def hostile_rows(filter: str) -> str:
    """Rows that nobody should trust.

    Args:
        filter: which.
    """
    return HOSTILE


def builder(provider: Actor, name: str = "analyst") -> AgentBuilder:
    """The agent that the page talks to."""
    return (
        AgentBuilder()
        .with_llm(provider)
        .with_tools(query_flights, wait_for_it, fails, hostile_rows)
        .with_name(name)
        .with_retries(max_attempts=1)
        .with_circuit_breakers(failure_threshold=2, open_seconds=30)
    )
