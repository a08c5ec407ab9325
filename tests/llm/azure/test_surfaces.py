"""Three surfaces behind one client: which is taken, where it is, and that all answer alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from loom_py import AzureOpenAIClient, ChatOptions, ImagePart, Message, Response, TextPart, ToolCall, ToolSpec
from loom_py.emulator import AzureEmulator
from loom_py.errors import BuilderError, ConfigError, ContentFilterError, DeploymentNotFoundError, LoomError
from loom_py.events import TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.azure.surfaces import CHAT, RESPONSES, choose_surface, route_of
from loom_py.llm.profiles import profile_for
from loom_py.llm.scripted import ScriptedProvider, call, reply
from loom_py.messages import TokenUsage

HELLO = [Message.user("Hello there")]
LOOK = (ToolSpec("look_up", "Looks up", {"type": "object", "properties": {"what": {"type": "string"}}}),)
CLASSIC = "https://contoso.openai.azure.com"
V1 = f"{CLASSIC}/openai/v1/"
PICTURE = ImagePart.from_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 8)
every_verb = pytest.mark.parametrize("verb", ["chat", "achat", "stream_chat", "astream_chat"])


def config(**settings: Any) -> AzureOpenAIConfig:
    return AzureOpenAIConfig(**{"endpoint": CLASSIC, "deployment_id": "prod", "api_key": "k", **settings})


# ── the choice ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "has_tools", "effort", "surface"),
    [
        ("gpt-4o", False, None, CHAT),
        ("gpt-4o", True, None, CHAT),
        ("prod", True, "high", CHAT),
        ("gpt-5", True, "high", CHAT),
        ("gpt-5.4", False, None, CHAT),
        ("gpt-5.4", True, None, RESPONSES),
        ("gpt-5.4", True, "high", RESPONSES),
        ("gpt-5.4", True, "none", CHAT),
        ("gpt-5.6-terra", True, "none", CHAT),
        ("gpt-5.6-luna", True, None, RESPONSES),
        ("gpt-5-codex", False, None, RESPONSES),
        ("gpt-5-pro", False, "none", RESPONSES),
        ("o3-pro", False, None, RESPONSES),
        ("codex-mini", True, None, RESPONSES),
    ],
)
def test_the_model_decides_the_surface(model: str, has_tools: bool, effort: str | None, surface: Any) -> None:
    options = ChatOptions(reasoning_effort=effort)
    assert choose_surface(config(), profile_for(model), options, has_tools=has_tools) is surface


@pytest.mark.parametrize(("named", "surface"), [("chat", CHAT), ("responses", RESPONSES)])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5-codex", "prod"])
def test_a_surface_that_is_named_is_taken(named: str, surface: Any, model: str) -> None:
    chosen = choose_surface(config(surface=named), profile_for(model), ChatOptions(), has_tools=True)
    assert chosen is surface


@pytest.mark.parametrize(
    ("settings", "surface", "is_v1", "path"),
    [
        ({}, CHAT, False, "/deployments/prod/chat/completions"),
        ({"deployment_id": "a b/c"}, CHAT, False, "/deployments/a%20b%2Fc/chat/completions"),
        ({"api": "v1"}, CHAT, True, "/chat/completions"),
        ({"endpoint": V1}, CHAT, True, "/chat/completions"),
        ({"endpoint": f"{CLASSIC}/openai/v1/chat/completions"}, CHAT, True, "/chat/completions"),
        ({"endpoint": f"{CLASSIC}/openai/v1/responses"}, RESPONSES, True, "/responses"),
        ({"endpoint": V1, "api": "classic"}, CHAT, False, "/deployments/prod/chat/completions"),
        ({}, RESPONSES, True, "/responses"),
        ({"api_version": "2025-03-01-preview"}, RESPONSES, False, "/responses"),
        ({"api_version": "2025-04-01-preview"}, RESPONSES, False, "/responses"),
        ({"api": "classic"}, RESPONSES, False, "/responses"),
    ],
)
def test_a_request_goes_where_its_surface_is(
    settings: dict[str, Any], surface: Any, is_v1: bool, path: str
) -> None:
    route = route_of(surface, config(**settings))
    assert (route.is_v1, route.path) == (is_v1, path)


@pytest.mark.parametrize("settings", [{"surface": "completions"}, {"api": "v2"}])
def test_a_surface_or_api_that_there_is_not_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, BuilderError)):
        AzureOpenAIClient(endpoint=CLASSIC, deployment_id="prod", api_key="k", **settings)


# ── what is sent ─────────────────────────────────────────────────────────────────────────


class Wire:
    """Answers on every surface, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        message = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
        if "input" in json.loads(request.content):
            return httpx2.Response(200, json={"status": "completed", "model": "prod", "output": [message]})
        return httpx2.Response(
            200, json={"model": "m", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
        )

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.requests[-1].content)
        return body


