"""langchain: `create_agent` with langchain-openai's `AzureChatOpenAI`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.contender import API_VERSION, DEPLOYMENT, KEY, QUESTION, SYSTEM, Contender, get_weather

STEPS = {"recursion_limit": 60}


class LangChain(Contender):
    """``create_agent(AzureChatOpenAI(…), …)``."""

    REQUIREMENTS = ("langchain", "langchain-openai")
    IMPORT = "from langchain.agents import create_agent; from langchain_openai import AzureChatOpenAI"
    HAS_AGENTS = True
    PACKAGES = ("langchain", "langchain-openai", "langgraph")

    def __init__(self) -> None:
        super().__init__()
        self._create = import_module("langchain.agents").create_agent
        self._model = import_module("langchain_openai").AzureChatOpenAI
        self._models: dict[str, Any] = {}

    def _new(self, model: Any) -> Any:
        return self._create(model, tools=[get_weather], system_prompt=SYSTEM)

    def connect(self, endpoint: str) -> Any:
        self._models[endpoint] = self._model(
            azure_endpoint=endpoint, azure_deployment=DEPLOYMENT, api_key=KEY, api_version=API_VERSION
        )
        return self._new(self._models[endpoint])

    async def ask(self, endpoint: str, history: Any = None) -> str:
        messages = [*(history or ()), {"role": "user", "content": QUESTION}]
        result = await self.agent(endpoint).ainvoke({"messages": messages}, STEPS)
        return str(result["messages"][-1].content)

    async def stream(self, endpoint: str) -> str:
        asked = {"messages": [{"role": "user", "content": QUESTION}]}
        pieces = self.agent(endpoint).astream(asked, STEPS, stream_mode="messages")
        return "".join([str(message.content) async for message, _ in pieces])

    def history(self, messages: list[tuple[str, str]]) -> Any:
        types = import_module("langchain.messages")
        make = {"user": types.HumanMessage, "assistant": types.AIMessage}
        return [make[role](content=text) for role, text in messages]

    def build(self, endpoint: str) -> Any:
        self.agent(endpoint)
        return self._new(self._models[endpoint])
