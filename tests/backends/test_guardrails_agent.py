"""Guardrails in an agent's chat: what the model reads, and what one chat remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from loom_py import Agent, AgentBuilder, ScriptedProvider, SQLBackend, call
from loom_py.backends import tools_of
from loom_py.guardrails import Guardrails
from loom_py.llm.scripted import Step
from loom_py.messages import Response

WRONG = [call("query_database", sql=f"SELECT dely{number} FROM flights") for number in range(5)]
RIGHT = call("query_database", sql="SELECT max(delay) AS worst FROM flights")


@pytest.fixture
def backend(sqlite_file: Path) -> Iterator[SQLBackend]:
    with SQLBackend(sqlite_file) as backend:
        yield backend


def agent(backend: SQLBackend, guardrails: Guardrails, *steps: Step) -> Agent:
    tools = tools_of(backend, guardrails)
    return AgentBuilder().with_llm(ScriptedProvider(steps)).with_tools(*tools).build()


def read(response: Response) -> list[str]:
    """What the model read of its queries, the first line each."""
    return [str(result.content).splitlines()[0] for result in response.tool_results]


def test_the_model_reads_the_right_name_and_corrects_itself(backend: SQLBackend) -> None:
    with agent(backend, Guardrails(), WRONG[0], RIGHT, "25") as asked:
        response = asked.chat("How late?")
    wrong, right = response.tool_results
    assert wrong.is_error
    assert "Suggestion: Did you mean delay? Columns: id, origin, delay, note." in str(wrong.content)
    assert not right.is_error
    assert "25" in str(right.content)


def test_failures_are_counted_over_the_replies_of_one_chat_and_the_next_begins_anew(
    backend: SQLBackend,
) -> None:
    guardrails = Guardrails(max_corrections=2)
    steps: list[Step] = [*WRONG[:2], RIGHT, "I could not find out.", RIGHT, "25"]
    with agent(backend, guardrails, *steps) as asked:
        first, second = asked.chat("How late?"), asked.chat("And now?")
    assert "failed attempt 2 of 2 in a row" in str(first.tool_results[1].content)
    assert (
        read(first)[2]
        == "Error (guardrail): the query was not run: 2 queries in a row have failed in this chat"
    )
    assert "Stop querying" in str(first.tool_results[2].content)
    assert [result.is_error for result in second.tool_results] == [False]
    record = guardrails.record(first.metadata["chat_id"])
    assert record is not None
    assert record.count == 2


async def test_chats_at_once_do_not_count_each_others_failures(backend: SQLBackend) -> None:
    guardrails = Guardrails(max_corrections=2)
    agents = [agent(backend, guardrails, WRONG[0], RIGHT, "25") for _ in range(8)]
    responses = await asyncio.gather(*(each.achat("How late?") for each in agents))
    for response in responses:
        assert [result.is_error for result in response.tool_results] == [True, False]
        assert "failed attempt 1 of 2" in str(response.tool_results[0].content)
        assert guardrails.record(response.metadata["chat_id"]) is None
    for each in agents:
        await each.aclose()