@pytest.fixture
def wire() -> Wire:
    return Wire()


def client_on(wire: Wire, **settings: Any) -> AzureOpenAIClient:
    transport = httpx2.MockTransport(wire)
    defaults: dict[str, Any] = {
        "endpoint": CLASSIC,
        "deployment_id": "prod",
        "http_client": httpx2.Client(transport=transport),
        "async_http_client": httpx2.AsyncClient(transport=transport),
    }
    if not {"api_key", "entra_token", "credential", "token_provider"} & set(settings):
        defaults["api_key"] = "the-api-key"
    return AzureOpenAIClient(**{**defaults, **settings})


async def ask(client: AzureOpenAIClient, verb: str, *args: Any, **settings: Any) -> Response:
    call_it = getattr(client, verb)
    if verb == "achat":
        response = await call_it(*args, **settings)
    elif verb == "astream_chat":
        response = [event async for event in call_it(*args, **settings)][-1].response
    elif verb == "stream_chat":
        response = (await asyncio.to_thread(lambda: list(call_it(*args, **settings))))[-1].response
    else:
        response = await asyncio.to_thread(call_it, *args, **settings)
    assert isinstance(response, Response)
    return response


@every_verb
async def test_the_classic_api_has_the_version_in_its_url_and_v1_has_none(wire: Wire, verb: str) -> None:
    await ask(client_on(wire, api_version="2024-06-01"), verb, HELLO)
    await ask(client_on(wire, endpoint=V1, api_version="2024-06-01"), verb, HELLO)
    await ask(client_on(wire, surface="responses", api_version="2025-04-01-preview"), verb, HELLO)
    assert [str(request.url) for request in wire.requests] == [
        f"{CLASSIC}/openai/deployments/prod/chat/completions?api-version=2024-06-01",
        f"{CLASSIC}/openai/v1/chat/completions",
        f"{CLASSIC}/openai/responses?api-version=2025-04-01-preview",
    ]


@every_verb
@pytest.mark.parametrize(
    ("settings", "classic", "v1"),
    [
        ({"api_key": "the-key"}, ("api-key", "the-key"), ("authorization", "Bearer the-key")),
        (
            {"entra_token": "Bearer tok-1"},
            ("authorization", "Bearer tok-1"),
            ("authorization", "Bearer tok-1"),
        ),
        (
            {"token_provider": lambda: "tok-2"},
            ("authorization", "Bearer tok-2"),
            ("authorization", "Bearer tok-2"),
        ),
    ],
)
async def test_each_credential_travels_as_its_api_wants_it(
    wire: Wire, verb: str, settings: dict[str, Any], classic: tuple[str, str], v1: tuple[str, str]
) -> None:
    for api, (name, value) in (("classic", classic), ("v1", v1)):
        await ask(client_on(wire, api=api, **settings), verb, HELLO)
        headers = wire.requests[-1].headers
        assert headers[name] == value
        assert len({"api-key", "authorization"} & set(headers)) == 1


async def test_one_client_of_the_user_serves_both_apis_and_stays_open(wire: Wire) -> None:
    transport = httpx2.MockTransport(wire)
    http, ahttp = httpx2.Client(transport=transport), httpx2.AsyncClient(transport=transport)
    client = client_on(
        wire, deployment_id="gpt-5.4", model_name="gpt-5.4", http_client=http, async_http_client=ahttp
    )
    client.chat(HELLO)
    client.chat(HELLO, LOOK)
    await client.achat(HELLO)
    await client.achat(HELLO, LOOK)
    paths = [request.url.path for request in wire.requests]
    assert paths == ["/openai/deployments/gpt-5.4/chat/completions", "/openai/v1/responses"] * 2
    await client.aclose()
    assert not http.is_closed
    assert not ahttp.is_closed
    client.chat(HELLO, LOOK)


