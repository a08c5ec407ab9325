"""The scripted provider: the test double must itself be beyond doubt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.errors import RateLimitError, ScriptError, StreamInterruptedError
from loom_py.events import (
    FinalResponse,
    StreamEvent,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    UsageEvent,
)
from loom_py.llm.costs import Cost
from loom_py.llm.prices import ModelPrice
from loom_py.llm.provider import LLMProvider
from loom_py.llm.scripted import Answer, ScriptedProvider, ScriptedRequest, call, reply, words
from loom_py.messages import ImagePart, Message, Response, TextPart, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

HELLO = [Message.user("Hello")]


async def collect(events: AsyncIterator[StreamEvent]) -> list[StreamEvent]:
    return [event async for event in events]


def test_it_is_a_provider() -> None:
    provider = ScriptedProvider(["x"], name="double", model="m-1")
    assert isinstance(provider, LLMProvider)
    assert (provider.name, provider.model) == ("double", "m-1")


def test_text_steps_are_answered_in_order() -> None:
    provider = ScriptedProvider(["one", "two"])
    assert [provider.chat(HELLO).message, provider.chat(HELLO).message] == ["one", "two"]


def test_a_reply_names_the_model_and_says_that_its_usage_is_an_estimate() -> None:
    response = ScriptedProvider(["four words of text"]).chat([Message.user("x" * 400)])
    assert response.model == "scripted-1"
    assert response.finish_reason == "stop"
    assert response.metadata["usage_estimated"] is True
    assert response.tokens_used == TokenUsage(input=100, output=5)


def test_images_tools_and_calls_count_in_the_estimate() -> None:
    provider = ScriptedProvider(lambda request: "ok")
    plain = provider.chat(HELLO).tokens_used.input
    image = Message.user([TextPart("Hello"), ImagePart(data=b"x")])
    assert provider.chat([image]).tokens_used.input > plain
    assert provider.chat(HELLO, [ToolSpec("weather", "the weather")]).tokens_used.input > plain
    asked = Message.assistant("", [ToolCall("1", "weather", {"city": "Oslo"})])
    assert provider.chat([*HELLO, asked]).tokens_used.input > plain


def test_given_usage_is_kept_and_not_called_an_estimate() -> None:
    usage = TokenUsage(input=7, output=3, cached_input=2)
    response = ScriptedProvider([reply("hi", tokens=usage)]).chat(HELLO)
    assert response.tokens_used == usage
    assert "usage_estimated" not in response.metadata


def test_a_whole_response_passes_as_it_is() -> None:
    given_ = Response("cut", TokenUsage(1, 1), finish_reason="length", model="m", metadata={"a": 1})
    assert ScriptedProvider([given_]).chat(HELLO) == given_


def test_calls_get_ids_in_the_order_they_are_asked_for() -> None:
    provider = ScriptedProvider([call("a", x=1), [call("b"), call("a")]])
    first, second = provider.chat(HELLO), provider.chat(HELLO)
    assert first.tool_calls == (ToolCall("call_1", "a", {"x": 1}),)
    assert [(each.id, each.name) for each in second.tool_calls] == [("call_2", "b"), ("call_3", "a")]
    assert first.finish_reason == second.finish_reason == "tool_calls"


def test_an_id_of_the_scripts_own_is_kept_and_never_given_twice() -> None:
    provider = ScriptedProvider([call("a"), ToolCall("call_1", "b"), call("c")])
    ids = [provider.chat(HELLO).tool_calls[0].id for _ in range(3)]
    assert ids == ["call_2", "call_1", "call_3"]


def test_an_argument_may_be_called_name() -> None:
    assert call("greet", name="Ada").arguments == {"name": "Ada"}


def test_text_and_calls_in_one_reply() -> None:
    response = ScriptedProvider([reply("Let me look.", tool_calls=[call("look")])]).chat(HELLO)
    assert (response.message, response.tool_calls[0].name) == ("Let me look.", "look")


def test_an_exception_is_raised_and_uses_its_step() -> None:
    provider = ScriptedProvider([RateLimitError("slow down", retry_after=2), "fine"])
    with pytest.raises(RateLimitError, match="slow down"):
        provider.chat(HELLO)
    assert provider.chat(HELLO).message == "fine"


def test_a_function_sees_the_request() -> None:
    seen: list[ScriptedRequest] = []

    def answer(request: ScriptedRequest) -> Answer:
        seen.append(request)
        return f"you said {request.text}"

    options = ChatOptions(temperature=0.5)
    tool = ToolSpec("t")
    provider = ScriptedProvider(["first", answer])
    provider.chat(HELLO)
    assert provider.chat([Message.user("again")], [tool], options=options).message == "you said again"
    assert seen == [ScriptedRequest((Message.user("again"),), (tool,), options, 1)]


def test_one_function_answers_for_ever() -> None:
    with ScriptedProvider(lambda request: str(request.index)) as provider:
        assert [provider.chat(HELLO).message for _ in range(3)] == ["0", "1", "2"]


async def test_an_async_function_is_awaited_by_both_kinds_of_caller() -> None:
    async def answer(request: ScriptedRequest) -> Answer:
        await asyncio.sleep(0)
        return request.text

    provider = ScriptedProvider(answer)
    assert (await provider.achat(HELLO)).message == "Hello"
    assert (await asyncio.to_thread(provider.chat, HELLO)).message == "Hello"


async def test_a_blocking_function_does_not_block_the_loop() -> None:
    def slow(request: ScriptedRequest) -> Answer:
        time.sleep(0.1)
        return "done"

    provider = ScriptedProvider(slow)
    began = time.perf_counter()
    await asyncio.gather(*(provider.achat(HELLO) for _ in range(5)))
    assert time.perf_counter() - began < 0.4


async def test_the_delay_of_async_calls_overlaps() -> None:
    provider = ScriptedProvider(["x"] * 5, delay=0.1)
    began = time.perf_counter()
    await asyncio.gather(*(provider.achat(HELLO) for _ in range(5)))
    assert 0.09 < time.perf_counter() - began < 0.4


def test_a_blocking_call_waits_for_the_delay() -> None:
    began = time.perf_counter()
    ScriptedProvider(["x"], delay=0.05).chat(HELLO)
    assert time.perf_counter() - began >= 0.05


def test_a_request_beyond_the_script_says_which_and_what_it_was() -> None:
    provider = ScriptedProvider(["only"])
    provider.chat(HELLO)
    with pytest.raises(ScriptError) as caught:
        provider.chat([Message.system("s"), Message.user("one more")], [ToolSpec("dig")])
    text = str(caught.value)
    assert "request 1" in text
    assert "1 step" in text
    assert "one more" in text
    assert "dig" in text
    assert len(provider.requests) == 1


def test_leaving_with_unused_steps_is_an_error_that_names_them() -> None:
    expected = pytest.raises(ScriptError, match=r"2 of 3.*step 1: 'b'.*step 2: call\('c'\)")
    with expected, ScriptedProvider(["a", "b", call("c")]) as provider:
        provider.chat(HELLO)


async def test_leaving_an_async_block_with_unused_steps_is_an_error() -> None:
    with pytest.raises(ScriptError):
        async with ScriptedProvider(["a"]):
            pass


def test_another_error_is_not_hidden_by_unused_steps() -> None:
    with pytest.raises(KeyError), ScriptedProvider(["a"]):
        raise KeyError


def test_a_lenient_provider_may_keep_steps_but_assert_done_still_complains() -> None:
    with ScriptedProvider(["a"], strict=False) as provider:
        pass
    assert provider.remaining == 1
    with pytest.raises(ScriptError):
        provider.assert_done()


@pytest.mark.parametrize("step", [1, None, [], ["text"], object(), RateLimitError])
def test_a_step_that_is_none_is_refused_at_once(step: Any) -> None:
    with pytest.raises(TypeError, match="step 1"):
        ScriptedProvider(["fine", step])


@pytest.mark.parametrize("steps", ["Hello", Response("Hello"), call("a")])
def test_a_lone_step_is_refused_with_the_right_spelling(steps: Any) -> None:
    with pytest.raises(TypeError, match=r"write \["):
        ScriptedProvider(steps)


def test_a_function_that_returns_nonsense_is_a_script_error() -> None:
    def broken(request: ScriptedRequest) -> Any:
        return 7

    with pytest.raises(ScriptError, match="returned 7"):
        ScriptedProvider(broken).chat(HELLO)


async def test_a_stream_tells_text_calls_usage_and_the_end() -> None:
    def make() -> ScriptedProvider:
        return ScriptedProvider([reply("It rains  a lot.", tool_calls=[call("look", at="sky")])])

    blocking = list(make().stream_chat(HELLO))
    assert blocking == await collect(make().astream_chat(HELLO))
    looked = ToolCall("call_1", "look", {"at": "sky"})
    assert blocking[:6] == [
        TextDelta("It "),
        TextDelta("rains  "),
        TextDelta("a "),
        TextDelta("lot."),
        ToolCallStarted("call_1", "look"),
        ToolCallCompleted(looked),
    ]
    final = blocking[-1]
    assert isinstance(final, FinalResponse)
    assert blocking[6:] == [UsageEvent(final.response.tokens_used), final]
    assert final.response == make().chat(HELLO)


async def test_an_error_raised_in_a_stream_comes_after_its_partial_text() -> None:
    error = StreamInterruptedError("cut", partial_text="half of ")
    provider = ScriptedProvider([error, error])

    def blocking() -> Iterator[str]:
        for event in provider.stream_chat(HELLO):
            yield event.delta

    heard = blocking()
    assert [next(heard), next(heard)] == ["half ", "of "]
    with pytest.raises(StreamInterruptedError):
        next(heard)
    with pytest.raises(StreamInterruptedError):
        await collect(provider.astream_chat(HELLO))


def test_a_stream_nobody_reads_takes_no_step() -> None:
    provider = ScriptedProvider(["a"])
    provider.stream_chat(HELLO)
    assert provider.remaining == 1


def test_threads_share_the_script_without_losing_or_doubling_a_step() -> None:
    steps = [[call("t", n=n)] for n in range(200)]
    provider = ScriptedProvider(steps)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: provider.chat(HELLO), range(200)))
    calls = [answer.tool_calls[0] for answer in answers]
    assert sorted(each.arguments["n"] for each in calls) == list(range(200))
    assert len({each.id for each in calls}) == 200
    assert [request.index for request in provider.requests] == list(range(200))
    provider.assert_done()


@given(st.text())
def test_words_joined_are_the_text(text: str) -> None:
    assert "".join(words(text)) == text
    assert all(words(text))


# ── money ────────────────────────────────────────────────────────────────────────────────


def test_without_a_price_nothing_is_said_of_money() -> None:
    provider = ScriptedProvider(["Hi"])
    response = provider.chat(HELLO)
    assert (response.cost_usd, "cost" in response.metadata) == (None, False)
    worst = provider.worst_cost(10, 10)
    assert (worst.usd, worst.reason) == (None, "the provider scripted states no prices")


@pytest.mark.parametrize("verb", ["chat", "stream_chat"])
def test_with_a_price_every_reply_costs_what_its_tokens_do(verb: str) -> None:
    provider = ScriptedProvider(
        [reply("Hi", tokens=TokenUsage(1000, 500, cached_input=200)), "four words of text"],
        price=ModelPrice(2, 10, cached_input=1),
    )
    found = []
    for _ in range(2):
        result = getattr(provider, verb)(HELLO)
        found.append(result if isinstance(result, Response) else list(result)[-1].response)
    assert found[0].cost_usd == Decimal("0.0068")
    assert Cost.of_response(found[0]).cached_input == Decimal("0.0002")
    assert found[1].metadata["usage_estimated"] is True
    assert found[1].cost_usd == ModelPrice(2, 10).cost(found[1].tokens_used)


def test_a_cost_that_a_step_states_is_kept() -> None:
    provider = ScriptedProvider([reply("Hi", cost_usd=Decimal("0.5"))], price=ModelPrice(2, 10))
    assert provider.chat(HELLO).cost_usd == Decimal("0.5")


def test_the_worst_cost_of_a_script_is_by_its_price_and_its_limit() -> None:
    provider = ScriptedProvider(["Hi"], price=ModelPrice(2, 10, cache_write=3))
    assert provider.worst_cost(1_000_000, 1_000_000).usd == Decimal(13)
    assert provider.output_limit() == 4096
    assert provider.output_limit(ChatOptions(max_tokens=5)) == 5
    assert ScriptedProvider(["Hi"], max_tokens=9).output_limit(ChatOptions()) == 9
