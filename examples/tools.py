"""Functions as tools: sync or async, checked before they run, told of their mistakes.

The model asks for both forecasts in one reply, so they run at the same time. One city is
unknown: the tool says so with a hint, the model reads it, and the chat goes on.
"""

from __future__ import annotations

import asyncio

from offline import azure

from loom_py import AgentBuilder, ToolError, call, tool

FORECASTS = {"Oslo": "rain, 4 °C", "Rome": "sun, 19 °C"}


@tool(timeout=5)
async def forecast(city: str, days: int = 1) -> str:
    """The weather of a city.

    Args:
        city: the city's English name
        days: how many days to look ahead
    """
    await asyncio.sleep(0.01)  # a real tool would ask a service here
    if city not in FORECASTS:
        raise ToolError(f"no city named {city!r}", hint=f"use one of {', '.join(FORECASTS)}")
    return f"{city} in {days} day(s): {FORECASTS[city]}"


def pack(items: list[str]) -> int:
    """Put items into the suitcase and say how many it holds. A plain function is a tool, too."""
    return len(items)


replies = (
    [call("forecast", city="Oslo"), call("forecast", city="Roma")],
    call("forecast", city="Rome", days=2),
    call("pack", items=["umbrella", "sunglasses"]),
    "Oslo is wet and Rome is sunny. I have packed an umbrella and sunglasses.",
)

with (
    azure(*replies) as settings,
    AgentBuilder().with_tools(forecast, pack).with_azure_openai_llm(*settings).build() as agent,
):
    response = agent.chat("I go to Oslo, then to Rome. Pack for me.")

for asked, result in zip(response.tool_calls, response.tool_results, strict=True):
    print(f"{asked.name}({asked.arguments_json}) -> {result.content!r}")
print(response.message)
