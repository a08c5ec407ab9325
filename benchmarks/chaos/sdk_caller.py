"""The plain SDK in the usual loop: ask, run the tool, ask again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from openai import AsyncAzureOpenAI, OpenAIError
from openai.types.chat import ChatCompletionToolParam

from benchmarks.chaos.plan import Verb
from benchmarks.chaos.regions import Region
from benchmarks.chaos.soak import Ask, Caller, World

__all__ = ["sdk_caller"]

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "The code of an item.",
        "parameters": {
            "type": "object",
            "properties": {"item": {"type": "integer"}},
            "required": ["item"],
            "additionalProperties": False,
        },
    },
}


def sdk_caller(regions: int = 1, **settings: Any) -> Ask:
    """`AsyncAzureOpenAI` on so many regions, run by run in turn; ``settings`` as its own arguments.

    Whatever waits in the SDK waits on the loop, so that nothing of it is patched. The blocking verbs
    are asked as their async kin.
    """

    @asynccontextmanager
    async def make(world: World) -> AsyncIterator[Caller]:
        async with AsyncExitStack() as stack:
            clients = [
                (await stack.enter_async_context(_client(region, settings)), region.deployment)
                for region in world.regions[:regions]
            ]

            async def ask(run: int, verb: Verb) -> str:
                client, deployment = clients[run % len(clients)]
                messages: list[Any] = [{"role": "user", "content": f"What is the code of item {run}?"}]
                take = _streamed if "stream" in verb else _whole
                text, calls = await take(client, deployment, messages)
                while calls:
                    messages.append({"role": "assistant", "content": None, "tool_calls": calls})
                    for each in calls:
                        found = world.scenario.secret(json.loads(each["function"]["arguments"])["item"])
                        messages.append({"role": "tool", "tool_call_id": each["id"], "content": found})
                    text, calls = await take(client, deployment, messages)
                return text

            yield Caller(ask, OpenAIError)

    return make


def _client(region: Region, settings: dict[str, Any]) -> AsyncAzureOpenAI:
    return AsyncAzureOpenAI(
        azure_endpoint=region.endpoint, api_key=region.api_key, api_version="2024-10-21", **settings
    )


async def _whole(client: AsyncAzureOpenAI, model: str, messages: list[Any]) -> tuple[str, list[Any]]:
    completion = await client.chat.completions.create(
        model=model, messages=messages, tools=[TOOL], max_tokens=500
    )
    message = completion.choices[0].message
    return message.content or "", [each.model_dump() for each in message.tool_calls or ()]


async def _streamed(client: AsyncAzureOpenAI, model: str, messages: list[Any]) -> tuple[str, list[Any]]:
    text = ""
    calls: dict[int, Any] = {}
    stream = await client.chat.completions.create(
        model=model, messages=messages, tools=[TOOL], max_tokens=500, stream=True
    )
    async with stream:
        async for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for part in choice.delta.tool_calls or ():
                    empty = {"type": "function", "id": "", "function": {"name": "", "arguments": ""}}
                    made = calls.setdefault(part.index, empty)
                    made["id"] += part.id or ""
                    if part.function is not None:
                        made["function"]["name"] += part.function.name or ""
                        made["function"]["arguments"] += part.function.arguments or ""
    return text, list(calls.values())
