"""The text that is made of tool results. No model is asked here."""

from __future__ import annotations

from collections.abc import Sequence

from loom_needle import NeedleProvider
from loom_py.messages import Message, Response, ToolCall

OSLO = ToolCall("call_1", "get_weather", {"city": "Oslo"})
BERGEN = ToolCall("call_2", "get_weather", {"city": "Bergen", "days": 2})


def answer(calls: Sequence[ToolCall], *results: Message) -> Response:
    return NeedleProvider().chat([Message.user("How is it?"), Message.assistant("", calls), *results])


def test_one_result_is_the_answer_as_it_stands() -> None:
    response = answer([OSLO], Message.tool("It rains in Oslo.", "call_1"))
    assert response.message == "It rains in Oslo."
    assert response.finish_reason == "stop"
    assert response.metadata["composed"] is True
    assert "confidence" not in response.metadata


def test_several_values_are_each_led_by_their_call() -> None:
    results = Message.tool("rain", "call_1"), Message.tool("7", "call_2")
    assert answer([OSLO, BERGEN], *results).message == (
        'get_weather(city="Oslo"): rain\nget_weather(city="Bergen", days=2): 7'
    )


def test_several_sentences_follow_each_other_as_they_are() -> None:
    results = Message.tool("It rains in Oslo.", "call_1"), Message.tool("Bergen is dry.", "call_2")
    assert answer([OSLO, BERGEN], *results).message == "It rains in Oslo.\nBergen is dry."


def test_results_are_matched_to_calls_by_id_not_by_order() -> None:
    results = Message.tool("7", "call_2"), Message.tool("rain", "call_1")
    assert answer([OSLO, BERGEN], *results).message == (
        'get_weather(city="Bergen", days=2): 7\nget_weather(city="Oslo"): rain'
    )


def test_results_of_several_rounds_all_count() -> None:
    rounds = Message.tool("Rain.", "call_1"), Message.assistant("", [BERGEN]), Message.tool("Sun.", "call_2")
    assert answer([OSLO], *rounds).message.count("\n") == 1


def test_a_failure_is_told_as_one_without_the_advice_for_the_model() -> None:
    text = "Error (tool_timeout): no answer in 5 s\nSuggestion: try again with fewer days"
    assert answer([OSLO], Message.tool(text, "call_1")).message == (
        'I have no answer: get_weather(city="Oslo") failed (tool_timeout): no answer in 5 s'
    )


def test_a_failure_beside_a_result_hides_neither() -> None:
    error = Message.tool("Error (tool_error): ValueError: no such city", "call_2")
    message = answer([OSLO, BERGEN], Message.tool("Rain.", "call_1"), error).message
    assert message.splitlines() == [
        'get_weather(city="Oslo"): Rain.',
        'get_weather(city="Bergen", days=2) failed (tool_error): ValueError: no such city',
    ]


def test_text_that_only_begins_like_an_error_is_a_result() -> None:
    text = "Error rates fell in May."
    assert answer([OSLO], Message.tool(text, "call_1")).message == text


def test_an_empty_result_is_said_in_words() -> None:
    message = answer([OSLO], Message.tool("", "call_1")).message
    assert message == 'I have no answer: get_weather(city="Oslo") returned nothing.'


def test_a_result_whose_call_is_not_in_the_history_is_named_as_far_as_known() -> None:
    results = Message.tool("Rain.", "gone", "get_weather"), Message.tool("Sun.", "gone too")
    assert answer([], *results).message == "get_weather: Rain.\na tool: Sun."


def test_results_that_an_earlier_question_got_are_not_told_again() -> None:
    history = [
        Message.user("How is it in Oslo?"),
        Message.assistant("", [OSLO]),
        Message.tool("Rain.", "call_1"),
        Message.assistant("Rain."),
        Message.user("Thanks."),
    ]
    response = NeedleProvider().chat(history)
    assert response.message == "I only choose tools, and I was given none to choose from."
