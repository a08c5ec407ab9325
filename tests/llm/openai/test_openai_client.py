"""`OpenAIClient` before a loopback OpenAI."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from loom_py import AgentBuilder, ChatOptions, Message, Response, ScriptedProvider, TokenUsage, ToolSpec
from loom_py.emulator import OpenAIEmulator
from loom_py.llm import create_provider
from loom_py.llm.openai import OpenAIClient
from loom_py.llm.prices import ModelPrice
from loom_py.llm.scripted import call, reply

HELLO = [Message.user("Hello")]
LOOK = [ToolSpec("look.up", "Looks it up.", {"type": "object", "properties": {"q": {"type": "string"}}})]
EVERY_VERB = pytest.mark.parametrize("verb", ["chat", "achat", "stream_chat", "astream_chat"])


@pytest.fixture
def openai() -> Iterator[OpenAIEmulator]:
    with OpenAIEmulator(
        ScriptedProvider([reply("Hi there!", tokens=TokenUsage(1000, 100, cached_input=400))] * 9),
        models={"gpt-4o": "gpt-4o-2024-08-06", "gpt-5": "gpt-5-2025-08-07", "o3": "o3-2025-04-16"},
    ) as emulator:
        yield emulator


async def ask(client: OpenAIClient, verb: str, *args: Any, **settings: Any) -> Response:
    method = getattr(client, verb)
    if verb == "achat":
        answer: Response = await method(*args, **settings)
    elif verb == "astream_chat":
        answer = [event async for event in method(*args, **settings)][-1].response
    elif verb == "stream_chat":
        answer = (await asyncio.to_thread(lambda: list(method(*args, **settings))))[-1].response
    else:
        answer = await asyncio.to_thread(method, *args, **settings)
    return answer


@EVERY_VERB
@pytest.mark.parametrize(("surface", "path"), [("chat", "chat/completions"), ("responses", "responses")])
async def test_a_call_goes_to_v1_with_a_bearer_key_and_comes_back_priced_by_openais_list(
    openai: OpenAIEmulator, verb: str, surface: Any, path: str
) -> None:
    async with OpenAIClient(
        **openai.client_kwargs(), organization="org-1", project="proj_1", surface=surface
    ) as client:
        response = await ask(client, verb, HELLO)
    assert (response.message, response.model) == ("Hi there!", "gpt-4o-2024-08-06")
    # 600 input at 2.50, 400 cached at 1.25 and 100 output at 10 USD per million
    assert response.cost_usd == Decimal("0.003")
    seen = openai.requests[-1]
    assert (seen.method, seen.path, seen.query) == ("POST", f"/v1/{path}", {})
    assert seen.headers["authorization"] == "Bearer ***"
    assert "api-key" not in seen.headers
    assert (seen.headers["openai-organization"], seen.headers["openai-project"]) == ("org-1", "proj_1")
    assert seen.body["model"] == "gpt-4o"


@EVERY_VERB
async def test_the_metadata_has_what_openais_headers_say_and_nothing_of_a_content_filter(
    openai: OpenAIEmulator, verb: str
) -> None:
    async with OpenAIClient(**openai.client_kwargs()) as client:
        metadata = (await ask(client, verb, HELLO)).metadata
    assert metadata["request_id"].startswith("req_")
    assert metadata["deployment"] == "gpt-4o"
    assert metadata["service_tier"] == "default"
    assert int(metadata["remaining_requests"]) == int(metadata["limit_requests"]) - 1
    assert "content_filter" not in metadata
    assert "region" not in metadata


async def test_a_tier_is_asked_for_in_each_call_and_the_one_that_served_is_priced(
    openai: OpenAIEmulator,
) -> None:
    client = OpenAIClient(**openai.client_kwargs(), service_tier="priority")
    response = client.chat(HELLO)
    assert openai.requests[-1].body["service_tier"] == "priority"
    assert response.metadata["service_tier"] == "priority"
    # 600 at 4.25, 400 at 2.125, 100 at 17
    assert response.cost_usd == Decimal("0.0051")
    worst, standard = (client.worst_cost(1000, 100, options=options) for options in (None, _tier("default")))
    assert worst.usd is not None
    assert standard.usd is not None
    assert worst.usd >= Decimal("0.0059")
    client.chat(HELLO, options=_tier("default"))
    assert openai.requests[-1].body["service_tier"] == "default"
    client.close()


def _tier(name: str) -> ChatOptions:
    return ChatOptions(extra_body={"service_tier": name})


def test_tools_go_out_under_legal_names_and_come_back_under_their_own() -> None:
    engine = ScriptedProvider([call("look_up", q="größe"), "Done."])
    with OpenAIEmulator(engine, models=["gpt-4o"]) as openai:
        with OpenAIClient(**openai.client_kwargs()) as client:
            response = client.chat(HELLO, LOOK, options=ChatOptions(tool_choice="look.up"))
        assert [(one.name, dict(one.arguments)) for one in response.tool_calls] == [
            ("look.up", {"q": "größe"})
        ]
        body = openai.requests[-1].body
        assert body["tools"][0]["function"]["name"] == "look_up"
        assert body["tool_choice"] == {"type": "function", "function": {"name": "look_up"}}


def test_a_reasoning_model_gets_its_own_limit_and_no_sampling(openai: OpenAIEmulator) -> None:
    with OpenAIClient(**openai.client_kwargs("o3"), temperature=0.3, max_tokens=77) as client:
        client.chat(HELLO, options=ChatOptions(reasoning_effort="low"))
    body = openai.requests[-1].body
    assert (body["max_completion_tokens"], body["reasoning_effort"]) == (77, "low")
    assert not {"temperature", "max_tokens"} & set(body)


def test_the_key_may_be_a_function_that_is_asked_for_each_call(openai: OpenAIEmulator) -> None:
    keys = iter(["sk-emulator-key", "sk-emulator-key"])
    asked = []

    def key() -> str:
        asked.append(1)
        return next(keys)

    settings: dict[str, Any] = {**openai.client_kwargs(), "api_key": key}
    with OpenAIClient(**settings) as client:
        client.chat(HELLO)
        client.chat(HELLO)
        assert "sk-emulator" not in f"{client!r}{client.describe()}"
    assert len(asked) == 2


async def test_variables_of_the_sdk_that_no_setting_has_are_not_sent(
    openai: OpenAIEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: of-another-service")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-1234567890")
    async with OpenAIClient(**openai.client_kwargs()) as client:
        for verb in ("chat", "achat"):
            await ask(client, verb, HELLO)
            assert "x-secret" not in openai.requests[-1].headers


@pytest.mark.parametrize(
    ("model", "tokens", "cost"),
    [
        ("gpt-4o-2024-05-13", TokenUsage(1_000_000, 0), "5"),  # a snapshot with a price of its own
        ("gpt-3.5-turbo-1106", TokenUsage(1_000_000, 0), "1"),  # OpenAI's price, which is not Azure's
        ("ft:gpt-4o-mini-2024-07-18:acme:shop:Ab1", TokenUsage(1_000_000, 1_000_000), "1.5"),
        ("ft:gpt-9-2030-01-01:acme::Ab1", TokenUsage(1000, 10), None),
        ("house-model-1", TokenUsage(1000, 10), None),
        ("gpt-4o-search-preview", TokenUsage(1000, 10), None),  # no gpt-4o: each search costs, too
        ("gpt-6-astra-of-ours", TokenUsage(1000, 10), None),
    ],
)
def test_prices_are_openais_own_and_unknown_where_it_lists_none(
    model: str, tokens: TokenUsage, cost: str | None
) -> None:
    engine = ScriptedProvider([reply("Hi", tokens=tokens)])
    with OpenAIEmulator(engine, models=[model]) as openai, OpenAIClient(**openai.client_kwargs()) as client:
        response = client.chat(HELLO)
    assert response.cost_usd == (None if cost is None else Decimal(cost))
    assert (response.metadata["cost"]["reason"] is None) == (cost is not None)


def test_a_price_of_the_users_own_comes_first() -> None:
    with OpenAIEmulator(ScriptedProvider([reply("Hi", tokens=TokenUsage(1_000_000, 0))])) as openai:
        prices = {"gpt-4o": ModelPrice(7, 8)}
        with OpenAIClient(**openai.client_kwargs(), prices=prices) as client:
            assert client.chat(HELLO).cost_usd == Decimal(7)


@pytest.mark.parametrize(("asks", "cost"), [(True, Decimal("0.0065")), (False, None)])
def test_the_package_genai_prices_is_asked_for_models_the_list_does_not_have(
    asks: bool, cost: Decimal | None
) -> None:
    engine = ScriptedProvider([reply("Hi", tokens=TokenUsage(1000, 100))])
    with (
        OpenAIEmulator(engine, models=["chatgpt-4o-latest"]) as openai,
        OpenAIClient(**openai.client_kwargs(), genai_prices=asks) as client,
    ):
        assert client.chat(HELLO).cost_usd == cost


def test_the_builder_and_the_registry_make_the_same_client(openai: OpenAIEmulator) -> None:
    settings = openai.client_kwargs()
    agent = (
        AgentBuilder()
        .with_openai_llm("sk-emulator-key", "gpt-4o", base_url=settings["base_url"], service_tier="flex")
        .build()
    )
    with agent:
        assert agent.chat("Hello").message == "Hi there!"
    assert openai.requests[-1].body["service_tier"] == "flex"
    client = create_provider(
        "openai:gpt-4o", api_key=settings["api_key"], base_url=settings["base_url"], temperature=0.0
    )
    assert isinstance(client, OpenAIClient)
    assert client.chat(HELLO).message == "Hi there!"
    client.close()


def test_clients_of_the_user_are_used_and_left_open() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        message = {"role": "assistant", "content": str(request.url)}
        return httpx2.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with OpenAIClient(model="gpt-4o", api_key="k", http_client=http) as client:
        assert client.chat(HELLO).message == "https://api.openai.com/v1/chat/completions"
    assert not http.is_closed


def test_describing_tells_every_setting_and_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789abcdef")
    client = OpenAIClient(model="gpt-4o", project="proj_1")
    told = client.describe().to_dict()
    assert told["api_key"]["source"] == "environment (OPENAI_API_KEY)"
    assert "0123456789" not in str(told)
    assert told["base_url"] == {"value": "https://api.openai.com/v1", "source": "default"}
    assert told["project"] == {"value": "proj_1", "source": "argument"}
    assert repr(client) == "OpenAIClient(model='gpt-4o', base_url='https://api.openai.com/v1')"
    assert (client.endpoint, client.model, client.timeout) == ("https://api.openai.com/v1", "gpt-4o", 60.0)


def test_a_model_that_turns_a_parameter_down_is_asked_again_without_it(openai: OpenAIEmulator) -> None:
    refused = {
        "error": {
            "message": "Unsupported parameter: 'verbosity' is not supported with this model.",
            "type": "invalid_request_error",
            "param": "verbosity",
            "code": "unsupported_parameter",
        }
    }
    openai.fail_next(400, body=refused)
    with OpenAIClient(**openai.client_kwargs()) as client:
        assert client.chat(HELLO, options=ChatOptions(verbosity="low")).message == "Hi there!"
        assert client.describe().to_dict()["learned"]["source"] == "answers of OpenAI"
    assert [("verbosity" in request.body) for request in openai.requests] == [True, False]
