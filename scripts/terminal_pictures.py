"""Draw the pictures of the command line that the documentation shows.

::

    python -m scripts.terminal_pictures          write docs/images/loom-*.svg

Each is what the command prints, at the time the script is run: nothing in them is written by hand but the
questions. Needs the extra ``cli``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from loom_py import Agent, AgentBuilder, AzureEmulator, AzureOpenAIClient, ScriptedProvider, tool
from loom_py.cli.chatting import greet
from loom_py.cli.demo import run_demo
from loom_py.cli.doctor import show_findings
from loom_py.cli.emulating import screen_of
from loom_py.cli.models import Chosen
from loom_py.cli.repl.conversation import Conversation
from loom_py.cli.repl.drawing import draw_turn
from loom_py.cli.repl.slash import SlashCommands
from loom_py.emulator import FaultPlan, Quota
from loom_py.errors import LoomError
from loom_py.llm.scripted import Answer, ScriptedRequest, call
from loom_py.messages import Message

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 96
MODEL = "gpt-4o-2024-11-20"
KEY = "emulator-key-0123456789"

FONTS = re.compile(r"\s*@font-face \{\{.*?\}\}", re.DOTALL)
"""Fonts that the picture would fetch from elsewhere; the reader's own will do."""


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: rain, 9 °C, wind from the west"


@tool
def stock(product: str) -> int:
    """How many of a product are left."""
    return 12


def main() -> None:
    """Write all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    pictures = {"demo": run_demo, "chat": chat, "emulate": emulate, "doctor": doctor}
    for name, draw in pictures.items():
        picture(name, draw)


def picture(name: str, draw: Callable[[Console], None]) -> None:
    """Write what ``draw`` prints."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    draw(console)
    path = IMAGES / f"loom-{name}.svg"
    console.save_svg(
        str(path),
        title=f"loom {name}",
        code_format=FONTS.sub("", CONSOLE_SVG_FORMAT),
        unique_id=f"loom-{name}",
    )


def chat(console: Console) -> None:
    """A conversation: two questions, a tool, and what it cost."""
    with emulator() as azure, agent_of(azure) as agent:
        builder = AgentBuilder()  # only its label is shown
        greet(console, Chosen(builder, "shop", "shop.yaml"), agent)
        conversation = Conversation(agent)
        for question in ("What is the weather in Oslo?", "And how many umbrellas are left?"):
            typed(console, question)
            draw_turn(console, agent.stream_chat(question, session_id=conversation.session_id))
            console.print()
        commands = SlashCommands(console, conversation)
        for command in ("/cost", "/health"):
            typed(console, command)
            commands.run(command)
            console.print()


def emulate(console: Console) -> None:
    """The screen of an emulated resource, after some requests."""
    faults = FaultPlan.from_dict({"rules": [{"error": "429-2026", "nth": 3}, {"error": "503", "nth": 5}]})
    quotas = {"gpt-4o": Quota(tokens_per_minute=60_000, requests_per_minute=360)}
    with AzureEmulator(
        deployments={"gpt-4o": MODEL}, api_keys=[KEY], quotas=quotas, faults=faults, chunk_delay=0.01
    ) as azure:
        with AzureOpenAIClient(endpoint=azure.endpoint, api_key=KEY, deployment_id="gpt-4o") as client:
            for _ in range(6):
                try:
                    client.chat([Message.user("Summarise our week in one sentence, please.")])
                except LoomError:
                    continue
        console.print(screen_of(azure, rows=12))


def doctor(console: Console) -> None:
    """All is well, and then a wrong key."""
    with emulator() as azure:
        for key in (KEY, "another-key-0123456789"):
            with AzureOpenAIClient(endpoint=azure.endpoint, api_key=key, deployment_id="gpt-4o") as client:
                show_findings(console, client)


def typed(console: Console, text: str) -> None:
    """What somebody types at the prompt."""
    console.print(Text.assemble(("› ", "bold cyan"), text))


def emulator() -> AzureEmulator:
    """A resource whose model asks the tools."""
    return AzureEmulator(ScriptedProvider(answer), deployments={"gpt-4o": MODEL}, api_keys=[KEY])


def agent_of(azure: AzureEmulator) -> Agent:
    """An agent of that resource."""
    builder = AgentBuilder().with_name("shop").with_tools(weather, stock)
    builder = builder.with_azure_openai_llm(azure.endpoint, "gpt-4o", KEY)
    return builder.with_circuit_breakers().with_budget(usd="0.50", per="session").build()


def answer(request: ScriptedRequest) -> Answer:
    """The model's part."""
    last = request.messages[-1]
    if last.role == "tool":
        return (
            "It rains in **Oslo**, 9 °C, with wind from the west. Take an umbrella."
            if "rain" in last.text
            else f"There are {last.text} umbrellas left."
        )
    if "weather" in last.text:
        return call("weather", city="Oslo")
    return call("stock", product="umbrella") if "umbrella" in last.text else "ready"


if __name__ == "__main__":
    main()
