"""What thinks in the demo: a small local model, or its script where that is not installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from loom_py.cli.demo.flights import QUESTIONS, flight_tools
from loom_py.errors import LoomError, ProviderNotFoundError
from loom_py.llm.provider import LLMProvider
from loom_py.llm.registry import create_provider
from loom_py.llm.scripted import ScriptedProvider, ScriptedRequest, call
from loom_py.messages import Message, ToolCall

if TYPE_CHECKING:
    from loom_py.builder import AgentBuilder

__all__ = ["database", "demo_builder", "demo_model", "script"]

SCRIPT: dict[str, tuple[ToolCall, ...]] = {
    QUESTIONS[0]: (call("most_delayed_airline", airport="JFK"),),
    QUESTIONS[1]: (call("count_cancelled_flights", airport="JFK", day=8),),
    QUESTIONS[2]: (call("get_airline_delay", airline="JetBlue"), call("get_airline_delay", airline="Delta")),
}

SORRY = "I am the demo's script and can answer {count} questions only:\n\n{questions}\n\nType its number."


def database() -> Path:
    """The flights: a file of the installed package, or of the checkout it is run from."""
    here = Path(__file__)
    installed = here.with_name("flights.db")
    return installed if installed.exists() else here.parents[3] / "examples" / "data" / "flights.db"


def demo_model() -> tuple[LLMProvider, str]:
    """The model, and what to say of it."""
    offered = {step.name for steps in SCRIPT.values() for step in steps}
    try:
        model = create_provider("needle", offer=[*offered, "find_busiest_routes", "get_weather"])
    except LoomError as error:
        why = "pip install loom-needle" if isinstance(error, ProviderNotFoundError) else error.message
        note = f"The local model is not here ({why}). A script plays its part."
        return ScriptedProvider(script, name="demo", model="demo-script"), note
    return model, "Needle 3, 121 million parameters, on this CPU"


def demo_builder() -> AgentBuilder:
    """An agent over the flights, with a scripted model that answers the demo's questions."""
    from loom_py.backends import SQLBackend
    from loom_py.builder import AgentBuilder

    backend = SQLBackend(f"sqlite:///{database()}")
    return (
        AgentBuilder()
        .with_name("demo")
        .with_backend(backend)
        .with_tools(*flight_tools(backend))
        .with_llm(ScriptedProvider(script, name="demo", model="demo-script"))
    )


def script(request: ScriptedRequest) -> str | tuple[ToolCall, ...]:
    """The model's part, played: the calls each question needs, then their results as the answer."""
    results: list[Message] = []
    for message in reversed(request.messages):
        if message.role == "user":
            return " ".join(result.text for result in results) if results else _first_step(message.text)
        if message.role == "tool":
            results.insert(0, message)
    return "Please ask a question."


def _first_step(text: str) -> str | tuple[ToolCall, ...]:
    known = {_bare(question): calls for question, calls in SCRIPT.items()}
    known |= {str(number): calls for number, calls in enumerate(SCRIPT.values(), 1)}
    if (calls := known.get(_bare(text))) is not None:
        return calls
    listed = "\n".join(f"{number}. {question}" for number, question in enumerate(QUESTIONS, 1))
    return SORRY.format(count=len(QUESTIONS), questions=listed)


def _bare(text: str) -> str:
    """A question without what may be written in many ways."""
    return " ".join(re.findall(r"\w+", text.lower()))
