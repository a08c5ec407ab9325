"""The main job, watched: an agent answers questions over a real database, through Azure's wire.

Offline by default: a small local model decides on the tool calls behind an emulator of Azure
OpenAI, and the database holds real flights from New York. With ``AZURE_OPENAI_ENDPOINT``,
``AZURE_OPENAI_DEPLOYMENT`` and ``AZURE_OPENAI_API_KEY`` set, the same agent talks to Azure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from loom_py.backends import SQLBackend
from loom_py.builder import AgentBuilder
from loom_py.cli.demo.flights import QUESTIONS, flight_tools
from loom_py.cli.demo.model import database, demo_model
from loom_py.cli.repl.drawing import draw_turn
from loom_py.cli.repl.tables import dollars
from loom_py.emulator import AzureEmulator
from loom_py.messages import Response

__all__ = ["run_demo"]

DEPLOYMENT = "gpt-4o-deployment"
VARIABLES = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_API_KEY")


def run_demo(console: Console) -> None:
    """Ask the three questions, show every step, and add up what they came to."""
    console.print(Rule("loom_py: an agent you can put on call"))
    path = database()
    with _azure(console) as (endpoint, deployment, key):
        backend = SQLBackend(f"sqlite:///{path}")
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
            _fact(console, "Database", f"{path.name}: flights from New York, February 2013")
            _fact(console, "Tools", f"the agent's own, and three that the database brings:\n{names}")
            responses = []
            for question in QUESTIONS:
                console.print(Text.assemble("\n", ("? ", "bold cyan"), (question, "bold")))
                responses.append(draw_turn(console, agent.stream_chat(question)))
    _summarise(console, responses)


def _fact(console: Console, name: str, text: str, style: str = "dim") -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=9)
    grid.add_row(Text(name, style=style), Text(text, style=style))
    console.print(grid)


@contextmanager
def _azure(console: Console) -> Iterator[tuple[str, str, str]]:
    """Endpoint, deployment and key: of real Azure where the environment names it, else the emulator's."""
    values = {name: os.environ.get(name, "") for name in VARIABLES}
    if all(values.values()):
        endpoint, deployment, key = values.values()
        _fact(console, "Model", f"{deployment} at {endpoint}")
        yield endpoint, deployment, key
        return
    if any(values.values()):
        missing = ", ".join(name for name, value in values.items() if not value)
        _fact(console, "Note", f"not real Azure, for {missing} is not set", "yellow")
    model, note = demo_model()
    _fact(console, "Model", note)
    with AzureEmulator(model, deployments={DEPLOYMENT: "gpt-4o-2024-11-20"}) as emulator:
        _fact(console, "Wire", f"Azure OpenAI emulated at {emulator.endpoint}")
        yield emulator.endpoint, DEPLOYMENT, emulator.api_key


def _summarise(console: Console, responses: Sequence[Response]) -> None:
    """What it all came to."""
    costs = [response.cost_usd for response in responses if response.cost_usd is not None]
    tokens = sum(response.tokens_used.total for response in responses)
    calls = sum(len(response.tool_calls) for response in responses)
    total = sum(costs, Decimal(0))
    console.print()
    console.print(Rule())
    figures = f"{len(responses)} answers, {calls} tool calls, {tokens:,} tokens, {dollars(total)}"
    console.print(f"{figures} at Azure's prices.")
    console.print(Text("Behind the emulator token counts are estimates. Next: loom chat", style="dim"))
