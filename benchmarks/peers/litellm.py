"""litellm: a `Router` of one deployment and a loop by hand; its own price list, nothing fetched."""

from __future__ import annotations

import json
import os
from importlib import import_module
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
TOOLS = [{"type": "function", "function": FUNCTION}]


class LiteLLM(Contender):
    """``Router(model_list=[…]).acompletion(…)``."""

    REQUIREMENTS = ("litellm", "mcp")  # the second for calls with tools
    IMPORT = "from litellm import Router"
    PACKAGES = ("litellm",)

    def __init__(self) -> None:
        super().__init__()
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        self._litellm = import_module("litellm")
        vars(self._litellm)["telemetry"] = False

    def connect(self, endpoint: str) -> Any:
        settings = {
            "model": f"azure/{DEPLOYMENT}",
            "api_base": endpoint,
            "api_key": KEY,
            "api_version": API_VERSION,
        }
        return self._litellm.Router(model_list=[{"model_name": DEPLOYMENT, "litellm_params": settings}])

    async def ask(self, endpoint: str, history: Any = None) -> str:
        router = self.agent(endpoint)
        messages: list[Any] = [
            {"role": "system", "content": SYSTEM},
            *(history or ()),
            {"role": "user", "content": QUESTION},
        ]
        while True:
            completion = await router.acompletion(model=DEPLOYMENT, messages=messages, tools=TOOLS)
            message = completion.choices[0].message
            if not message.tool_calls:
                return str(message.content)
            messages.append(message)
            for call in message.tool_calls:
                result = get_weather(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

    async def stream(self, endpoint: str) -> str:
        chunks = await self.agent(endpoint).acompletion(
            model=DEPLOYMENT,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
            tools=TOOLS,
            stream=True,
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

    def history(self, messages: list[tuple[str, str]]) -> Any:
        return [{"role": role, "content": text} for role, text in messages]
