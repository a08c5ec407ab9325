"""The agent, asked through each of its four verbs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, TypeAlias

import pytest
import structlog
from structlog.testing import capture_logs

from loom_py import Agent, AgentBuilder, ChatOptions, Message, Response, TokenUsage, ToolCall, ToolError, tool
from loom_py.errors import (
    AgentClosedError,
    CircuitOpenError,
    ContentFilterError,
    InvalidRequestError,
    LimitExceededError,
    LoomError,
    ServiceUnavailableError,
)
from loom_py.llm.scripted import ScriptedProvider, ScriptedRequest, Step, call, reply
from loom_py.resilience.breaker import BreakerConfig, CircuitBreakers

Verb: TypeAlias = Callable[..., Awaitable[Response]]


async def chat(agent: Agent, message: Any, **options: Any) -> Response:
    return await asyncio.to_thread(lambda: agent.chat(message, **options))


async def achat(agent: Agent, message: Any, **options: Any) -> Response:
    return await agent.achat(message, **options)


async def stream(agent: Agent, message: Any, **options: Any) -> Response:
    events = await asyncio.to_thread(lambda: list(agent.stream_chat(message, **options)))
    assert events[-1].response is not None
    return events[-1].response


async def astream(agent: Agent, message: Any, **options: Any) -> Response:
    events = [event async for event in agent.astream_chat(message, **options)]
    assert events[-1].response is not None
    return events[-1].response


VERBS: list[Verb] = [chat, achat, stream, astream]
verbs = pytest.mark.parametrize("ask", VERBS)


@pytest.fixture(autouse=True)
def structlog_restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@tool
def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


@tool
async def triple(number: int) -> int:
    """Thrice a number."""
    return 3 * number


@tool
def broken() -> str:
    """Always fails."""
    raise OSError("disk on fire")


def builder(*steps: Step, tools: Sequence[Any] = (double, triple, broken)) -> AgentBuilder:
    """Without retries: a script plays each failure once."""
    return AgentBuilder().with_llm(ScriptedProvider(steps)).with_tools(*tools).with_retries(max_attempts=1)


def requests(agent: Agent) -> tuple[ScriptedRequest, ...]:
    assert isinstance(agent.provider, ScriptedProvider)
    return agent.provider.requests


def spent(text: str = "", *calls: ToolCall, cost: str | None = "0.5") -> Response:
    """A reply that took 10 and 2 tokens."""
    money = None if cost is None else Decimal(cost)
    return reply(text, tool_calls=calls, tokens=TokenUsage(10, 2), cost_usd=money)


# ── the four verbs are one ───────────────────────────────────────────────────────────────

SCRIPTS: dict[str, tuple[Step, ...]] = {
    "answer": ("Hello.",),
    "tools": (spent("Let me see.", call("double", number=2), call("triple", number=3)), spent("4 and 9")),
    "errors": ([call("broken"), call("nothing"), call("double", number="x")], "I could not."),
    "blank": ("", "Here."),
    "blank twice": ("", "  "),
    "unpriced": (spent("", call("double", number=2)), spent("4", cost=None)),
    "limit": (*[call("double", number=n) for n in range(4)], "so far"),
}


@pytest.mark.parametrize("script", SCRIPTS)
async def test_the_same_script_gives_the_same_response_and_history_by_every_verb(script: str) -> None:
    seen = []
    for ask in VERBS:
        agent = builder(*SCRIPTS[script]).with_limits(max_turns=4).with_system_prompt("Be brief.").build()
        response = await ask(agent, "Go", session_id="s")
        results = [(item.call_id, item.content, item.error_code) for item in response.tool_results]
        assert response.metadata.pop("chat_id")
        asked = [(request.messages, [spec.name for spec in request.tools]) for request in requests(agent)]
        seen.append((response.to_dict() | {"tool_results": results}, agent.history("s"), asked))
    assert seen[0] == seen[1] == seen[2] == seen[3]


@verbs
async def test_usage_and_cost_are_those_of_the_whole_chat(ask: Verb) -> None:
    agent = builder(
        spent("", call("double", number=2)), spent("", call("triple", number=2)), spent("4, 6")
    ).build()
    response = await ask(agent, "Go")
    assert response.tokens_used == TokenUsage(30, 6)
    assert response.cost_usd == Decimal("1.5")
    assert [item.content for item in response.tool_results] == ["4", "6"]
    assert response.metadata["turns"] == 3


@verbs
async def test_one_unknown_price_makes_the_whole_cost_unknown(ask: Verb) -> None:
    agent = builder(spent("", call("double", number=2), cost=None), spent("4")).build()
    assert (await ask(agent, "Go")).cost_usd is None


# ── limits ───────────────────────────────────────────────────────────────────────────────


def always_calls(count: int = 1) -> Callable[[ScriptedRequest], Any]:
    def answer(request: ScriptedRequest) -> Any:
        return [call("double", number=n) for n in range(count)] if request.tools else "done"

    return answer


def endless(count: int = 1, **limits: Any) -> Agent:
    provider = ScriptedProvider(always_calls(count))
    return AgentBuilder().with_llm(provider).with_tools(double).with_limits(**limits).build()


@verbs
async def test_five_turns_of_tool_calls_take_a_sixth_to_answer(ask: Verb) -> None:
    agent = endless(max_turns=5)
    response = await ask(agent, "Go")
    assert (response.message, response.metadata["turns"]) == ("done", 6)
    assert [bool(request.tools) for request in requests(agent)] == [True] * 5 + [False]


@verbs
async def test_no_more_than_three_executions_of_five_calls(ask: Verb) -> None:
    response = await ask(endless(5, max_tool_executions=3), "Go")
    assert len(response.tool_results) == response.metadata["tool_executions"] == 3


@verbs
async def test_the_cap_of_one_reply_answers_the_other_seven_calls(ask: Verb) -> None:
    agent = builder([call("double", number=n) for n in range(10)], "done")
    built = agent.with_limits(max_tool_calls_per_reply=3).build()
    response = await ask(built, "Go", session_id="s")
    assert [item.content for item in response.tool_results] == ["0", "2", "4"]
    texts = [message.text for message in built.history("s") if message.role == "tool"]
    assert sum("limit_reached" in text for text in texts) == 7


@verbs
async def test_on_limit_raise_raises_and_forgets_the_chat(ask: Verb) -> None:
    agent = endless(max_turns=2, on_limit="raise")
    with pytest.raises(LimitExceededError, match="max_turns = 2") as caught:
        await ask(agent, "Go", session_id="s")
    assert caught.value.tokens_used is not None
    assert caught.value.tokens_used.total > 0
    assert agent.sessions() == ()


@verbs
async def test_the_last_call_at_a_limit_sends_no_tools(ask: Verb) -> None:
    agent = endless(max_tool_executions=1)
    await ask(agent, "Go", options=ChatOptions(tool_choice="required"))
    assert requests(agent)[-1].tools == ()


@verbs
async def test_a_forced_tool_is_forced_once_and_other_options_stay(ask: Verb) -> None:
    agent = builder(call("double", number=1), "2").build()
    await ask(agent, "Go", options=ChatOptions(tool_choice="double", temperature=0.0))
    first, second = (request.options for request in requests(agent))
    assert (first.tool_choice, second.tool_choice) == ("double", None)
    assert first.temperature == second.temperature == 0.0


# ── tools ────────────────────────────────────────────────────────────────────────────────


@verbs
async def test_no_failing_tool_fails_the_chat(ask: Verb) -> None:
    @tool(timeout=0.02)
    async def slow() -> str:
        await asyncio.sleep(60)
        return "never"

    @tool
    def choosy(city: str) -> str:
        raise ToolError(f"no such city: {city}", hint="use its English name")

    asked = [
        call("broken"),
        call("nothing"),
        call("double", number="x"),
        call("slow"),
        call("choosy", city="Rom"),
    ]
    bad = ToolCall.parse("c9", "double", "{not json")
    agent = builder([*asked, bad], "Sorry.", tools=[double, broken, slow, choosy]).build()
    response = await ask(agent, "Go")
    assert response.message == "Sorry."
    assert [item.error_code for item in response.tool_results] == [
        "tool_error",
        "unknown_tool",
        "invalid_arguments",
        "tool_timeout",
        "tool_error",
        "invalid_arguments",
    ]
    told = [message.text for message in requests(agent)[1].messages if message.role == "tool"]
    assert "disk on fire" in told[0]
    assert "double" in told[1]
    assert "number" in told[2]
    assert "0.02 s" in told[3]
    assert "use its English name" in told[4]


@verbs
async def test_calls_of_one_reply_run_at_once_and_answer_in_order(ask: Verb) -> None:
    barrier = threading.Barrier(3, timeout=5)

    @tool
    def meet(delay: float) -> str:
        barrier.wait()
        time.sleep(delay)
        return f"after {delay}"

    agent = builder([call("meet", delay=d) for d in (0.03, 0.02, 0.0)], "met", tools=[meet]).build()
    response = await ask(agent, "Go")
    assert [item.content for item in response.tool_results] == ["after 0.03", "after 0.02", "after 0.0"]


@pytest.mark.parametrize("ask", [achat, astream])
async def test_async_tools_run_in_the_callers_own_event_loop(ask: Verb) -> None:
    here = asyncio.get_running_loop()
    seen = []

    @tool
    async def look() -> str:
        seen.append(asyncio.get_running_loop())
        return "ok"

    await ask(builder([call("look"), call("look")], "ok", tools=[look]).build(), "Go")
    assert seen == [here, here]


# ── sessions ─────────────────────────────────────────────────────────────────────────────


@verbs
async def test_a_session_remembers_and_another_does_not(ask: Verb) -> None:
    agent = builder("Hi Ada.", "You are Ada.", "Who?").with_system_prompt("Be kind.").build()
    await ask(agent, "I am Ada.", session_id="a")
    response = await ask(agent, "Who am I?", session_id="a")
    await ask(agent, "Who am I?", session_id="b")
    assert response.metadata["session_id"] == "a"
    second, third = requests(agent)[1:]
    assert [message.text for message in second.messages] == ["Be kind.", "I am Ada.", "Hi Ada.", "Who am I?"]
    assert [message.text for message in third.messages] == ["Be kind.", "Who am I?"]
    assert agent.sessions() == ("a", "b")
    assert [message.role for message in agent.history("a")] == ["user", "assistant"] * 2


@verbs
async def test_a_chat_without_a_session_leaves_no_trace(ask: Verb) -> None:
    agent = builder("one", "two").build()
    response = await ask(agent, "1")
    await ask(agent, "2")
    assert "session_id" not in response.metadata
    assert [len(request.messages) for request in requests(agent)] == [1, 1]
    assert agent.sessions() == ()


@verbs
async def test_a_failing_chat_leaves_the_session_as_it_was(ask: Verb) -> None:
    agent = builder(
        "Hi.", spent("", call("double", number=1)), ServiceUnavailableError("down"), "Again."
    ).build()
    await ask(agent, "Hello", session_id="s")
    before = agent.history("s")
    with pytest.raises(ServiceUnavailableError) as caught:
        await ask(agent, "Go", session_id="s")
    assert caught.value.tokens_used == TokenUsage(10, 2)
    assert caught.value.cost_usd == Decimal("0.5")
    assert agent.history("s") == before
    assert (await ask(agent, "Go", session_id="s")).message == "Again."


@verbs
async def test_a_first_chat_that_fails_begins_no_session(ask: Verb) -> None:
    agent = builder(ServiceUnavailableError("down")).build()
    with pytest.raises(ServiceUnavailableError):
        await ask(agent, "Hello", session_id="s")
    assert agent.sessions() == ()
    with pytest.raises(KeyError):
        agent.history("s")
    assert not agent.delete_session("s")


def test_a_deleted_session_is_forgotten() -> None:
    agent = builder("one", "two").build()
    agent.chat("1", session_id="s")
    assert agent.delete_session("s")
    assert not agent.delete_session("s")
    agent.chat("2", session_id="s")
    assert len(agent.history("s")) == 2


async def test_chats_on_one_session_take_turns_among_threads_and_tasks() -> None:
    inside = 0
    most = 0
    lock = threading.Lock()

    def answer(request: ScriptedRequest) -> str:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.002)
        with lock:
            inside -= 1
        return f"re {request.text}"

    agent = AgentBuilder().with_llm(ScriptedProvider(answer)).build()
    await asyncio.gather(*(VERBS[n % 4](agent, f"m{n}", session_id="s") for n in range(24)))
    assert most == 1
    history = agent.history("s")
    assert len(history) == 48
    for question, response in zip(history[::2], history[1::2], strict=True):
        assert (question.role, response.role) == ("user", "assistant")
        assert response.text == f"re {question.text}"
    assert sorted(request.index * 2 + 1 for request in requests(agent)) == [
        len(request.messages) for request in requests(agent)
    ]


async def test_chats_on_different_sessions_run_at_the_same_time() -> None:
    barrier = threading.Barrier(8, timeout=5)

    def answer(request: ScriptedRequest) -> str:
        barrier.wait()
        return f"re {request.text}"

    agent = AgentBuilder().with_llm(ScriptedProvider(answer)).build()
    chats = [VERBS[n % 4](agent, f"m{n}", session_id=f"s{n}") for n in range(8)]
    responses = await asyncio.gather(*chats)
    assert [response.message for response in responses] == [f"re m{n}" for n in range(8)]


def test_threads_alone_mix_nothing_up() -> None:
    def answer(request: ScriptedRequest) -> Any:
        if request.messages[-1].role == "user":
            return call("double", number=int(request.text))
        return f"it is {request.text}"

    agent = AgentBuilder().with_llm(ScriptedProvider(answer)).with_tools(double).build()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: agent.chat(str(n), session_id=f"s{n % 20}").message, range(80)))
    assert answers == [f"it is {2 * n}" for n in range(80)]


@verbs
async def test_a_tool_that_chats_in_its_own_session_is_told_rather_than_left_waiting(ask: Verb) -> None:
    @tool
    def recurse(session: str) -> str:
        return agent.chat("inner", session_id=session).message

    steps: list[Step] = [call("recurse", session="s"), call("recurse", session="t"), "inner answer", "outer"]
    agent = builder(*steps, tools=[recurse]).with_timeouts(tool=2).build()
    response = await asyncio.wait_for(ask(agent, "Go", session_id="s"), 5)
    refused, allowed = response.tool_results
    assert refused.is_error
    assert "another session_id" in refused.content
    assert allowed.content == "inner answer"
    assert response.message == "outer"


# ── cancelling ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ask", [achat, astream])
async def test_cancelling_cancels_running_tools_and_frees_the_session(ask: Verb) -> None:
    events: list[str] = []
    running = asyncio.Event()

    @tool
    async def forever(name: str) -> str:
        running.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            events.append(f"{name} cancelled")
            raise
        return "never"

    agent = builder([call("forever", name="a"), call("forever", name="b")], "next", tools=[forever]).build()
    task = asyncio.ensure_future(ask(agent, "Go", session_id="s"))
    await asyncio.wait_for(running.wait(), 5)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(events) == ["a cancelled", "b cancelled"]
    assert agent.sessions() == ()
    response = await asyncio.wait_for(agent.achat("Again", session_id="s"), 5)
    assert response.message == "next"


async def test_a_waiting_chat_that_is_cancelled_passes_its_turn_on() -> None:
    release = threading.Event()

    def answer(request: ScriptedRequest) -> str:
        if request.index == 0:
            release.wait(5)
        return request.text

    agent = AgentBuilder().with_llm(ScriptedProvider(answer)).build()
    first = asyncio.create_task(agent.achat("1", session_id="s"))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(agent.achat("2", session_id="s"))
    third = asyncio.create_task(agent.achat("3", session_id="s"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(asyncio.gather(first, third), 5)
    assert [message.text for message in agent.history("s")] == ["1", "1", "3", "3"]


# ── breakers through the agent ───────────────────────────────────────────────────────────


@verbs
async def test_a_sick_deployment_is_left_alone_after_five_failures(ask: Verb) -> None:
    agent = builder(*[ServiceUnavailableError("down")] * 5, "never").with_circuit_breakers().build()
    for _ in range(5):
        with pytest.raises(ServiceUnavailableError):
            await ask(agent, "Go")
    with pytest.raises(CircuitOpenError) as caught:
        await ask(agent, "Go")
    assert 29 < (caught.value.retry_after or 0) <= 30
    assert len(requests(agent)) == 5
    assert agent.health().status == "down"


@verbs
async def test_the_callers_errors_open_no_breaker(ask: Verb) -> None:
    errors = [InvalidRequestError("400"), ContentFilterError("filtered")] * 4
    agent = builder(*errors, "fine").with_circuit_breakers(failure_threshold=1).build()
    for error in errors:
        with pytest.raises(type(error)):
            await ask(agent, "Go")
    assert (await ask(agent, "Go")).message == "fine"


async def test_without_breakers_every_call_goes_through() -> None:
    agent = builder(*[ServiceUnavailableError("down")] * 8, "fine").build()
    for _ in range(8):
        with pytest.raises(ServiceUnavailableError):
            agent.chat("Go")
    assert agent.chat("Go").message == "fine"
    assert agent.circuit_breakers == {}


@verbs
async def test_a_tool_that_keeps_failing_is_not_offered_any_more(ask: Verb) -> None:
    agent = builder(*[call("broken")] * 6, "without it").with_circuit_breakers().build()
    response = await ask(agent, "Go")
    codes = [item.error_code for item in response.tool_results]
    assert codes == ["tool_error"] * 5 + ["tool_unavailable"]
    offered = [{spec.name for spec in request.tools} for request in requests(agent)]
    assert offered[4] == {"double", "triple", "broken"}
    assert offered[5] == {"double", "triple"}
    assert agent.health().tools["broken"].state == "open"


async def test_a_tool_comes_back_after_its_open_time_and_two_successes_close_it() -> None:
    now = [0.0]
    sick = [True]

    @tool
    def moody() -> str:
        """Fails while it is sick."""
        if sick[0]:
            raise OSError("sick")
        return "well"

    guards = CircuitBreakers("tool", BreakerConfig(), clock=lambda: now[0])
    asked = [call("moody")] * 5
    provider = ScriptedProvider([asked, "off", "still off", call("moody"), "one", call("moody"), "two"])
    agent = Agent(provider, tools=[moody], tool_breakers=guards)
    agent.chat("Go")
    assert guards.stats()["moody"].state == "open"
    now[0] = 29.0
    agent.chat("Go")
    assert provider.requests[2].tools == ()
    now[0] = 30.0
    sick[0] = False
    await agent.achat("Go")
    assert guards.stats()["moody"].state == "half-open"
    agent.chat("Go")
    assert guards.stats()["moody"].state == "closed"


@verbs
async def test_bad_arguments_are_the_models_fault_and_not_the_tools(ask: Verb) -> None:
    agent = (
        builder(*[call("double", number="x")] * 6, call("double", number=4), "8")
        .with_circuit_breakers()
        .build()
    )
    response = await ask(agent, "Go")
    assert response.tool_results[-1].content == "8"


# ── closing ──────────────────────────────────────────────────────────────────────────────


class Closing(ScriptedProvider):
    """Counts how often it is closed."""

    def __init__(self, steps: Sequence[Step] = ("ok",), fails: bool = False) -> None:
        super().__init__(steps)
        self.closed: list[str] = []
        self.fails = fails

    def close(self) -> None:
        self.closed.append("close")
        if self.fails:
            raise OSError("cannot close")


class AsyncClosing(Closing):
    async def aclose(self) -> None:
        self.closed.append("aclose")


async def test_closing_twice_closes_once_in_every_way() -> None:
    provider = AsyncClosing()
    agent = AgentBuilder().with_llm(provider).build()
    agent.close()
    agent.close()
    await agent.aclose()
    assert provider.closed == ["close"]
    provider = AsyncClosing()
    agent = AgentBuilder().with_llm(provider).build()
    await agent.aclose()
    await agent.aclose()
    agent.close()
    assert provider.closed == ["aclose"]


async def test_context_managers_close() -> None:
    provider = Closing()
    with AgentBuilder().with_llm(provider).build() as agent:
        assert agent.chat("Go").message == "ok"
    async with AgentBuilder().with_llm(provider).build():
        pass
    assert provider.closed == ["close", "close"]


def test_what_is_shared_is_left_open() -> None:
    provider = Closing()
    AgentBuilder().with_llm(provider, shared=True).build().close()
    assert provider.closed == []


async def test_one_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    first, second = Closing(fails=True), Closing()
    with pytest.raises(OSError, match="cannot close"):
        Agent(first, owned=[first, second]).close()
    with pytest.raises(OSError, match="cannot close"):
        await Agent(first, owned=[first, second]).aclose()
    assert second.closed == ["close", "close"]


@verbs
async def test_a_closed_agent_says_so(ask: Verb) -> None:
    agent = builder("never").with_name("clerk").build()
    agent.close()
    with pytest.raises(AgentClosedError, match="'clerk' is closed"):
        await ask(agent, "Go")
    assert requests(agent) == ()


async def test_a_chat_that_waited_while_the_agent_was_closed_does_not_begin() -> None:
    release = threading.Event()

    def answer(_: ScriptedRequest) -> str:
        release.wait(5)
        return "done"

    agent = AgentBuilder().with_llm(ScriptedProvider(answer)).build()
    first = asyncio.create_task(agent.achat("1", session_id="s"))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(agent.achat("2", session_id="s"))
    await asyncio.sleep(0.01)
    agent.close()
    release.set()
    assert (await first).message == "done"
    with pytest.raises(AgentClosedError):
        await second


def test_a_repr_names_what_matters_and_no_secret() -> None:
    agent = (
        AgentBuilder()
        .with_azure_openai_llm("https://shop.openai.azure.com", "gpt-4o", "sk-very-secret")
        .with_tools(double)
        .with_name("clerk")
        .build()
    )
    text = repr(agent) + str(agent) + repr(agent.provider)
    assert "secret" not in text
    assert "name='clerk'" in text
    assert "tools=[double]" in text


# ── logs ─────────────────────────────────────────────────────────────────────────────────


@verbs
async def test_a_chat_logs_each_model_call_each_tool_call_and_itself(ask: Verb) -> None:
    agent = (
        builder(spent("", call("double", number=2), call("broken")), spent("4")).with_name("clerk").build()
    )
    with capture_logs() as logs:
        await ask(agent, "Go", session_id="s")
    assert [entry["event"] for entry in logs] == [
        "model_call",
        "tool_call",
        "tool_call",
        "model_call",
        "chat",
    ]
    for entry in logs:
        assert (entry["agent"], entry["session_id"], entry["deployment"]) == ("clerk", "s", "scripted-1")
        assert entry["latency_ms"] >= 0
    assert [(entry["tool"], entry["error"], entry["log_level"]) for entry in logs[1:3]] == [
        ("double", None, "info"),
        ("broken", "tool_error", "warning"),
    ]
    last = logs[-1]
    assert (last["input_tokens"], last["output_tokens"], last["cost_usd"]) == (20, 4, "1.0")
    assert (last["turns"], last["tool_executions"], last["finish_reason"]) == (2, 2, "stop")
    assert "request_id" in last


@verbs
async def test_a_chat_that_fails_is_logged_with_what_it_spent(ask: Verb) -> None:
    error = ServiceUnavailableError("down", request_id="r-1")
    agent = builder(spent("", call("double", number=2)), error).build()
    with capture_logs() as logs, pytest.raises(ServiceUnavailableError):
        await ask(agent, "Go", session_id="s")
    last = logs[-1]
    assert (last["event"], last["log_level"], last["error"]) == (
        "chat_failed",
        "warning",
        "service_unavailable",
    )
    assert (last["input_tokens"], last["cost_usd"], last["request_id"]) == (10, "0.5", "r-1")


@verbs
async def test_what_a_tool_logs_carries_the_chat_and_what_the_caller_bound(ask: Verb) -> None:
    seen: list[dict[str, Any]] = []

    @tool
    def note() -> str:
        seen.append(structlog.contextvars.get_contextvars())
        return "ok"

    @tool
    async def anote() -> str:
        seen.append(structlog.contextvars.get_contextvars())
        return "ok"

    agent = builder([call("note"), call("anote")], call("note"), "ok", tools=[note, anote]).build()
    with structlog.contextvars.bound_contextvars(user="ada"):
        before = structlog.contextvars.get_contextvars()
        await ask(agent, "Go", session_id="s")
        assert structlog.contextvars.get_contextvars() == before
    assert len(seen) == 3
    for bound in seen:
        assert len(bound.pop("chat_id")) == 16
        assert bound == {"user": "ada", "agent": "agent", "session_id": "s", "deployment": "scripted-1"}


async def test_concurrent_chats_keep_their_context_apart() -> None:
    seen: list[tuple[int, str]] = []

    @tool
    async def note(number: int) -> str:
        await asyncio.sleep(0.001)
        seen.append((number, structlog.contextvars.get_contextvars()["session_id"]))
        return "ok"

    def answer(request: ScriptedRequest) -> Any:
        return "ok" if request.messages[-1].role == "tool" else call("note", number=int(request.text))

    agent = AgentBuilder().with_llm(ScriptedProvider(answer)).with_tools(note).build()
    await asyncio.gather(*(VERBS[n % 4](agent, str(n), session_id=f"s{n}") for n in range(20)))
    assert sorted(seen) == [(n, f"s{n}") for n in range(20)]


# ── messages ─────────────────────────────────────────────────────────────────────────────


@verbs
async def test_a_message_of_parts_goes_to_the_model_as_it_is(ask: Verb) -> None:
    from loom_py import ContentPart, ImagePart, TextPart

    parts: list[ContentPart] = [TextPart("What is it?"), ImagePart(url="https://example.com/cat.png")]
    agent = builder("A cat.").build()
    await ask(agent, parts)
    assert requests(agent)[0].messages == (Message.user(parts),)


def test_an_error_is_always_one_of_the_tree() -> None:
    agent = builder(RuntimeError("boom")).build()
    with pytest.raises(LoomError, match="RuntimeError: boom"):
        agent.chat("Go")
