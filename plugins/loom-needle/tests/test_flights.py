"""The questions of the examples, answered by the model over the real database."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from loom_needle import NeedleProvider
from loom_py.messages import Message
from loom_py.tools import Tool, as_tool

EXAMPLES = Path(__file__).parents[3] / "examples"

pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are only in the repository"),
]

EXPECTED = [
    (
        [("most_delayed_airline", {"airport": "JFK"})],
        ["Endeavor Air Inc. had the highest average departure delay from JFK: 19.1 minutes over 390"],
    ),
    (
        [("count_cancelled_flights", {"airport": "JFK", "day": 8})],
        ["159 of the 304 flights from JFK on 8 February 2013 were cancelled (52%)."],
    ),
    (
        [("get_airline_delay", {"airline": "JetBlue"}), ("get_airline_delay", {"airline": "Delta"})],
        [
            "JetBlue Airways left 11.5 minutes late and arrived 7.3 minutes late",
            "Delta Air Lines Inc. left 9.1 minutes late and arrived 0.5 minutes late",
        ],
    ),
]


@pytest.mark.parametrize("number", range(3))
def test_the_questions_of_the_examples_are_answered_from_the_data(number: int) -> None:
    pytest.importorskip("sqlalchemy", reason="the SQL backend needs sqlalchemy")
    from loom_py.backends import SQLBackend

    example: dict[str, Any] = runpy.run_path(str(EXAMPLES / "flight_tools.py"))
    calls, sentences = EXPECTED[number]
    with SQLBackend(f"sqlite:///{EXAMPLES / 'data' / 'flights.db'}") as backend:
        tools: dict[str, Tool[..., Any]] = {
            function.__name__: as_tool(function) for function in example["flight_tools"](backend)
        }
        provider, specs = NeedleProvider(), [tool.spec for tool in tools.values()]
        messages = [Message.user(example["QUESTIONS"][number])]
        asked = provider.chat(messages, specs)
        assert [(call.name, call.arguments) for call in asked.tool_calls] == calls
        assert asked.metadata["confidence"] > 0.4  # well above the gate
        messages.append(asked.to_message())
        messages.extend(
            Message.tool(tools[call.name](**call.arguments), call.id, call.name) for call in asked.tool_calls
        )
        answer = provider.chat(messages, specs).message
    assert len(answer.splitlines()) == len(calls)
    for sentence in sentences:
        assert sentence in answer