def test_options_are_written_in_the_words_of_the_surface(wire: Wire) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "A", "schema": {}, "strict": True}}
    options = ChatOptions(
        max_tokens=50,
        reasoning_effort="low",
        verbosity="high",
        prompt_cache_key="k1",
        user="u1",
        response_format=schema,
        tool_choice="look_up",
    )
    client_on(wire, model_name="gpt-5", surface="chat").chat(HELLO, LOOK, options=options)
    chat = wire.body
    assert chat["max_completion_tokens"] == 50
    assert (chat["reasoning_effort"], chat["verbosity"]) == ("low", "high")
    assert (chat["prompt_cache_key"], chat["user"], chat["response_format"]) == ("k1", "u1", schema)
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "look_up"}}
    client_on(wire, model_name="gpt-5", surface="responses").chat(HELLO, LOOK, options=options)
    responses = wire.body
    assert responses["max_output_tokens"] == 50
    assert responses["reasoning"] == {"effort": "low"}
    wanted = {"type": "json_schema", "name": "A", "schema": {}, "strict": True}
    assert responses["text"] == {"verbosity": "high", "format": wanted}
    assert (responses["prompt_cache_key"], responses["user"], responses["store"]) == ("k1", "u1", False)
    assert responses["tool_choice"] == {"type": "function", "name": "look_up"}
    assert not {"messages", "max_completion_tokens", "response_format", "verbosity"} & set(responses)


# ── images in tool results ───────────────────────────────────────────────────────────────

CALLS = (ToolCall("c1", "look_up", {"what": "a"}), ToolCall("c2", "look_up", {"what": "b"}))
SEEN = [
    *HELLO,
    Message.assistant("", CALLS),
    Message.tool([TextPart("the front"), PICTURE], "c1", "look_up"),
    Message.tool([PICTURE], "c2", "look_up"),
    Message.user("Go on"),
]


def test_chat_completions_get_a_tools_images_in_a_user_message_after_all_results(wire: Wire) -> None:
    client_on(wire, model_name="gpt-4o").chat(SEEN, LOOK)
    sent = wire.body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert [message["content"] for message in sent[2:4]] == ["the front", "(an image, shown below)"]
    images = [part for part in sent[4]["content"] if part["type"] == "image_url"]
    assert [part["image_url"]["url"] for part in images] == [PICTURE.source] * 2
    assert "'look_up' returned for the call c1" in sent[4]["content"][0]["text"]
    assert sent[5]["content"] == "Go on"


def test_responses_get_a_tools_images_in_its_output(wire: Wire) -> None:
    client_on(wire, model_name="gpt-4o", surface="responses").chat(SEEN[:-1], LOOK)
    outputs = [item["output"] for item in wire.body["input"] if item.get("type") == "function_call_output"]
    image = {"type": "input_image", "image_url": PICTURE.source, "detail": "auto"}
    assert outputs == [[{"type": "input_text", "text": "the front"}, image], [image]]


# ── against the emulator ─────────────────────────────────────────────────────────────────

SURFACES = [
    pytest.param({"api": "classic", "surface": "chat"}, id="classic"),
    pytest.param({"api": "v1", "surface": "chat"}, id="v1"),
    pytest.param(
        {"api": "classic", "surface": "responses", "api_version": "2025-04-01-preview"}, id="responses"
    ),
    pytest.param({"api": "v1", "surface": "responses"}, id="responses-v1"),
    pytest.param({"surface": "responses"}, id="responses-auto"),
]
SPENT = TokenUsage(120, 30, cached_input=20, reasoning=0)


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    engine = ScriptedProvider(
        lambda request: (
            call("look_up", what="München") if request.text == "call" else reply("Grüße, 世界", tokens=SPENT)
        )
    )
    with AzureEmulator(engine=engine, deployments={"prod": "gpt-4o-2024-11-20"}) as emulator:
        yield emulator


def emulated(azure: AzureEmulator, **settings: Any) -> AzureOpenAIClient:
    kwargs: dict[str, Any] = {**azure.client_kwargs(), "deployment_id": "prod", **settings}
    return AzureOpenAIClient(**kwargs)


@every_verb
@pytest.mark.parametrize("settings", SURFACES)
async def test_every_surface_gives_the_same_answer(
    azure: AzureEmulator, verb: str, settings: dict[str, Any]
) -> None:
    client = emulated(azure, **settings)
    response = await ask(client, verb, HELLO)
    assert response.message == "Grüße, 世界"
    assert response.finish_reason == "stop"
    assert response.tokens_used == SPENT
    assert response.model == "gpt-4o-2024-11-20"
    assert str(response.cost_usd) == "0.000575"
    assert response.metadata["surface"] == settings["surface"]
    assert response.metadata["request_id"]
    await client.aclose()


