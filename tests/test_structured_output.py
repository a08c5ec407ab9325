"""Answers that fit a type: on every verb, with models that keep to a schema and with those that do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired

import httpx2
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from loom_py import Agent, AgentBuilder, AzureOpenAIClient, Message, Response, TokenUsage, tool
from loom_py.content import ImagePart
from loom_py.emulator import AzureEmulator
from loom_py.errors import (
    BuilderError,
    ConfigError,
    LimitExceededError,
    OutputValidationError,
    RefusalError,
    ServiceUnavailableError,
)
from loom_py.events import FinalResponse, TextDelta
from loom_py.llm.profiles import ModelProfile
from loom_py.llm.scripted import ScriptedProvider, ScriptedRequest, call, reply
from loom_py.options import ChatOptions
from loom_py.output import OUTPUT_TOOL, OutputSpec

VERBS = ("chat", "achat", "stream_chat", "astream_chat")
every_verb = pytest.mark.parametrize("verb", VERBS)
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 8


class Order(BaseModel):
    item: str
    amount: int = Field(gt=0)


@dataclass
class Point:
    x: int
    y: int = 0


class Person(TypedDict):
    name: str
    age: NotRequired[int]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str]


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


GOOD = '{"item": "lamp", "amount": 2}'
BAD = '{"item": "lamp", "amount": -2}'


class WithSchemas(ScriptedProvider):
    """A model that keeps to JSON schemas."""

    @property
    def profile(self) -> ModelProfile:
        return ModelProfile(structured_output=True)


def as_text(text: str, **facts: Any) -> Response:
    return reply(text, **facts)


def as_call(text: str, **facts: Any) -> Response:
    return reply(tool_calls=[call(OUTPUT_TOOL, **json.loads(text))], **facts)


Say = Callable[..., Response]
both_modes = pytest.mark.parametrize(
    ("kind", "say"),
    [pytest.param(WithSchemas, as_text, id="schema"), pytest.param(ScriptedProvider, as_call, id="tool")],
)


async def ask(agent: Agent, verb: str, message: Any = "Order", **settings: Any) -> Response[Any]:
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


# ── how it is asked for ──────────────────────────────────────────────────────────────────


@every_verb
@both_modes
async def test_an_answer_comes_as_a_value_of_the_type(kind: Any, say: Say, verb: str) -> None:
    provider = kind([say(GOOD)])
    response = await ask(Agent(provider), verb, output=Order)
    assert response.output == Order(item="lamp", amount=2)
    assert json.loads(response.message) == json.loads(GOOD)
    assert response.tool_calls == ()


@every_verb
async def test_a_model_with_schemas_is_given_the_strict_schema_and_no_tool(verb: str) -> None:
    provider = WithSchemas([GOOD])
    await ask(Agent(provider), verb, output=Order)
    (request,) = provider.requests
    wanted = request.options.response_format
    assert wanted == OutputSpec(Order).response_format
    assert wanted["json_schema"]["strict"] is True
    assert request.tools == ()


@every_verb
async def test_another_model_is_given_a_tool_it_must_call(verb: str) -> None:
    provider = ScriptedProvider([as_call(GOOD)])
    await ask(Agent(provider), verb, output=Order)
    (request,) = provider.requests
    assert [spec.name for spec in request.tools] == [OUTPUT_TOOL]
    assert request.options.tool_choice == OUTPUT_TOOL
    assert request.options.response_format is None


async def test_a_provider_without_a_profile_is_given_the_tool() -> None:
    class Bare:
        name, model = "bare", "m"
        seen: list[Any] = []  # noqa: RUF012 - one instance

        def chat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Response:
            self.seen += tools
            return as_call(GOOD)

        async def achat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Response:
            return self.chat(messages, tools)

        def stream_chat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Any:
            yield FinalResponse(self.chat(messages, tools))

        async def astream_chat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Any:
            yield FinalResponse(self.chat(messages, tools))

    provider: Any = Bare()
    for verb in VERBS:
        assert (await ask(Agent(provider), verb, output=Order)).output.amount == 2
    assert {spec.name for spec in provider.seen} == {OUTPUT_TOOL}


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (Point, '{"x": 1}', Point(1)),
        (Person, '{"name": "Ada"}', {"name": "Ada"}),
        (Cat | Dog, '{"result": {"kind": "dog", "tricks": ["sit"]}}', Dog(tricks=["sit"])),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            '{"result": {"kind": "cat", "lives": 9}}',
            Cat(lives=9),
        ),
        (list[Point], '{"result": [{"x": 1}, {"x": 2}]}', [Point(1), Point(2)]),
        (Literal["a", "b"], '{"result": "b"}', "b"),
        (int, '{"result": 3}', 3),
        (Tree, '{"name": "a", "children": [{"name": "b"}]}', Tree(name="a", children=[Tree(name="b")])),
        (Order | None, '{"result": null}', None),
    ],
)
@both_modes
def test_any_type_that_pydantic_knows_can_be_an_output(
    wanted: Any, text: str, value: Any, kind: Any, say: Say
) -> None:
    assert Agent(kind([say(text)])).chat("x", output=wanted).output == value


@every_verb
async def test_the_builders_output_holds_for_every_chat_and_one_chat_may_take_another(verb: str) -> None:
    provider = WithSchemas([GOOD, '{"x": 1}', GOOD])
    agent = AgentBuilder().with_llm(provider).with_output(Order).build()
    assert (await ask(agent, verb)).output == Order(item="lamp", amount=2)
    assert (await ask(agent, verb, output=Point)).output == Point(1)
    assert (await ask(agent, verb)).output == Order(item="lamp", amount=2)


def test_a_type_without_a_schema_is_reported_when_the_agent_is_built() -> None:
    class Opaque:
        pass

    with pytest.raises(BuilderError, match="Opaque cannot be an output"):
        AgentBuilder().with_llm(ScriptedProvider([])).with_output(Opaque).build()
    with pytest.raises(ConfigError, match="Opaque cannot be an output"):
        Agent(ScriptedProvider(["x"])).chat("x", output=Opaque)


# ── corrections ──────────────────────────────────────────────────────────────────────────


@every_verb
@both_modes
async def test_an_answer_that_does_not_fit_is_sent_back_and_all_of_it_is_paid_for(
    kind: Any, say: Say, verb: str
) -> None:
    spent = TokenUsage(100, 10)
    steps = [say(text, tokens=spent, cost_usd=Decimal("0.001")) for text in (BAD, BAD, GOOD)]
    provider = kind(steps)
    agent = Agent(provider)
    response = await ask(agent, verb, output=Order, session_id="s")
    assert response.output == Order(item="lamp", amount=2)
    assert response.metadata["output_corrections"] == 2
    assert response.metadata["turns"] == 3
    assert response.tokens_used == TokenUsage(300, 30)
    assert response.cost_usd == Decimal("0.003")
    assert agent.costs(session="s").calls == 3
    told = provider.requests[1].messages[-1]
    assert told.role == ("user" if kind is WithSchemas else "tool")
    assert "amount: input should be greater than 0" in told.text
    assert len(provider.requests[2].messages) == len(provider.requests[1].messages) + 2


@every_verb
@both_modes
async def test_the_history_keeps_the_good_answer_alone(kind: Any, say: Say, verb: str) -> None:
    provider = kind([say(BAD), say(GOOD), say(GOOD)])
    agent = Agent(provider)
    response = await ask(agent, verb, output=Order, session_id="s")
    history = agent.history("s")
    assert history == (Message.user("Order"), Message.assistant(response.message))
    await ask(agent, verb, output=Order, session_id="s")
    assert provider.requests[-1].messages[:2] == history


@every_verb
@both_modes
async def test_corrections_are_bounded_and_the_error_says_what_was_spent(
    kind: Any, say: Say, verb: str
) -> None:
    provider = kind([say(BAD, tokens=TokenUsage(10, 1), cost_usd=Decimal("0.01"))] * 3)
    agent = Agent(provider)
    with pytest.raises(OutputValidationError, match="does not fit Order: amount: input") as caught:
        await ask(agent, verb, output=Order, session_id="s")
    assert len(provider.requests) == 3
    assert caught.value.tokens_used == TokenUsage(30, 3)
    assert caught.value.cost_usd == Decimal("0.03")
    assert json.loads(caught.value.text) == json.loads(BAD)
    assert str(caught.value).count("does not fit Order") == 1
    assert caught.value.args == (caught.value.message,)
    assert agent.sessions() == ()


@both_modes
def test_no_corrections_may_be_allowed_at_all(kind: Any, say: Say) -> None:
    agent = AgentBuilder().with_llm(kind([say(BAD)])).with_limits(max_output_corrections=0).build()
    with pytest.raises(OutputValidationError):
        agent.chat("Order", output=Order)


@both_modes
def test_an_answer_cut_off_at_the_token_limit_is_not_asked_for_again(kind: Any, say: Say) -> None:
    provider = kind([reply('{"item": "la', finish_reason="length")])
    with pytest.raises(OutputValidationError, match="cut off at the token limit") as caught:
        Agent(provider).chat("Order", output=Order)
    assert "Raise max_tokens" in (caught.value.hint or "")


@both_modes
def test_text_that_holds_the_json_is_taken_whatever_was_asked_for(kind: Any, say: Say) -> None:
    assert Agent(kind([f"```json\n{GOOD}\n```"])).chat("Order", output=Order).output.amount == 2


# ── with tools, limits, sessions ─────────────────────────────────────────────────────────


@tool
def stock(item: str) -> int:
    """How many there are."""
    return len(item)


@every_verb
@both_modes
async def test_tools_run_first_and_corrections_stay_in_their_order(kind: Any, say: Say, verb: str) -> None:
    provider = kind([call("stock", item="lamp"), say(BAD), call("stock", item="sofa"), say(GOOD)])
    agent = Agent(provider, tools=[stock])
    response = await ask(agent, verb, output=Order, session_id="s")
    assert response.output.amount == 2
    assert [result.content for result in response.tool_results] == ["4", "4"]
    correction = "user" if kind is WithSchemas else "tool"
    roles = [message.role for message in provider.requests[-1].messages]
    assert roles == ["user", "assistant", "tool", "assistant", correction, "assistant", "tool"]
    assert [message.role for message in agent.history("s")] == [
        "user",
        *["assistant", "tool"] * 2,
        "assistant",
    ]
    names = {OUTPUT_TOOL, "stock"} if kind is ScriptedProvider else {"stock"}
    assert {spec.name for spec in provider.requests[0].tools} == names


@both_modes
def test_at_the_limit_the_last_call_still_asks_for_the_type(kind: Any, say: Say) -> None:
    provider = kind([call("stock", item="lamp"), say(BAD), say(GOOD)])
    agent = AgentBuilder().with_llm(provider).with_tools(stock).with_limits(max_turns=1).build()
    response = agent.chat("Order", output=Order)
    assert response.output.amount == 2
    assert response.metadata["max_turns_hit"] is True
    for request in provider.requests[1:]:
        assert "stock" not in {spec.name for spec in request.tools}
    if kind is ScriptedProvider:
        assert provider.requests[-1].options.tool_choice == OUTPUT_TOOL


@both_modes
def test_corrections_that_use_up_the_turns_end_too(kind: Any, say: Say) -> None:
    limited = AgentBuilder().with_llm(kind([say(BAD)] * 9)).with_limits(max_turns=2, max_output_corrections=5)
    with pytest.raises(OutputValidationError):
        limited.build().chat("Order", output=Order)
    agent = AgentBuilder().with_llm(kind([say(BAD)] * 9)).with_limits(max_turns=2, on_limit="raise").build()
    with pytest.raises(LimitExceededError):
        agent.chat("Order", output=Order)


def test_a_model_told_to_use_no_tools_still_gives_its_answer_by_one() -> None:
    provider = ScriptedProvider([as_call(GOOD)])
    options = ChatOptions(tool_choice="none")
    Agent(provider, tools=[stock]).chat("Order", output=Order, options=options)
    (request,) = provider.requests
    assert [spec.name for spec in request.tools] == [OUTPUT_TOOL]
    assert request.options.tool_choice == OUTPUT_TOOL


def test_a_forced_tool_that_is_switched_off_is_not_forced() -> None:
    @tool
    def broken() -> str:
        """Breaks."""
        raise RuntimeError("broken")

    provider = ScriptedProvider([call("broken"), "first", "second"])
    agent = (
        AgentBuilder()
        .with_llm(provider)
        .with_tools(broken)
        .with_circuit_breakers(failure_threshold=1)
        .build()
    )
    options = ChatOptions(tool_choice="broken")
    agent.chat("x", options=options)
    agent.chat("x", options=options)
    assert provider.requests[0].options.tool_choice == "broken"
    assert provider.requests[-1].tools == ()
    assert provider.requests[-1].options.tool_choice is None


@every_verb
async def test_a_tool_of_the_same_name_as_the_answers_is_refused(verb: str) -> None:
    @tool(name=OUTPUT_TOOL)
    def own() -> str:
        """My own."""
        return "x"

    agent = Agent(WithSchemas([GOOD, call(OUTPUT_TOOL), "done"]), tools=[own])
    with pytest.raises(ConfigError, match="final_answer"):
        await ask(agent, verb, output=Order)


@every_verb
@both_modes
async def test_a_refusal_is_an_error_with_the_models_words(kind: Any, say: Say, verb: str) -> None:
    refused = reply("I cannot do that.", metadata={"refusal": "I cannot do that."}, tokens=TokenUsage(5, 2))
    provider = kind([refused])
    with pytest.raises(RefusalError, match=r"I cannot do that\.") as caught:
        await ask(Agent(provider), verb, output=Order)
    assert caught.value.tokens_used == TokenUsage(5, 2)
    assert len(provider.requests) == 1


@every_verb
async def test_without_a_type_a_refusal_is_an_answer(verb: str) -> None:
    refused = reply("I cannot.", metadata={"refusal": "I cannot."})
    response = await ask(Agent(ScriptedProvider([refused])), verb)
    assert (response.message, response.output) == ("I cannot.", None)


@both_modes
def test_an_error_between_corrections_counts_what_was_spent(kind: Any, say: Say) -> None:
    provider = kind([say(BAD, tokens=TokenUsage(10, 1)), ServiceUnavailableError("down")])
    with pytest.raises(ServiceUnavailableError) as caught:
        Agent(provider).chat("Order", output=Order)
    assert caught.value.tokens_used == TokenUsage(10, 1)


@both_modes
def test_a_stream_ends_with_the_value_and_has_shown_the_answer(kind: Any, say: Say) -> None:
    events = list(Agent(kind([say(GOOD)])).stream_chat("Order", output=Order))
    text = "".join(event.delta for event in events if isinstance(event, TextDelta))
    assert json.loads(text) == json.loads(GOOD)
    last = events[-1].response
    assert last is not None
    assert last.output == Order(item="lamp", amount=2)


def test_many_chats_with_different_types_do_not_mix() -> None:
    def answer(request: ScriptedRequest) -> str:
        name = (request.options.response_format or {})["json_schema"]["name"]
        return {"Order": GOOD, "Point": '{"x": 7}', "list_of_int": '{"result": [1, 2]}'}[name]

    agent = Agent(WithSchemas(answer))
    types: list[Any] = [Order, Point, list[int]] * 20
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda kind: agent.chat("x", output=kind).output, types))
    assert values == [Order(item="lamp", amount=2), Point(7), [1, 2]] * 20


# ── through the wire ─────────────────────────────────────────────────────────────────────

SURFACES = [
    pytest.param({"surface": "chat"}, id="chat"),
    pytest.param({"surface": "chat", "api": "v1"}, id="v1"),
    pytest.param({"surface": "responses"}, id="responses"),
]


def azure_agent(azure: AzureEmulator, *tools: Any, **settings: Any) -> Agent:
    kwargs: dict[str, Any] = {**azure.client_kwargs(), **settings}
    return AgentBuilder().with_azure_openai_llm(**kwargs).with_tools(*tools).build()


@every_verb
@pytest.mark.parametrize("settings", SURFACES)
@pytest.mark.parametrize(("model", "say"), [("gpt-4o-2024-11-20", as_text), ("some-model", as_call)])
async def test_a_type_comes_back_through_azures_wire(
    settings: dict[str, Any], model: str, say: Say, verb: str
) -> None:
    engine = ScriptedProvider([call("stock", item="lamp"), say(BAD), say(GOOD)])
    deployment = "gpt-4o" if say is as_text else "prod"
    with AzureEmulator(engine=engine, deployments={deployment: model}) as azure:
        agent = azure_agent(azure, stock, **settings)
        response = await ask(agent, verb, output=Order)
        sent = azure.requests[0].body
        await agent.aclose()
    assert response.output == Order(item="lamp", amount=2)
    assert response.metadata["output_corrections"] == 1
    assert response.metadata["surface"] == settings["surface"]
    text = json.dumps(sent)
    assert ('"json_schema"' in text) == (say is as_text)
    assert (OUTPUT_TOOL in text) == (say is as_call)


@every_verb
@pytest.mark.parametrize("settings", SURFACES)
async def test_a_tools_image_reaches_the_model_and_the_history_keeps_it(
    settings: dict[str, Any], verb: str
) -> None:
    @tool
    def photo() -> list[Any]:
        """Takes a picture."""
        return ["the front", ImagePart.from_bytes(PNG)]

    engine = ScriptedProvider([call("photo"), "A cat."])
    with AzureEmulator(engine=engine, deployments={"gpt-4o": "gpt-4o-2024-11-20"}) as azure:
        agent = azure_agent(azure, photo, **settings)
        response = await ask(agent, verb, "What do you see?", session_id="s")
        sent = azure.requests[-1].body
        await agent.aclose()
    assert response.message == "A cat."
    assert ImagePart.from_bytes(PNG).source in json.dumps(sent)
    (result,) = response.tool_results
    assert result.text == "the front"
    assert Response.from_json(response.to_json()).tool_results == response.tool_results
    kept = agent.history("s")[2]
    assert Message.from_json(kept.to_json()) == kept
    assert any(isinstance(part, ImagePart) for part in kept.content)


def refusals(request: httpx2.Request) -> httpx2.Response:
    """A model that declines, on either surface, whole or streamed."""
    body = json.loads(request.content)
    words = {"type": "refusal", "refusal": "I cannot do that."}
    if "input" in body:
        item = {"type": "message", "id": "m", "content": [words]}
        whole: dict[str, Any] = {"status": "completed", "model": "m", "output": [item]}
        events: list[Any] = [{"type": "response.completed", "response": whole}]
    else:
        choice = {"index": 0, "finish_reason": "stop"}
        whole = {"choices": [{**choice, "message": {"content": None, **words}}]}
        events = [{"choices": [{**choice, "delta": words}]}]
    if body.get("stream"):
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        return httpx2.Response(200, text=f"{text}data: [DONE]\n\n")
    return httpx2.Response(200, json=whole)


@every_verb
@pytest.mark.parametrize("settings", SURFACES)
async def test_a_refusal_on_the_wire_is_typed_on_every_surface(settings: dict[str, Any], verb: str) -> None:
    transport = httpx2.MockTransport(refusals)
    client = AzureOpenAIClient(
        endpoint="https://contoso.openai.azure.com",
        deployment_id="gpt-4o",
        api_key="key",
        http_client=httpx2.Client(transport=transport),
        async_http_client=httpx2.AsyncClient(transport=transport),
        **settings,
    )
    agent = Agent(client)
    with pytest.raises(RefusalError, match=r"I cannot do that\."):
        await ask(agent, verb, output=Order, session_id="s")
    assert agent.sessions() == ()


@pytest.mark.parametrize(
    ("settings", "knows"),
    [
        ({"api_version": "2024-06-01"}, False),
        ({"api_version": "2024-08-01-preview"}, True),
        ({"api_version": "2024-06-01", "api": "v1"}, True),
        ({"api_version": "2024-06-01", "surface": "responses"}, True),
        ({}, True),
    ],
)
def test_an_api_version_from_before_schemas_is_asked_by_a_tool(settings: dict[str, Any], knows: bool) -> None:
    client = AzureOpenAIClient(
        endpoint="https://contoso.openai.azure.com", deployment_id="gpt-4o", api_key="key", **settings
    )
    assert client.profile.structured_output is knows
