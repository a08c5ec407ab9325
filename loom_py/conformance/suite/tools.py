"""Tools: offered with their schemas, asked for with their arguments, answered by their calls."""

from __future__ import annotations

from loom_py.conformance.scenario import VERBS, Stage, expect, expect_equal, scenario
from loom_py.conformance.script import Answer, Call
from loom_py.messages import Message, ToolCall, ToolSpec
from loom_py.options import ChatOptions

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("get_weather", "The weather of a city.", PLACE)
CLOCK = ToolSpec("get_time", "The time in a city.", PLACE)

NESTED = {
    "type": "object",
    "properties": {
        "filters": {
            "type": "array",
            "description": "All must hold.",
            "items": {
                "type": "object",
                "properties": {
                    "column": {"type": "string", "enum": ["price", "größe"]},
                    "range": {"anyOf": [{"$ref": "#/$defs/Range"}, {"type": "null"}]},
                },
                "required": ["column"],
                "additionalProperties": False,
            },
        },
        "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
        "type": {"type": "string", "description": "A property that is called as a keyword is."},
    },
    "required": ["filters"],
    "$defs": {
        "Range": {
            "type": "object",
            "properties": {"low": {"type": "number"}, "high": {"type": "number"}},
            "required": ["low", "high"],
        }
    },
}
ODD_NAMES = ("weather at home", "weather/at/home", "größe", "a" * 80, "x")


@scenario("tools/one-call", "call_ids", "tools")
def one_call(stage: Stage) -> None:
    """A tool call arrives with its name, its arguments and its id."""
    answer = Answer(calls=(Call("get_weather", '{"city": "Oslo"}', "call_a"),))
    with stage.provider(answer) as provider:
        for verb in VERBS:
            calls = stage.call(provider, verb, tools=(WEATHER,)).whole().tool_calls
            seen = [(call.name, call.arguments, call.id, call.error) for call in calls]
            expect_equal(seen, [("get_weather", {"city": "Oslo"}, "call_a", None)], "the tool calls")


@scenario("tools/finish-reason", "tools")
def finish_reason(stage: Stage) -> None:
    """A reply that asks for tools has the finish reason "tool_calls"."""
    with stage.provider(Answer(calls=(Call("get_weather", '{"city": "Oslo"}'),))) as provider:
        for verb in VERBS:
            reason = stage.call(provider, verb, tools=(WEATHER,)).whole().finish_reason
            expect_equal(reason, "tool_calls", "the finish reason")


@scenario("tools/parallel-calls", "call_ids", "tools")
def parallel_calls(stage: Stage) -> None:
    """Several calls in one reply keep their order, and each its own id and arguments."""
    answer = Answer(
        calls=(
            Call("get_weather", '{"city": "Oslo"}', "call_a"),
            Call("get_time", '{"city": "Rome"}', "call_b"),
            Call("get_weather", '{"city": "Lima"}', "call_c"),
        )
    )
    wanted = [
        ("call_a", "get_weather", {"city": "Oslo"}),
        ("call_b", "get_time", {"city": "Rome"}),
        ("call_c", "get_weather", {"city": "Lima"}),
    ]
    with stage.provider(answer) as provider:
        for verb in VERBS:
            calls = stage.call(provider, verb, tools=(WEATHER, CLOCK)).whole().tool_calls
            expect_equal([(call.id, call.name, call.arguments) for call in calls], wanted, "the tool calls")


@scenario("tools/text-beside-a-call", "text", "tools")
def text_beside_a_call(stage: Stage) -> None:
    """Text that comes before a tool call is kept beside it."""
    answer = Answer("I will look.", calls=(Call("get_weather", '{"city": "Oslo"}'),))
    with stage.provider(answer) as provider:
        for verb in VERBS:
            response = stage.call(provider, verb, tools=(WEATHER,)).whole()
            expect_equal(response.message, "I will look.", "the text")
            expect_equal(len(response.tool_calls), 1, "the number of tool calls")


@scenario("tools/no-arguments", "tools")
def no_arguments(stage: Stage) -> None:
    """A call without arguments has none, whether the service sends an empty object or no text."""
    for verb in VERBS:
        for sent in ("{}", ""):
            with stage.provider(Answer(calls=(Call("now", sent),))) as provider:
                calls = stage.call(provider, verb, tools=(ToolSpec("now"),)).whole().tool_calls
                expect_equal([(call.arguments, call.error) for call in calls], [({}, None)], "the arguments")


