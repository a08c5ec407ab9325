"""pydantic-ai: an `Agent` with its chat model over the SDK's async client."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.contender import API_VERSION, DEPLOYMENT, KEY, QUESTION, SYSTEM, Contender, get_weather


class PydanticAI(Contender):
    """``Agent(OpenAIChatModel(…, provider=AzureProvider(…)))``."""

    REQUIREMENTS = ("pydantic-ai-slim[openai]",)
    IMPORT = "from pydantic_ai import Agent; from pydantic_ai.models.openai import OpenAIChatModel"
    HAS_AGENTS = True
    PACKAGES = ("pydantic-ai-slim",)

    def __init__(self) -> None:
        super().__init__()
        self._package = import_module("pydantic_ai")
        self._models = import_module("pydantic_ai.models.openai")
        self._azure = import_module("pydantic_ai.providers.azure")
        self._messages = import_module("pydantic_ai.messages")

    def _new(self, model: Any) -> Any:
        return self._package.Agent(model, instructions=SYSTEM, tools=[get_weather])

    def connect(self, endpoint: str) -> Any:
        client = import_module("openai").AsyncAzureOpenAI(
            azure_endpoint=endpoint, api_key=KEY, api_version=API_VERSION
        )
        provider = self._azure.AzureProvider(openai_client=client)
        return self._new(self._models.OpenAIChatModel(DEPLOYMENT, provider=provider))

    async def ask(self, endpoint: str, history: Any = None) -> str:
        result = await self.agent(endpoint).run(QUESTION, message_history=history)
        return str(result.output)

    async def stream(self, endpoint: str) -> str:
        async with self.agent(endpoint).run_stream(QUESTION) as result:
            return "".join([text async for text in result.stream_text(delta=True, debounce_by=None)])

    def history(self, messages: list[tuple[str, str]]) -> Any:
        types = self._messages
        return [
            types.ModelRequest(parts=[types.UserPromptPart(content=text)])
            if role == "user"
            else types.ModelResponse(parts=[types.TextPart(content=text)])
            for role, text in messages
        ]

    def build(self, endpoint: str) -> Any:
        return self._new(self.agent(endpoint).model)
