"""loom_py: the whole agent with retries, breakers and cost on, and its client alone."""

from __future__ import annotations

import inspect
import os
from importlib.util import find_spec
from typing import Any

from benchmarks.contender import DEPLOYMENT, KEY, QUESTION, SYSTEM, Contender, get_weather

FAST_PACKAGES = ("aiohttp", "orjson")


def fast_is_an_option() -> bool:
    """Whether this version of the client can be told to use, or not to use, the accelerators."""
    from loom_py import AzureOpenAIClient

    return "fast" in inspect.signature(AzureOpenAIClient.__init__).parameters


def fast_is_installed() -> bool:
    """Whether the packages of the extra ``fast`` are there."""
    return all(find_spec(package) is not None for package in FAST_PACKAGES)


class _Loom(Contender):
    PACKAGES = ("loom-py", "pydantic", "httpx2", "aiohttp", "orjson", "uvloop")

    def __init__(self, fast: str = "core") -> None:
        super().__init__()
        if fast == "fast" and not (fast_is_an_option() and fast_is_installed()):
            raise RuntimeError("the extra 'fast' is not installed")
        os.environ["LOOM_FAST"] = "1" if fast == "fast" else "0"

    async def aclose(self) -> None:
        for agent in self._agents.values():
            await agent.aclose()


class LoomAgent(_Loom):
    """An agent with the defaults: retries and cost; and circuit breakers."""

    IMPORT = "from loom_py import AgentBuilder"
    HAS_AGENTS = True

    def connect(self, endpoint: str) -> Any:
        from loom_py import AgentBuilder

        return (
            AgentBuilder()
            .with_azure_openai_llm(endpoint, DEPLOYMENT, KEY)
            .with_tools(get_weather)
            .with_system_prompt(SYSTEM)
            .with_circuit_breakers()
            .build()
        )

    async def ask(self, endpoint: str, history: Any = None) -> str:
        agent = self.agent(endpoint)
        if history is None:
            return (await agent.achat(QUESTION)).message  # type: ignore[no-any-return]
        session = agent._sessions.get("history")
        session.messages = history  # as long at the start of each chat; a session cannot be handed in
        response = await agent.achat(QUESTION, session_id="history")
        session.messages = ()
        return response.message  # type: ignore[no-any-return]

    async def stream(self, endpoint: str) -> str:
        return "".join([event.delta async for event in self.agent(endpoint).astream_chat(QUESTION)])

    def history(self, messages: list[tuple[str, str]]) -> Any:
        from loom_py import Message

        return tuple(
            Message.user(text) if role == "user" else Message.assistant(text) for role, text in messages
        )

    def build(self, endpoint: str) -> Any:
        from loom_py import AgentBuilder, tool

        if not hasattr(self, "_builder"):
            self._builder = (
                AgentBuilder()
                .with_llm(self.agent(endpoint).provider, shared=True)
                .with_tools(tool(get_weather))
                .with_system_prompt(SYSTEM)
                .with_circuit_breakers()
            )
        return self._builder.build()


class LoomClient(_Loom):
    """`AzureOpenAIClient.achat` and a loop by hand: no retries, breakers or ledger."""

    def connect(self, endpoint: str) -> Any:
        from loom_py import AzureOpenAIClient, tool

        self._tool = tool(get_weather)
        self._specs = (self._tool.spec,)
        return AzureOpenAIClient(endpoint=endpoint, deployment_id=DEPLOYMENT, api_key=KEY)

    async def ask(self, endpoint: str, history: Any = None) -> str:
        from loom_py import Message

        client = self.agent(endpoint)
        messages = [Message.system(SYSTEM), *(history or ()), Message.user(QUESTION)]
        while True:
            response = await client.achat(messages, self._specs)
            if not response.tool_calls:
                return response.message  # type: ignore[no-any-return]
            messages.append(response.to_message())
            messages += [
                Message.tool(self._tool(**call.arguments), call.id, call.name) for call in response.tool_calls
            ]

    async def stream(self, endpoint: str) -> str:
        from loom_py import Message

        client = self.agent(endpoint)
        messages = [Message.system(SYSTEM), Message.user(QUESTION)]
        return "".join([event.delta async for event in client.astream_chat(messages, self._specs)])

    history = LoomAgent.history