@scenario("tools/unicode-arguments", "tools")
def unicode_arguments(stage: Stage) -> None:
    """Arguments keep their characters, numbers and nesting."""
    sent = '{"city": "Tromsø 🌧", "escaped": "\\u00e9\\n", "n": [1, 2.5, null, true], "in": {"a": {}}}'
    wanted = {
        "city": "Tromsø 🌧",
        "escaped": "é\n",
        "n": [1, 2.5, None, True],
        "in": {"a": {}},
    }
    with stage.provider(Answer(calls=(Call("get_weather", sent),))) as provider:
        for verb in VERBS:
            calls = stage.call(provider, verb, tools=(WEATHER,)).whole().tool_calls
            expect_equal([call.arguments for call in calls], [wanted], "the arguments")


@scenario("tools/schema", "tools", "requests")
def schema(stage: Stage) -> None:
    """A nested schema reaches the service with nothing lost, and its tool with its description."""
    tool = ToolSpec("search", "Searches the shop: größe, price.", NESTED)
    with stage.provider(Answer("Nothing.")) as provider:
        stage.call(provider, "chat", tools=(tool,)).whole()
        seen = stage.last_request.tools
    expect_equal([spec.description for spec in seen], [tool.description], "the tools' descriptions")
    expect_equal(dict(seen[0].parameters), NESTED, "the schema")


@scenario("tools/odd-names", "tools")
def odd_names(stage: Stage) -> None:
    """A tool with a name the wire does not allow is asked for, and comes back under its own name."""
    tools = tuple(ToolSpec(name, "A tool.", PLACE) for name in ODD_NAMES)
    calls = tuple(Call(place, '{"city": "Oslo"}', f"call_{place}") for place in range(len(tools)))
    with stage.provider(Answer(calls=calls)) as provider:
        for verb in VERBS:
            response = stage.call(provider, verb, tools=tools).whole()
            expect_equal(tuple(call.name for call in response.tool_calls), ODD_NAMES, "the names")


@scenario("tools/odd-names-in-a-history", "tools", "requests")
def odd_names_in_a_history(stage: Stage) -> None:
    """A call of a tool with an odd name goes back under the name the service knows it by."""
    tool = ToolSpec("weather at home", "The weather.", PLACE)
    call = ToolCall("call_1", tool.name, {"city": "Oslo"})
    messages = [
        Message.user("Rain?"),
        Message.assistant("", [call]),
        Message.tool("It rains.", "call_1", tool.name),
    ]
    with stage.provider(Answer("Yes.")) as provider:
        stage.call(provider, "chat", messages, (tool,)).whole()
        seen = stage.last_request
    asked = [call.name for message in seen.messages for call in message.tool_calls]
    expect_equal(asked, [spec.name for spec in seen.tools], "the name in the history")


@scenario("tools/broken-arguments", "tools")
def broken_arguments(stage: Stage) -> None:
    """Arguments that are no JSON are a call with an error and the model's text, not a crash."""
    sent = '{"city": "Os'
    with stage.provider(Answer(calls=(Call("get_weather", sent),))) as provider:
        for verb in VERBS:
            calls = stage.call(provider, verb, tools=(WEATHER,)).whole().tool_calls
            seen = [(call.arguments_json, call.arguments, bool(call.error)) for call in calls]
            expect_equal(seen, [(sent, {}, True)], "text, arguments and whether there is an error")


@scenario("tools/arguments-not-an-object", "tools")
def arguments_not_an_object(stage: Stage) -> None:
    """Arguments that are JSON but no object are a call with an error."""
    with stage.provider(Answer(calls=(Call("get_weather", '["Oslo"]'),))) as provider:
        for verb in VERBS:
            calls = stage.call(provider, verb, tools=(WEATHER,)).whole().tool_calls
            seen = [(call.arguments, bool(call.error)) for call in calls]
            expect_equal(seen, [({}, True)], "arguments and whether there is an error")


@scenario("tools/result-round-trip", "text", "call_ids", "tools", "requests")
def result_round_trip(stage: Stage) -> None:
    """A call and its result reach the service in the next turn, under one id."""
    asked, results, names = _next_turn(stage, '{"city": "Oslo"}')
    wanted = [("call_a", name, {"city": "Oslo"}) for name in names]
    expect_equal([(call.id, call.name, call.arguments) for call in asked], wanted, "the call in the history")
    expect_equal(results, [("call_a", '{"mm": 12}')], "the result in the history")


