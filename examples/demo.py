"""The main job, watched: an agent answers questions over a real database, through Azure's wire.

Offline by default: a small local model decides on the tool calls behind an emulator of Azure
OpenAI, and the database holds real flights from New York. With ``AZURE_OPENAI_ENDPOINT``,
``AZURE_OPENAI_DEPLOYMENT`` and ``AZURE_OPENAI_API_KEY`` set, the same agent talks to Azure.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from flight_tools import QUESTIONS, flight_tools
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from loom_py import Agent, AgentBuilder, AzureEmulator, LLMProvider, Message, Response, SQLBackend, ToolCall
from loom_py.errors import LoomError
from loom_py.events import ToolCallCompleted, ToolResultEvent
from loom_py.llm import ScriptedProvider, create_provider
from loom_py.llm.scripted import ScriptedRequest, call

DATABASE = Path(__file__).parent / "data" / "flights.db"
DEPLOYMENT = "gpt-4o-deployment"
VARIABLES = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_API_KEY")
console = Console(highlight=False)

SCRIPT: dict[str, tuple[ToolCall, ...]] = {
    QUESTIONS[0]: (call("most_delayed_airline", airport="JFK"),),
    QUESTIONS[1]: (call("count_cancelled_flights", airport="JFK", day=8),),
    QUESTIONS[2]: (call("get_airline_delay", airline="JetBlue"), call("get_airline_delay", airline="Delta")),
}


def main() -> None:
    console.print(Rule("loom_py: an agent you can put on call"))
    with azure() as (endpoint, deployment, key):
        backend = SQLBackend(f"sqlite:///{DATABASE}")
        agent = (
            AgentBuilder()
            .with_backend(backend)
            .with_tools(*flight_tools(backend))
            .with_azure_openai_llm(endpoint, deployment, key)
            .with_circuit_breakers()
            .build()
        )
        with agent:
            names = ", ".join(tool.name for tool in agent.tools)
            console.print(f"[dim]Database  {DATABASE.name}: flights from New York, February 2013[/]")
            console.print("[dim]Tools     the agent's own, and three that the database brings:[/]")
            console.print(Padding(f"[dim]{names}[/]", (0, 0, 0, 10)))
            responses = [ask(agent, question) for question in QUESTIONS]
    summarise(responses)


@contextmanager
def azure() -> Iterator[tuple[str, str, str]]:
    """Endpoint, deployment and key: of real Azure where the environment names it, else the emulator's."""
    values = {name: os.environ.get(name, "") for name in VARIABLES}
    if all(values.values()):
        endpoint, deployment, key = values.values()
        console.print(f"[dim]Model     {deployment} at {endpoint}[/]")
        yield endpoint, deployment, key
        return
    if any(values.values()):
        missing = ", ".join(name for name, value in values.items() if not value)
        console.print(f"[yellow]Not real Azure, for {missing} is not set.[/]")
    with AzureEmulator(engine(), deployments={DEPLOYMENT: "gpt-4o-2024-11-20"}) as emulator:
        console.print(f"[dim]Wire      Azure OpenAI emulated at {emulator.endpoint}[/]")
        yield emulator.endpoint, DEPLOYMENT, emulator.api_key


def engine() -> LLMProvider:
    """What thinks behind the emulator: the local model, or its script where it is not installed."""
    offered = {step.name for steps in SCRIPT.values() for step in steps}
    try:
        model = create_provider("needle", offer=[*offered, "find_busiest_routes", "get_weather"])
        console.print("[dim]Model     Needle 3, 121 million parameters, on this CPU[/]")
    except LoomError as error:
        console.print(f"[yellow]The local model is not here ({error.message}).[/] A script plays its part.")
        return ScriptedProvider(scripted)
    return model


def scripted(request: ScriptedRequest) -> str | tuple[ToolCall, ...]:
    """The model's part, played: the calls each question needs, then their results as the answer."""
    results: list[Message] = []
    for message in reversed(request.messages):
        if message.role == "user":
            return " ".join(result.text for result in results) if results else SCRIPT[message.text]
        if message.role == "tool":
            results.insert(0, message)
    return "Please ask a question."


def ask(agent: Agent, question: str) -> Response:
    """Ask, show every step as it happens, and return the response."""
    console.print(f"\n[bold cyan]?[/] [bold]{escape(question)}[/]")
    started = time.perf_counter()
    answering = False
    response: Response | None = None
    status = console.status("thinking …")
    status.start()
    try:
        for event in agent.stream_chat(question):
            status.stop()
            if isinstance(event, ToolCallCompleted):
                arguments = ", ".join(f"{key}={value!r}" for key, value in event.call.arguments.items())
                console.print(f"  [magenta]→[/] {event.call.name}({escape(arguments)})")
            elif isinstance(event, ToolResultEvent):
                colour = "red" if event.result.is_error else "green"
                line = Text.from_markup(f"  [{colour}]←[/] [dim]{escape(event.result.text)}[/]")
                console.print(line, no_wrap=True, overflow="ellipsis")
            elif event.delta:
                if not answering:
                    console.print("  ", end="")
                console.print(event.delta.replace("\n", "\n  "), end="", markup=False, soft_wrap=True)
                answering = True
            if not answering:
                status.start()
            response = event.response
    finally:
        status.stop()
    assert response is not None
    console.print(f"\n  [dim]{bill(response)} · {time.perf_counter() - started:.2f} s[/]")
    return response


def bill(response: Response) -> str:
    """Tokens and cost of a response, in words."""
    usage = response.tokens_used
    cost = "price unknown" if response.cost_usd is None else f"${response.cost_usd:f}"
    return f"{usage.input} tokens in, {usage.output} out · {cost} as {response.model}"


def summarise(responses: list[Response]) -> None:
    """What it all came to."""
    costs = [response.cost_usd for response in responses if response.cost_usd is not None]
    tokens = sum(response.tokens_used.total for response in responses)
    calls = sum(len(response.tool_calls) for response in responses)
    console.print()
    console.print(Rule())
    total = sum(costs, Decimal(0))
    console.print(
        f"{len(responses)} answers, {calls} tool calls, {tokens} tokens, ${total:f} at Azure's prices."
    )
    console.print("[dim]Behind the emulator token counts are estimates. Next: docs/quickstart.md[/]")


if __name__ == "__main__":
    try:
        main()
    except LoomError as failure:
        console.print(f"\n[red]{escape(str(failure))}[/]")
        sys.exit(1)
