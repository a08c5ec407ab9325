"""Watch an answer come: the text as it is written, the tools as they are called and answer."""

from __future__ import annotations

from offline import azure

from loom_py import AgentBuilder, FinalResponse, TextDelta, ToolCallCompleted, ToolResultEvent, call, tool


@tool
def stock(product: str) -> int:
    """How many pieces of a product are in stock."""
    return {"Desk Lamp": 12}.get(product, 0)


replies = (call("stock", product="Desk Lamp"), "There are twelve desk lamps in stock.")

with (
    azure(*replies) as settings,
    AgentBuilder().with_tools(stock).with_azure_openai_llm(*settings).build() as agent,
):
    for event in agent.stream_chat("How many desk lamps do we have?"):
        match event:
            case TextDelta():
                print(event.delta, end="", flush=True)
            case ToolCallCompleted():
                print(f"[asks {event.call.name} with {event.call.arguments_json}]")
            case ToolResultEvent():
                print(f"[{event.result.name} says {event.result.content}]")
            case FinalResponse():
                print(f"\n[{event.response.tokens_used.total} tokens, {event.response.cost_usd} USD]")