@scenario("tools/arguments-byte-for-byte", "text", "call_ids", "tools", "argument_text", "requests")
def arguments_byte_for_byte(stage: Stage) -> None:
    """The arguments of a call are sent back as the model wrote them: its prompt cache goes by bytes."""
    sent = '{ "city":"Oslo" }'  # spaced as no encoder would write it
    asked, _, _ = _next_turn(stage, sent)
    expect_equal([call.arguments_json for call in asked], [sent], "the arguments in the history")


def _next_turn(stage: Stage, sent: str) -> tuple[list[ToolCall], list[tuple[str | None, str]], list[str]]:
    """The calls, the results and the tools' names in the request after a call with arguments ``sent``."""
    answers = Answer(calls=(Call("get_weather", sent, "call_a"),)), Answer("It rains.")
    with stage.provider(*answers) as provider:
        first = stage.call(provider, "chat", "Rain?", (WEATHER,)).whole()
        expect(first.tool_calls, "a tool call", "none")
        result = Message.tool('{"mm": 12}', first.tool_calls[0].id, "get_weather")
        turn = [Message.user("Rain?"), first.to_message(), result]
        expect_equal(stage.call(provider, "chat", turn, (WEATHER,)).whole().message, "It rains.", "the text")
        request = stage.last_request
    seen = request.messages
    asked = [call for message in seen for call in message.tool_calls]
    results = [(message.tool_call_id, message.text) for message in seen if message.role == "tool"]
    return asked, results, [tool.name for tool in request.tools]


@scenario("tools/several-results", "tools", "requests")
def several_results(stage: Stage) -> None:
    """The results of parallel calls each reach the service under their own id."""
    calls = [
        ToolCall("call_a", "get_weather", {"city": "Oslo"}),
        ToolCall("call_b", "get_time", {"city": "x"}),
    ]
    turn = [
        Message.user("Rain and time?"),
        Message.assistant("", calls),
        Message.tool("rain", "call_a", "get_weather"),
        Message.tool("noon", "call_b", "get_time"),
    ]
    with stage.provider(Answer("Rain, at noon.")) as provider:
        stage.call(provider, "chat", turn, (WEATHER, CLOCK)).whole()
        seen = stage.last_request.messages
    results = [(message.tool_call_id, message.text) for message in seen if message.role == "tool"]
    expect_equal(results, [("call_a", "rain"), ("call_b", "noon")], "the results")


@scenario("tools/unknown-tool", "tools")
def unknown_tool(stage: Stage) -> None:
    """A call of a tool that does not exist is handed on under its name: the agent answers it."""
    with stage.provider(Answer(calls=(Call("delete_everything", '{"sure": true}'),))) as provider:
        for verb in VERBS:
            calls = stage.call(provider, verb, tools=(WEATHER,)).whole().tool_calls
            seen = [(call.name, call.arguments) for call in calls]
            expect_equal(seen, [("delete_everything", {"sure": True})], "the tool calls")


@scenario("tools/tool-choice-none", "tools", "options", "requests")
def tool_choice_none(stage: Stage) -> None:
    """With the choice "none" the service is told so, or offered no tool at all."""
    options = ChatOptions(tool_choice="none")
    with stage.provider(Answer("Yes.")) as provider:
        stage.call(provider, "chat", "Hello", (WEATHER, CLOCK), options).whole()
        request = stage.last_request
    seen = f"{len(request.tools)} tools, choice {request.options.tool_choice!r}"
    expect(not request.tools or request.options.tool_choice == "none", "no tool to choose", seen)


@scenario("tools/tool-choice", "tools", "tool_choice", "requests")
def tool_choice(stage: Stage) -> None:
    """A tool call that is demanded is demanded of the service: any, or one tool by its name."""
    with stage.provider(Answer("Yes.")) as provider:
        for choice in ("required", CLOCK.name):
            stage.call(provider, "chat", "Hello", (WEATHER, CLOCK), ChatOptions(tool_choice=choice)).whole()
            request = stage.last_request
            expect_equal(len(request.tools), 2, "the number of tools")
            wanted = request.tools[1].name if choice == CLOCK.name else choice
            expect_equal(request.options.tool_choice, wanted, "the tool choice")


@scenario("tools/not-offered", "tools", "requests")
def not_offered(stage: Stage) -> None:
    """A call without tools offers the service none, also after a call that had some."""
    with stage.provider(Answer("Yes.")) as provider:
        stage.call(provider, "chat", "Hello", (WEATHER,)).whole()
        stage.call(provider, "chat", "Hello").whole()
        seen = [len(request.tools) for request in stage.requests]
    expect_equal(seen, [1, 0], "tools in the first request only:")
