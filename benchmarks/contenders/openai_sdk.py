"""The plain SDK, used the usual way: ``AsyncAzureOpenAI.chat.completions.create()`` and a loop by hand."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.contender import (
    API_VERSION,
    DEPLOYMENT,
    KEY,
    QUESTION,
    SYSTEM,
    TOOL_SCHEMA,
    Contender,
    get_weather,
)

FUNCTION = {"name": "get_weather", "description": "The weather of a city.", "parameters": TOOL_SCHEMA}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]


class OpenAISDK(Contender):
    """What everything else is compared with."""

    IMPORT = "from openai import AsyncAzureOpenAI"

    def connect(self, endpoint: str) -> Any:
        from openai import AsyncAzureOpenAI

        return AsyncAzureOpenAI(
            azure_endpoint=endpoint, api_key=KEY, api_version=API_VERSION, max_retries=2, timeout=60
        )

    async def ask(self, endpoint: str, history: Any = None) -> str:
        client = self.agent(endpoint)
        messages: list[Any] = [
            {"role": "system", "content": SYSTEM},
            *(history or ()),
            {"role": "user", "content": QUESTION},
        ]
        while True:
            completion = await client.chat.completions.create(
                model=DEPLOYMENT, messages=messages, tools=TOOLS
            )
            message = completion.choices[0].message
            if not message.tool_calls:
                return message.content or ""
            messages.append(message)
            for call in message.tool_calls:
                result = get_weather(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

    async def stream(self, endpoint: str) -> str:
        chunks = await self.agent(endpoint).chat.completions.create(
            model=DEPLOYMENT,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
            tools=TOOLS,
            stream=True,
            stream_options={"include_usage": True},
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

    def history(self, messages: list[tuple[str, str]]) -> Any:
        return [{"role": role, "content": text} for role, text in messages]

    async def aclose(self) -> None:
        for client in self._agents.values():
            await client.close()
