"""What an agent has cost: every call counts, and the sums are exact."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from loom_py import Agent, AgentBuilder, Response, TokenUsage, tool
from loom_py.emulator import AzureEmulator
from loom_py.errors import ContentFilterError, OutputValidationError, RateLimitError
from loom_py.llm.profiles import ModelProfile
from loom_py.llm.scripted import ScriptedProvider, call, reply

VERBS = ("chat", "achat", "stream_chat", "astream_chat")
every_verb = pytest.mark.parametrize("verb", VERBS)
SPENT = TokenUsage(1000, 100, cached_input=400)
PRICE = Decimal("0.003")  # gpt-4o: 600 at 2.50, 400 cached at 1.25, 100 out at 10 USD a million
surfaces = pytest.mark.parametrize("surface", ["chat", "responses"])


class Answer(BaseModel):
    number: int


class WithSchemas(ScriptedProvider):
    @property
    def profile(self) -> ModelProfile:
        return ModelProfile(structured_output=True)


async def ask(agent: Agent, verb: str, message: str = "Hi", **settings: Any) -> Response[Any]:
    method = getattr(agent, verb)
    if verb == "achat":
        response = await method(message, **settings)
    elif verb == "astream_chat":
        response = [event async for event in method(message, **settings)][-1].response
    elif verb == "stream_chat":
        response = (await asyncio.to_thread(lambda: list(method(message, **settings))))[-1].response
    else:
        response = await asyncio.to_thread(method, message, **settings)
    assert isinstance(response, Response)
    return response


@tool
def look(what: str) -> str:
    """Looks."""
    return what


def on_azure(azure: AzureEmulator, **settings: Any) -> Agent:
    kwargs: dict[str, Any] = {**azure.client_kwargs(), **settings}
    return AgentBuilder().with_azure_openai_llm(**kwargs).with_tools(look).build()


@every_verb
@surfaces
async def test_a_chat_costs_the_sum_of_its_calls_tool_turns_and_corrections_included(
    surface: str, verb: str
) -> None:
    steps: list[Any] = [call("look", what="x"), "not JSON", '{"number": 7}']
    engine = ScriptedProvider(
        [
            reply(step, tokens=SPENT) if isinstance(step, str) else reply(tool_calls=[step], tokens=SPENT)
            for step in steps
        ]
    )
    with AzureEmulator(engine=engine, deployments={"gpt-4o": "gpt-4o-2024-11-20"}) as azure:
        agent = on_azure(azure, surface=surface)
        response = await ask(agent, verb, output=Answer, session_id="s")
        await agent.aclose()
    report = agent.costs()
    assert response.output.number == 7
    assert report.calls == 3
    assert report.total == response.cost_usd == 3 * PRICE
    assert sum(report.parts.values()) == report.total
    assert report.usage == response.tokens_used == TokenUsage(3000, 300, cached_input=1200)
    assert agent.costs(chat=response.metadata["chat_id"]) == report
    assert agent.costs(session="s").total == report.total
    assert list(report.by_model) == ["gpt-4o-2024-11-20"] or list(report.by_model) == ["gpt-4o"]


@every_verb
async def test_a_call_that_failed_after_it_was_billed_counts_as_failed(verb: str) -> None:
    error = ContentFilterError(
        "no", side="completion", tokens_used=TokenUsage(10, 5), cost_usd=Decimal("0.25")
    )
    agent = Agent(ScriptedProvider([reply("x", cost_usd=Decimal("0.5"), tokens=SPENT), error]))
    await ask(agent, verb)
    with pytest.raises(ContentFilterError):
        await ask(agent, verb)
    report = agent.costs()
    assert (report.calls, report.failed_calls) == (2, 1)
    assert (report.total, report.failed_total) == (Decimal("0.75"), Decimal("0.25"))


def test_a_call_that_was_not_billed_costs_nothing() -> None:
    agent = Agent(ScriptedProvider([RateLimitError("slow down")]))
    with pytest.raises(RateLimitError):
        agent.chat("Hi")
    assert (agent.costs().calls, agent.costs().total) == (0, Decimal(0))


def test_corrections_that_come_to_nothing_are_paid_for_too() -> None:
    steps = [reply("no", cost_usd=Decimal("0.1"), tokens=SPENT)] * 3
    agent = Agent(WithSchemas(steps))
    with pytest.raises(OutputValidationError) as caught:
        agent.chat("Hi", output=Answer)
    assert agent.costs().total == caught.value.cost_usd == Decimal("0.3")


def test_an_unknown_price_is_counted_and_never_guessed() -> None:
    agent = Agent(
        ScriptedProvider([reply("a", tokens=SPENT), reply("b", cost_usd=Decimal("0.1"), tokens=SPENT)])
    )
    assert agent.chat("Hi").cost_usd is None
    agent.chat("Hi")
    report = agent.costs()
    assert (report.calls, report.unpriced_calls, report.is_complete) == (2, 1, False)
    assert report.total == Decimal("0.1")
    assert report.usage.input == 2 * SPENT.input


def test_sessions_and_chats_are_told_apart_and_add_up_to_the_agent() -> None:
    agent = Agent(ScriptedProvider(lambda _: reply("x", cost_usd=Decimal("0.01"), tokens=SPENT)))
    for session in ("a", "b", "a", None):
        agent.chat("Hi", session_id=session)
    assert agent.costs(session="a").calls == 2
    assert agent.costs(session="b").total == Decimal("0.01")
    by_session = agent.costs().by_session
    assert sum((report.total for report in by_session.values()), Decimal(0)) == agent.costs().total
    with pytest.raises(KeyError):
        agent.costs(session="none")
    with pytest.raises(KeyError):
        agent.costs(chat="none")


def test_a_session_that_is_deleted_stays_in_the_total() -> None:
    agent = Agent(ScriptedProvider(lambda _: reply("x", cost_usd=Decimal("0.01"), tokens=SPENT)))
    agent.chat("Hi", session_id="a")
    assert agent.delete_session("a")
    assert agent.costs().total == Decimal("0.01")
    with pytest.raises(KeyError):
        agent.costs(session="a")


def test_many_threads_lose_no_call() -> None:
    agent = Agent(ScriptedProvider(lambda _: reply("x", cost_usd=Decimal("0.001"), tokens=SPENT)))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: agent.chat("Hi", session_id=f"s{n % 7}"), range(200)))
    report = agent.costs()
    assert (report.calls, report.total) == (200, Decimal("0.200"))
    assert sum(agent.costs(session=f"s{n}").calls for n in range(7)) == 200


@every_verb
@surfaces
@pytest.mark.parametrize(
    ("settings", "price"),
    [
        ({}, PRICE),
        ({"deployment_type": "data-zone-eu"}, PRICE * Decimal("1.1")),
        ({"deployment_type": "provisioned"}, None),
    ],
)
async def test_the_type_of_deployment_decides_the_price(
    settings: dict[str, Any], price: Decimal | None, surface: str, verb: str
) -> None:
    engine = ScriptedProvider([reply("x", tokens=SPENT)])
    with AzureEmulator(engine=engine, deployments={"gpt-4o": "gpt-4o-2024-11-20"}) as azure:
        agent = on_azure(azure, surface=surface, **settings)
        response = await ask(agent, verb)
        await agent.aclose()
    assert response.cost_usd == price
    assert agent.costs().is_complete == (price is not None)
