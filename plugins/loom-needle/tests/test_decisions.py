"""The real model: what it decides, how sure it must be, and many callers at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loom_needle import MAX_QUESTION_CHARACTERS, NeedleProvider
from loom_py.errors import RequestTimeoutError
from loom_py.events import FinalResponse, ToolCallCompleted
from loom_py.llm.registry import create_provider
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions

pytestmark = pytest.mark.usefixtures("engine")

WEATHER = "What is the weather in Oslo?"
BOTH = "What is the weather in Oslo and in Bergen?"
LIGHTS = "Switch the lights in the kitchen off."
NO_TOOL_FITS = "Who wrote Hamlet?"

Calls = list[tuple[str, dict[str, Any]]]


def calls_of(response: Response) -> Calls:
    return [(call.name, call.arguments) for call in response.tool_calls]


def ask(provider: NeedleProvider, question: str, tools: Sequence[ToolSpec], **options: Any) -> Response:
    return provider.chat([Message.user(question)], tools, options=ChatOptions(**options))


def test_the_model_picks_the_tool_and_fills_its_arguments(tools: list[ToolSpec]) -> None:
    response = ask(NeedleProvider(), LIGHTS, tools)
    assert calls_of(response) == [("switch_lights", {"room": "kitchen", "state": "off"})]
    assert response.finish_reason == "tool_calls"
    assert response.message == ""
    assert response.model == "needle-3"


def test_a_question_of_two_parts_becomes_two_calls_with_ids_of_their_own(tools: list[ToolSpec]) -> None:
    response = ask(NeedleProvider(), BOTH, tools)
    assert calls_of(response) == [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Bergen"})]
    assert len({call.id for call in response.tool_calls}) == 2


def test_one_call_where_parallel_calls_are_not_wanted(tools: list[ToolSpec]) -> None:
    response = ask(NeedleProvider(), BOTH, tools, parallel_tool_calls=False)
    assert calls_of(response) == [("get_weather", {"city": "Oslo"})]


def test_the_metadata_says_how_sure_it_is_and_that_usage_is_an_estimate(tools: list[ToolSpec]) -> None:
    response = ask(NeedleProvider(), WEATHER, tools)
    assert 0.3 <= response.metadata["confidence"] <= 1.0
    assert response.metadata["usage_estimated"] is True
    assert response.metadata["composed"] is False
    assert response.tokens_used.input > len(WEATHER) // 4
    assert response.tokens_used.output > 0
    assert Response.from_json(response.to_json()) == response


def test_a_question_no_tool_fits_is_declined_with_what_can_be_done(tools: list[ToolSpec]) -> None:
    response = ask(NeedleProvider(), NO_TOOL_FITS, tools)
    assert response.tool_calls == ()
    assert response.finish_reason == "stop"
    assert "can't tell which tool fits" in response.message
    assert "- get_weather: Get the weather in a city.\n" in response.message
    assert "- switch_lights: " in response.message
    assert response.metadata["composed"] is True


def test_calls_the_model_is_less_sure_of_than_the_gate_are_not_made(tools: list[ToolSpec]) -> None:
    assert calls_of(ask(NeedleProvider(min_confidence=0.3), WEATHER, tools))
    gated = ask(NeedleProvider(min_confidence=1.0), WEATHER, tools)
    assert gated.tool_calls == ()
    assert gated.metadata["confidence"] < 1.0
    assert "can't tell which tool fits" in gated.message


def test_a_demanded_call_is_made_however_unsure(tools: list[ToolSpec]) -> None:
    response = ask(NeedleProvider(min_confidence=1.0), WEATHER, tools, tool_choice="required")
    assert calls_of(response) == [("get_weather", {"city": "Oslo"})]


def test_a_tool_demanded_by_name_is_the_only_one_to_choose(tools: list[ToolSpec]) -> None:
    response = ask(NeedleProvider(), LIGHTS, tools, tool_choice="get_weather")
    assert all(call.name == "get_weather" for call in response.tool_calls)


def test_tools_that_are_not_offered_are_not_chosen(tools: list[ToolSpec]) -> None:
    provider = NeedleProvider(offer=["switch_lights"])
    assert ask(provider, WEATHER, tools).tool_calls == ()
    assert "get_weather" not in ask(provider, WEATHER, tools).message


def test_many_more_tools_than_the_limit_do_where_few_are_offered(tools: list[ToolSpec]) -> None:
    many = [ToolSpec(f"tool_{number}") for number in range(30)]
    response = ask(NeedleProvider(offer=["get_weather", "switch_lights"]), WEATHER, [*many, *tools])
    assert calls_of(response) == [("get_weather", {"city": "Oslo"})]


def test_only_the_last_user_message_is_read(tools: list[ToolSpec]) -> None:
    history = [
        Message.system("You are terse."),
        Message.user(LIGHTS),
        Message.assistant("Done."),
        Message.user(WEATHER),
    ]
    response = NeedleProvider().chat(history, tools)
    assert calls_of(response) == [("get_weather", {"city": "Oslo"})]


def test_the_same_question_gives_the_same_decision_again_and_after_others(tools: list[ToolSpec]) -> None:
    provider = NeedleProvider()
    first = ask(provider, BOTH, tools)
    ask(provider, NO_TOOL_FITS, tools)
    again = ask(NeedleProvider(), BOTH, tools)
    assert calls_of(again) == calls_of(first)
    assert again.metadata == first.metadata
    assert again.tokens_used == first.tokens_used


def test_eight_threads_get_the_answers_that_one_gets(tools: list[ToolSpec]) -> None:
    questions = [WEATHER, BOTH, LIGHTS, NO_TOOL_FITS] * 2
    alone = {question: ask(NeedleProvider(), question, tools) for question in set(questions)}
    provider = NeedleProvider()
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda question: ask(provider, question, tools), questions))
    for question, response in zip(questions, together, strict=True):
        assert calls_of(response) == calls_of(alone[question])
        assert response.metadata == alone[question].metadata
    ids = [call.id for response in together for call in response.tool_calls]
    assert len(set(ids)) == len(ids)


def test_threads_with_different_tools_never_see_each_others(tools: list[ToolSpec]) -> None:
    def choose(tool: ToolSpec) -> Calls:
        return calls_of(ask(NeedleProvider(), WEATHER if "weather" in tool.name else LIGHTS, [tool]))

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(choose, tools * 2))
    lights = [("switch_lights", {"room": "kitchen", "state": "off"})]
    assert found == [[("get_weather", {"city": "Oslo"})], lights] * 2


def test_a_caller_waits_for_a_busy_engine_no_longer_than_its_timeout(tools: list[ToolSpec]) -> None:
    provider = NeedleProvider()
    ask(provider, WEATHER, tools)
    text = ("The weather is fine and the lights are on. " * 200)[: MAX_QUESTION_CHARACTERS // 4]
    long_question = threading.Thread(target=ask, args=(provider, text, tools))
    long_question.start()
    try:
        time.sleep(0.2)
        with pytest.raises(RequestTimeoutError, match=r"busy for 0\.1 s"):
            ask(provider, WEATHER, tools, timeout=0.1)
    finally:
        long_question.join()


async def test_async_callers_get_the_same_and_the_event_loop_goes_on(tools: list[ToolSpec]) -> None:
    provider = NeedleProvider()
    responses = await asyncio.gather(*(provider.achat([Message.user(WEATHER)], tools) for _ in range(3)))
    assert [calls_of(response) for response in responses] == [[("get_weather", {"city": "Oslo"})]] * 3


def test_a_stream_tells_the_calls_and_ends_with_the_response(tools: list[ToolSpec]) -> None:
    events = list(NeedleProvider().stream_chat([Message.user(BOTH)], tools))
    assert [event.call.name for event in events if isinstance(event, ToolCallCompleted)] == [
        "get_weather"
    ] * 2
    assert isinstance(events[-1], FinalResponse)


def test_the_registry_finds_the_provider_by_name(tools: list[ToolSpec]) -> None:
    provider = create_provider("needle:needle-3", min_confidence=0.2)
    assert isinstance(provider, NeedleProvider)
    assert provider.min_confidence == 0.2
    assert calls_of(provider.chat([Message.user(WEATHER)], tools)) == [("get_weather", {"city": "Oslo"})]


def test_optional_arguments_and_references_are_understood() -> None:
    parameters = {
        "type": "object",
        "$defs": {"Unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "unit"}},
        "properties": {
            "city": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "name of the city"},
            "unit": {"$ref": "#/$defs/Unit"},
        },
        "required": ["city", "unit"],
    }
    spec = ToolSpec("get_weather", "Get the weather in a city.", parameters)
    response = ask(NeedleProvider(), "What is the weather in Oslo in celsius?", [spec])
    assert calls_of(response) == [("get_weather", {"city": "Oslo", "unit": "celsius"})]
