"""The official SDK against the emulator: answers, tools, streams, concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from openai import AsyncAzureOpenAI, AzureOpenAI, OpenAI

from loom_py.emulator import AzureEmulator
from loom_py.llm.scripted import ScriptedProvider, ScriptedRequest, call, reply
from loom_py.messages import ImagePart, Message, TokenUsage, ToolCall, ToolSpec

DEPLOYMENT = "gpt-4o-deployment"
USER: Any = [{"role": "user", "content": "Hello there"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: Any = [
    {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}
]


def test_without_an_engine_the_users_words_come_back(sdk: AzureOpenAI) -> None:
    completion = sdk.chat.completions.create(model=DEPLOYMENT, messages=USER)
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "gpt-4o-2024-11-20"


def test_usage_comes_with_its_details(azure: AzureEmulator, sdk: AzureOpenAI) -> None:
    usage = TokenUsage(input=100, output=40, cached_input=64, cache_writes=8, reasoning=30)
    azure.engine = ScriptedProvider([reply("hi", tokens=usage)])
    got = sdk.chat.completions.create(model=DEPLOYMENT, messages=USER).usage
    assert got is not None
    assert (got.prompt_tokens, got.completion_tokens, got.total_tokens) == (100, 40, 140)
    assert got.prompt_tokens_details is not None
    assert got.completion_tokens_details is not None
    assert got.prompt_tokens_details.cached_tokens == 64
    assert got.prompt_tokens_details.cache_write_tokens == 8
    assert got.completion_tokens_details.reasoning_tokens == 30


def test_tool_calls_arrive_whole_and_their_results_reach_the_engine(
    azure: AzureEmulator, sdk: AzureOpenAI
) -> None:
    engine = ScriptedProvider([[call("weather", city="Tromsø"), call("weather", city="Oslo")], "Rain."])
    azure.engine = engine
    completion = sdk.chat.completions.create(model=DEPLOYMENT, messages=USER, tools=WEATHER)
    message: Any = completion.choices[0].message
    assert completion.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert [each.function.arguments for each in message.tool_calls] == [
        '{"city": "Tromsø"}',
        '{"city": "Oslo"}',
    ]
    history = [
        *USER,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": "call_1", "content": "wet"},
        {"role": "tool", "tool_call_id": "call_2", "content": "dry"},
    ]
    answer = sdk.chat.completions.create(model=DEPLOYMENT, messages=history, tools=WEATHER)
    assert answer.choices[0].message.content == "Rain."
    assert engine.requests[1].messages == (
        Message.user("Hello there"),
        Message.assistant(
            "",
            [
                ToolCall("call_1", "weather", {"city": "Tromsø"}),
                ToolCall("call_2", "weather", {"city": "Oslo"}),
            ],
        ),
        Message.tool("wet", "call_1"),
        Message.tool("dry", "call_2"),
    )
    assert engine.requests[1].tools == (ToolSpec("weather", "d", SCHEMA),)


def test_options_reach_the_engine(azure: AzureEmulator, sdk: AzureOpenAI) -> None:
    engine = azure.engine = ScriptedProvider(["ok"])
    sdk.chat.completions.create(
        model=DEPLOYMENT,
        messages=USER,
        tools=WEATHER,
        tool_choice={"type": "function", "function": {"name": "weather"}},
        temperature=0.25,
        top_p=0.5,
        max_tokens=77,
        stop=["a", "b"],
        seed=5,
        user="u-1",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
    )
    options = engine.requests[0].options
    assert (options.temperature, options.top_p, options.max_tokens) == (0.25, 0.5, 77)
    assert (options.stop, options.seed, options.user) == (("a", "b"), 5, "u-1")
    assert (options.tool_choice, options.parallel_tool_calls) == ("weather", False)
    assert options.extra_body == {"response_format": {"type": "json_object"}}


def test_an_image_reaches_the_engine_as_bytes(azure: AzureEmulator, sdk: AzureOpenAI) -> None:
    engine = azure.engine = ScriptedProvider(["a dot"])
    image = ImagePart(data=b"\x89PNG", media_type="image/png", detail="low")
    parts: Any = [{"type": "image_url", "image_url": {"url": image.source, "detail": "low"}}]
    sdk.chat.completions.create(model=DEPLOYMENT, messages=[{"role": "user", "content": parts}])
    assert engine.requests[0].messages == (Message.user([image]),)


def test_the_headers_are_those_of_2026(ask: Callable[..., httpx2.Response]) -> None:
    first, second = ask().headers, ask().headers
    assert first["x-ms-served-model"] == "gpt-4o-2024-11-20"
    assert first["x-ms-deployment-name"] == DEPLOYMENT
    assert first["x-ms-region"] == "eastus"
    assert first["x-request-id"] != first["apim-request-id"]
    assert first["x-request-id"] != second["x-request-id"]
    assert "azureml-model-session" in first
    left = [int(headers["x-ratelimit-remaining-requests"]) for headers in (first, second)]
    assert left[0] - left[1] == 1
    assert int(first["x-ratelimit-limit-requests"]) > left[0]


def test_each_deployment_may_have_its_own_engine_and_model(sdk: AzureOpenAI) -> None:
    with AzureEmulator(
        ScriptedProvider(["big"]),
        deployments={"large": "gpt-4.1", "small": "gpt-4.1-nano"},
        engines={"small": ScriptedProvider(["little"])},
    ) as azure:
        client = sdk.with_options(base_url=f"{azure.endpoint}/openai")
        answers = [client.chat.completions.create(model=name, messages=USER) for name in ("large", "small")]
        assert [(each.model, each.choices[0].message.content) for each in answers] == [
            ("gpt-4.1", "big"),
            ("gpt-4.1-nano", "little"),
        ]


def test_the_v1_path_takes_the_deployment_from_the_body_and_the_key_as_bearer(azure: AzureEmulator) -> None:
    with OpenAI(base_url=f"{azure.endpoint}/openai/v1/", api_key=azure.api_key, max_retries=0) as client:
        completion = client.chat.completions.create(model=DEPLOYMENT, messages=USER)
    assert completion.choices[0].message.content == "Hello there"
    assert azure.requests[0].deployment == DEPLOYMENT


def test_an_entra_token_opens_the_door() -> None:
    with (
        AzureEmulator(entra_tokens=["token-1"]) as azure,
        AzureOpenAI(
            azure_endpoint=azure.endpoint,
            azure_ad_token="token-1",
            api_version="2024-10-21",
            max_retries=0,
        ) as client,
    ):
        completion = client.chat.completions.create(model=DEPLOYMENT, messages=USER)
        assert completion.choices[0].message.content == "Hello there"
        assert "token-1" not in str(azure.requests[0].headers)


def test_requests_are_logged_with_their_credentials_masked(
    azure: AzureEmulator, ask: Callable[..., httpx2.Response]
) -> None:
    ask(user="u")
    (request,) = azure.requests
    assert (request.method, request.deployment, request.status) == ("POST", DEPLOYMENT, 200)
    assert request.path == f"/openai/deployments/{DEPLOYMENT}/chat/completions"
    assert request.query == {"api-version": "2024-10-21"}
    assert request.body["user"] == "u"
    assert request.headers["api-key"] == "***"
    assert azure.api_key not in f"{request!r} {request.headers} {azure!r}"


async def test_two_hundred_concurrent_requests_each_get_their_own_answer(azure: AzureEmulator) -> None:
    async def echo(request: ScriptedRequest) -> str:
        await asyncio.sleep(0.05)
        return f"answer to {request.text}"

    azure.engine = ScriptedProvider(echo)
    async with AsyncAzureOpenAI(
        azure_endpoint=azure.endpoint, api_key=azure.api_key, api_version="2024-10-21", max_retries=0
    ) as client:

        async def one(number: int) -> str | None:
            messages: Any = [{"role": "user", "content": str(number)}]
            if number % 2:
                text = ""
                stream = await client.chat.completions.create(
                    model=DEPLOYMENT, messages=messages, stream=True
                )
                async for chunk in stream:
                    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                return text
            completion = await client.chat.completions.create(model=DEPLOYMENT, messages=messages)
            return completion.choices[0].message.content

        answers = await asyncio.gather(*map(one, range(200)))
    assert answers == [f"answer to {number}" for number in range(200)]
    assert len(azure.requests) == 200


async def test_it_answers_in_process_without_a_socket() -> None:
    azure = AzureEmulator(ScriptedProvider(["in process"]))
    transport = httpx2.ASGITransport(app=azure.app)
    async with AsyncAzureOpenAI(
        azure_endpoint="https://example.openai.azure.com",
        api_key=azure.api_key,
        api_version="2024-10-21",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    ) as client:
        completion = await client.chat.completions.create(model=DEPLOYMENT, messages=USER)
    assert completion.choices[0].message.content == "in process"
    assert not azure.running


@pytest.mark.parametrize("text", ["\ud800 lone", "naïve ☃ 𝄞", "\x00\x1f"])
def test_any_text_survives_the_wire(
    text: str, azure: AzureEmulator, ask: Callable[..., httpx2.Response]
) -> None:
    azure.engine = ScriptedProvider([text])
    assert ask().json()["choices"][0]["message"]["content"] == text


def test_a_key_in_the_query_is_masked_too(azure: AzureEmulator, http: httpx2.Client) -> None:
    http.get("/openai/models?api-version=1&subscription-key=secret")
    assert azure.requests[0].query == {"api-version": "1", "subscription-key": "***"}


def test_two_hundred_requests_to_a_blocking_engine_are_all_answered(azure: AzureEmulator) -> None:
    from concurrent.futures import ThreadPoolExecutor

    azure.engine = ScriptedProvider(lambda request: f"answer to {request.text}")
    path = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=1"
    limits = httpx2.Limits(max_connections=None)
    with (
        httpx2.Client(headers={"api-key": azure.api_key}, verify=False, limits=limits, timeout=30) as http,
        ThreadPoolExecutor(200) as pool,
    ):

        def one(number: int) -> Any:
            body = {"messages": [{"role": "user", "content": str(number)}]}
            return http.post(f"{azure.endpoint}{path}", json=body).json()["choices"][0]["message"]["content"]

        assert list(pool.map(one, range(200))) == [f"answer to {number}" for number in range(200)]