@every_verb
@pytest.mark.parametrize("settings", SURFACES)
async def test_every_surface_calls_tools_and_takes_their_results(
    azure: AzureEmulator, verb: str, settings: dict[str, Any]
) -> None:
    client = emulated(azure, **settings)
    asked = await ask(client, verb, [Message.user("call")], LOOK)
    (tool_call,) = asked.tool_calls
    assert (tool_call.name, tool_call.arguments) == ("look_up", {"what": "München"})
    assert asked.finish_reason == "tool_calls"
    history = [Message.user("call"), asked.to_message(), Message.tool("found", tool_call.id, "look_up")]
    answer = await ask(client, verb, history, LOOK)
    assert answer.message == "Grüße, 世界"
    await client.aclose()


@pytest.mark.parametrize("settings", SURFACES)
def test_every_surface_streams_the_same_kinds_of_events(
    azure: AzureEmulator, settings: dict[str, Any]
) -> None:
    client = emulated(azure, **settings)
    events = list(client.stream_chat(HELLO))
    assert "".join(event.delta for event in events if isinstance(event, TextDelta)) == "Grüße, 世界"
    kinds = [type(event) for event in client.stream_chat([Message.user("call")], LOOK)]
    assert kinds[:2] == [ToolCallStarted, ToolCallCompleted]
    client.close()


@every_verb
@pytest.mark.parametrize("settings", SURFACES)
async def test_every_surface_says_that_a_deployment_is_missing(
    azure: AzureEmulator, verb: str, settings: dict[str, Any]
) -> None:
    client = emulated(azure, **{**settings, "deployment_id": "gpt-4o-2024-11-20"})
    with pytest.raises(DeploymentNotFoundError) as caught:
        await ask(client, verb, HELLO)
    assert "Check deployment: 'gpt-4o-2024-11-20' looks like a model" in (caught.value.hint or "")
    await client.aclose()


@every_verb
@pytest.mark.parametrize("settings", SURFACES)
async def test_every_surface_tells_a_filtered_answer_as_one(
    azure: AzureEmulator, verb: str, settings: dict[str, Any]
) -> None:
    error = ContentFilterError("no", side="prompt", categories={"hate": {"filtered": True}})
    engine = ScriptedProvider([error])
    with AzureEmulator(engine=engine, deployments={"prod": "gpt-4o-2024-11-20"}) as emulator:
        client = emulated(emulator, **settings)
        with pytest.raises(LoomError) as caught:
            await ask(client, verb, HELLO)
        await client.aclose()
    assert isinstance(caught.value, ContentFilterError)


def test_reasoning_is_carried_through_the_turns_of_a_conversation(wire: Wire) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAAA", "summary": []}
    item = {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"}
    answers = iter([[thought, item], [{"type": "message", "content": "Done"}]])
    bodies: list[dict[str, Any]] = []

    def reply_with(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        return httpx2.Response(200, json={"status": "completed", "model": "p", "output": next(answers)})

    http = httpx2.Client(transport=httpx2.MockTransport(reply_with))
    client = client_on(wire, model_name="gpt-5.4", http_client=http)
    asked = client.chat(HELLO, LOOK)
    stored = Message.from_json(asked.to_message().to_json())
    client.chat([*HELLO, stored, Message.tool("found", "c1")], LOOK)
    assert bodies[0]["include"] == ["reasoning.encrypted_content"]
    kinds = [item.get("type") or item["role"] for item in bodies[1]["input"]]
    assert kinds == ["user", "reasoning", "function_call", "function_call_output"]
    assert bodies[1]["input"][1]["encrypted_content"] == "gAAAA"


@every_verb
async def test_a_deployment_whose_name_says_nothing_is_learned_from_its_refusals(verb: str) -> None:
    """Temperature is refused first, then tools on chat completions; the second call knows both."""
    engine = ScriptedProvider(lambda _: "Hi")
    with AzureEmulator(engine=engine, deployments={"prod": "gpt-5.6-terra-2026-07-09"}) as emulator:
        client = emulated(emulator)
        options = ChatOptions(temperature=0.3)
        for _ in range(2):
            response = await ask(client, verb, HELLO, LOOK, options=options)
            assert (response.message, response.metadata["surface"]) == ("Hi", "responses")
        await client.aclose()
    assert [request.status for request in emulator.requests] == [400, 400, 200, 200]
    assert "temperature" not in emulator.requests[-1].body
