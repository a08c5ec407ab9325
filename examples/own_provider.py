"""A model of your own: write one verb, get the other three, and put it behind an agent."""

from __future__ import annotations

from collections.abc import Sequence

from loom_py import AgentBuilder, BaseProvider, ChatOptions, Message, Response, TokenUsage, ToolSpec
from loom_py.llm import register_provider


class ShoutingProvider(BaseProvider):
    """Says what it is told, louder."""

    name = "shout"

    def __init__(self, model: str = "shout-1") -> None:
        self.model = model

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        text = messages[-1].text
        usage = TokenUsage(input=len(text.split()), output=len(text.split()))
        return Response(text.upper(), usage, model=self.model)


with AgentBuilder().with_llm(ShoutingProvider()).build() as agent:
    print(agent.chat("a provider object").message)

register_provider("shout", ShoutingProvider)
with AgentBuilder().with_llm("shout:shout-2").build() as agent:
    for event in agent.stream_chat("a provider by name, with its model, streamed"):
        print(event.delta, end="")
        if event.response:
            print(f" [{event.response.model}, cost {event.response.cost_usd}]")
