"""What comes out can be written down as JSON and read again."""

from __future__ import annotations

import json

from loom_py.conformance.scenario import STREAMS, VERBS, Stage, expect_equal, scenario
from loom_py.conformance.script import Answer, Call
from loom_py.conformance.suite.streaming import BESIDE
from loom_py.conformance.suite.tools import CLOCK, WEATHER
from loom_py.events import event_from_dict
from loom_py.messages import Message, Response, TokenUsage


@scenario("json/responses")
def responses(stage: Stage) -> None:
    """A response is equal to itself after a round trip through JSON, metadata and all."""
    with stage.provider(Answer("Grüße 🌧", usage=TokenUsage(100, 10))) as provider:
        for verb in VERBS:
            response = stage.call(provider, verb).whole()
            expect_equal(Response.from_json(response.to_json()), response, "the response, through JSON")


@scenario("json/tool-calls", "tools")
def tool_calls(stage: Stage) -> None:
    """A response with calls, a broken one among them, survives a round trip through JSON."""
    answer = Answer(calls=(Call("get_weather", '{"city": "Ålesund"}', "a"), Call("get_time", '{"ci', "b")))
    with stage.provider(answer) as provider:
        for verb in VERBS:
            response = stage.call(provider, verb, "Hello", (WEATHER, CLOCK)).whole()
            expect_equal(Response.from_json(response.to_json()), response, "the response, through JSON")


@scenario("json/messages", "tools")
def messages(stage: Stage) -> None:
    """A reply made into a message survives a round trip through JSON, for a stored history."""
    with stage.provider(BESIDE) as provider:
        for verb in VERBS:
            message = stage.call(provider, verb, "Hello", (WEATHER, CLOCK)).whole().to_message()
            expect_equal(Message.from_json(message.to_json()), message, "the message, through JSON")


@scenario("json/events", "tools")
def events(stage: Stage) -> None:
    """Every event of a stream survives a round trip through JSON."""
    with stage.provider(BESIDE) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb, "Hello", (WEATHER, CLOCK))
            outcome.whole()
            for event in outcome.events:
                again = event_from_dict(json.loads(json.dumps(event.to_dict())))
                expect_equal(again, event, "the event, through JSON")
