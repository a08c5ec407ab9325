"""The server that the tests talk to: ``served.py '{"config": {…}, "workers": 1}'``. It prints its URL.

What its model does is said by the last message: ``slow N`` sends N words with a pause after each,
``block N`` holds up the event loop for N seconds, ``stock`` asks for the agent's own tool, ``weather`` for
one of the caller's, ``fail`` raises an error that nobody expects, ``away`` one of the provider's; anything
else is echoed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

from loom_py import Agent, AgentBuilder, BaseProvider, ChatOptions, Message, Response, TokenUsage, ToolSpec
from loom_py.errors import AuthenticationError, RateLimitError, StreamInterruptedError
from loom_py.events import FinalResponse, StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.llm.costs import Cost
from loom_py.messages import ToolCall
from loom_py.serve import ServeConfig, run_server

SECRET = "upstream-secret-42"
PAUSE = 0.05


class Echo(BaseProvider):
    """Says what it is told, in the manner that the module's docstring describes."""

    name = "echo"
    model = "echo-1"

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.cancelled = 0

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        """A cent for each call, at most."""
        return Cost(Decimal("0.01"), other=Decimal("0.01"))

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """What the last message says to do."""
        self.begun += 1
        try:
            last = messages[-1]
            calls = self._calls(last, {tool.name for tool in tools})
            for one in calls:
                yield ToolCallStarted(one.id, one.name)
                yield ToolCallCompleted(one)
            words = [] if calls else self._words(last, messages)
            for word in words:
                yield TextDelta(word)
                await asyncio.sleep(PAUSE if last.text.startswith(("slow", "cut")) else 0)
            if last.text.startswith("cut"):
                raise StreamInterruptedError(
                    f"the connection to {SECRET} broke off", partial_text="".join(words)
                )
            yield FinalResponse(
                Response(
                    "".join(words),
                    TokenUsage(10, 5),
                    Decimal("0.004"),
                    tool_calls=tuple(calls),
                    finish_reason="tool_calls" if calls else "stop",
                    model=self.model,
                    metadata={"cost": Cost(Decimal("0.004"), other=Decimal("0.004")).to_dict()},
                )
            )
            self.ended += 1
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    def _calls(self, last: Message, tools: set[str]) -> list[ToolCall]:
        if last.role != "user":
            return []
        asked = [name for name in ("stock", "weather") if name in last.text and name in tools]
        return [ToolCall(f"call_{self.begun}_{name}", name, {"of": "Oslo"}) for name in asked]

    def _words(self, last: Message, messages: Sequence[Message]) -> list[str]:
        match last.text.split():
            case ["fail", *_]:
                raise RuntimeError(SECRET)
            case ["away", *_]:
                raise AuthenticationError(f"the key {SECRET} is wrong", deployment=SECRET)
            case ["block", number, *_]:
                time.sleep(float(number))
                return ["at last"]
            case ["flood", number, *_]:
                return ["x" * 1000] * int(number)
            case ["busy", *_]:
                raise RateLimitError("too much", retry_after=7.2)
            case ["slow" | "cut", number, *_]:
                return [f"word{index} " for index in range(int(number))]
            case ["history", *_]:
                return [" | ".join(f"{each.role}: {each.text}" for each in messages)]
            case ["counts", *_]:
                return [json.dumps([self.begun, self.ended, self.cancelled])]
            case _:
                return [f"echo {last.text}"]


def stock(of: str) -> str:
    """How many there are.

    Args:
        of: the product.
    """
    return f"12 of {of}"


def builder(name: str = "helper") -> AgentBuilder:
    """The agent that is served."""
    return AgentBuilder().with_llm(Echo()).with_tools(stock).with_name(name).with_retries(max_attempts=1)


class SlowToBuild(AgentBuilder):
    """Takes a minute."""

    def build(self) -> Agent:
        """The agent, much later."""
        print("building", flush=True)
        time.sleep(60)
        return super().build()


def main() -> int:
    """Serve what the command line says."""
    said = json.loads(sys.argv[1])
    config = ServeConfig(port=0, **said.get("config", {}))
    if said.get("is_slow_to_build"):
        return run_server({"helper": SlowToBuild()}, config, workers=2)
    agents = {"helper": builder()}
    if (url := said.get("agents_share")) is not None:
        agents["helper"] = agents["helper"].with_shared_state(url, prefix="served")
    return run_server(
        agents, config, workers=said.get("workers", 1), on_ready=lambda url: print(url, flush=True)
    )


if __name__ == "__main__":
    sys.exit(main())
