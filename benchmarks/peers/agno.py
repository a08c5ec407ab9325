"""agno: an `Agent` with its Azure model over the SDK's async client; no database, telemetry off."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.contender import API_VERSION, DEPLOYMENT, KEY, QUESTION, SYSTEM, Contender, get_weather


class Agno(Contender):
    """``Agent(model=AzureOpenAI(…))``."""

    REQUIREMENTS = ("agno", "openai", "aiohttp")
    IMPORT = "from agno.agent import Agent; from agno.models.azure import AzureOpenAI"
    HAS_AGENTS = True
    PACKAGES = ("agno",)

    def __init__(self) -> None:
        super().__init__()
        self._agno = import_module("agno.agent")
        self._azure = import_module("agno.models.azure")
        self._message = import_module("agno.models.message").Message

    def _new(self, model: Any) -> Any:
        return self._agno.Agent(model=model, tools=[get_weather], system_message=SYSTEM, telemetry=False)

    def connect(self, endpoint: str) -> Any:
        client = import_module("openai").AsyncAzureOpenAI(
            azure_endpoint=endpoint, api_key=KEY, api_version=API_VERSION
        )
        return self._new(self._azure.AzureOpenAI(id=DEPLOYMENT, async_client=client))

    async def ask(self, endpoint: str, history: Any = None) -> str:
        question = self._message(role="user", content=QUESTION)
        answer = await self.agent(endpoint).arun(QUESTION if history is None else [*history, question])
        return str(answer.content)

    async def stream(self, endpoint: str) -> str:
        events = self.agent(endpoint).arun(QUESTION, stream=True)
        return "".join([event.content async for event in events if event.event == "RunContent"])

    def history(self, messages: list[tuple[str, str]]) -> Any:
        return [self._message(role=role, content=text) for role, text in messages]

    def build(self, endpoint: str) -> Any:
        return self._new(self.agent(endpoint).model)
