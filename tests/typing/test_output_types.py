"""The type of an answer's output is the type that was asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, assert_type

from loom_py import AgentBuilder, Response, ScriptedProvider


@dataclass
class Point:
    x: int


async def test_the_output_has_the_type_that_was_asked_for() -> None:
    agent = AgentBuilder().with_llm(ScriptedProvider(['{"x": 1}', '{"x": 2}', "plain", "plain"])).build()
    response = agent.chat("where?", output=Point)
    assert_type(response, Response[Point])
    assert_type(response.output.x, int)
    assert response.output == Point(1)
    later = await agent.achat("where?", output=Point)
    assert_type(later.output, Point)
    assert later.output == Point(2)
    plain = agent.chat("hello")
    assert_type(plain.output, Any)
    assert plain.output is None
    threaded = await asyncio.to_thread(agent.chat, "hello")
    assert_type(threaded.message, str)
    assert threaded.message == "plain"
