"""openai-agents: `Runner` with its chat completions model over the SDK's async client, tracing off."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.contender import API_VERSION, DEPLOYMENT, KEY, QUESTION, SYSTEM, Contender, get_weather

TURNS = 25


class OpenAIAgents(Contender):
    """``Runner.run(Agent(model=OpenAIChatCompletionsModel(…)))``."""

    REQUIREMENTS = ("openai-agents",)
    IMPORT = "from agents import Agent, OpenAIChatCompletionsModel, Runner"
    HAS_AGENTS = True
    PACKAGES = ("openai-agents",)

    def __init__(self) -> None:
        super().__init__()
        self._agents_package = import_module("agents")
        self._agents_package.set_tracing_disabled(True)
        self._tool = self._agents_package.function_tool(get_weather)

    def _new(self, model: Any) -> Any:
        return self._agents_package.Agent(name="agent", instructions=SYSTEM, model=model, tools=[self._tool])

    def connect(self, endpoint: str) -> Any:
        client = import_module("openai").AsyncAzureOpenAI(
            azure_endpoint=endpoint, api_key=KEY, api_version=API_VERSION
        )
        return self._new(self._agents_package.OpenAIChatCompletionsModel(DEPLOYMENT, client))

    async def ask(self, endpoint: str, history: Any = None) -> str:
        question = {"role": "user", "content": QUESTION}
        asked = QUESTION if history is None else [*history, question]
        result = await self._agents_package.Runner.run(self.agent(endpoint), asked, max_turns=TURNS)
        return str(result.final_output)

    async def stream(self, endpoint: str) -> str:
        result = self._agents_package.Runner.run_streamed(self.agent(endpoint), QUESTION)
        return "".join(
            [
                event.data.delta
                async for event in result.stream_events()
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
            ]
        )

    def history(self, messages: list[tuple[str, str]]) -> Any:
        return [{"role": role, "content": text} for role, text in messages]

    def build(self, endpoint: str) -> Any:
        return self._new(self.agent(endpoint).model)
