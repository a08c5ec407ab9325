"""`OpenAICompatibleClient` before servers with ways of their own, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_openai_compatible import OpenAICompatibleClient, OpenAICompatibleConfig
from loom_openai_compatible.emulator import CompatibleEmulator, Quirks
from loom_py import (
    AgentBuilder,
    ChatOptions,
    ImagePart,
    Message,
    Response,
    ScriptedProvider,
    TokenUsage,
    ToolSpec,
)
from loom_py.emulator import OpenAIEmulator
from loom_py.errors import BuilderError, ConfigError, InvalidEndpointError, LoomError, StreamInterruptedError
from loom_py.llm import create_provider
from loom_py.llm.prices import ModelPrice
from loom_py.llm.profiles import ModelProfile
from loom_py.llm.scripted import call, reply

HELLO = [Message.user("Hello")]
TOOLS = [
    ToolSpec("find", "Finds it.", {"type": "object", "properties": {"q": {"type": "string"}}}),
    ToolSpec("now", "The time.", {"type": "object", "properties": {}}),
]
EVERY_VERB = pytest.mark.parametrize("verb", ["chat", "achat", "stream_chat", "astream_chat"])


async def ask(client: OpenAICompatibleClient, verb: str, *args: Any, **settings: Any) -> Response:
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


QUIRKS = [
    Quirks(),
    Quirks(errors="vllm", calls_finish_with_stop=True, reasoning="Let me think."),
    Quirks(ids_of_calls=False, null_content=True),
    Quirks(indexes_of_calls=False, ids_of_calls=False),
    Quirks(arguments_as_objects=True, done_mark=False),
    Quirks(usage=False, usage_in_streams=False, done_mark=False, calls_finish_with_stop=True),
    Quirks(takes_stream_options=False, usage_in_streams=False),
    Quirks(reasoning="Hm.", reasoning_field="reasoning", takes_developer_role=True),
]


@EVERY_VERB
@pytest.mark.parametrize("quirks", QUIRKS)
async def test_tools_work_with_every_server(quirks: Quirks, verb: str) -> None:
    engine = ScriptedProvider([[call("find", q="größe"), call("now"), call("find", q='"')], "Done."])
    with CompatibleEmulator(engine, quirks=quirks) as server:
        async with OpenAICompatibleClient(**server.client_kwargs()) as client:
            response = await ask(client, verb, HELLO, TOOLS)
            assert [(one.name, dict(one.arguments)) for one in response.tool_calls] == [
                ("find", {"q": "größe"}),
                ("now", {}),
                ("find", {"q": '"'}),
            ]
            assert len({one.id for one in response.tool_calls}) == 3
            assert response.finish_reason == "tool_calls"
            results = [Message.tool("ok", one.id, name=one.name) for one in response.tool_calls]
            done = await ask(client, verb, [*HELLO, response.to_message(), *results], TOOLS)
    assert (done.message, done.finish_reason) == ("Done.", "stop")


@settings(max_examples=20, deadline=None)
@given(
    st.builds(
        Quirks,
        usage=st.booleans(),
        usage_in_streams=st.booleans(),
        finish_reasons=st.booleans(),
        calls_finish_with_stop=st.booleans(),
        ids_of_calls=st.booleans(),
        indexes_of_calls=st.booleans(),
        arguments_as_objects=st.booleans(),
        null_content=st.booleans(),
        reasoning=st.sampled_from(["", "Hm."]),
        takes_stream_options=st.booleans(),
    ),
    st.booleans(),
)
def test_quirks_go_together_by_every_verb(quirks: Quirks, done_mark: bool) -> None:
    quirks = replace(
        quirks, done_mark=done_mark or not quirks.finish_reasons
    )  # something has to end a stream
    engine = ScriptedProvider([[call("find", q="1"), call("find", q="2")], "Done."] * 4)

    async def asked_by_every_verb(client: OpenAICompatibleClient) -> None:
        for verb in ("chat", "achat", "stream_chat", "astream_chat"):
            response = await ask(client, verb, HELLO, TOOLS)
            assert [dict(one.arguments) for one in response.tool_calls] == [{"q": "1"}, {"q": "2"}]
            assert response.finish_reason == "tool_calls"
            results = [Message.tool("ok", one.id, name=one.name) for one in response.tool_calls]
            done = await ask(client, verb, [*HELLO, response.to_message(), *results], TOOLS)
            assert (done.message, done.finish_reason) == ("Done.", "stop")

    with (
        CompatibleEmulator(engine, quirks=quirks) as server,
        OpenAICompatibleClient(**server.client_kwargs()) as client,
    ):
        asyncio.run(asked_by_every_verb(client))


@EVERY_VERB
async def test_thoughts_are_kept_apart_from_the_answer(verb: str) -> None:
    with CompatibleEmulator(ScriptedProvider(["42"]), quirks=Quirks(reasoning="6 × 7")) as server:
        async with OpenAICompatibleClient(**server.client_kwargs()) as client:
            response = await ask(client, verb, HELLO)
    assert (response.message, response.metadata["reasoning_content"]) == ("42", "6 × 7")


@EVERY_VERB
async def test_usage_that_no_one_told_is_said_to_be_unknown(verb: str) -> None:
    quirks = Quirks(usage=False, usage_in_streams=False)
    prices = {"llama-3.1-8b": ModelPrice(1, 1)}
    with CompatibleEmulator(quirks=quirks) as server:
        async with OpenAICompatibleClient(**server.client_kwargs(), prices=prices) as client:
            response = await ask(client, verb, HELLO)
    assert response.metadata["usage_reported"] is False
    assert (response.tokens_used, response.cost_usd) == (TokenUsage(), None)


def test_a_price_is_the_one_that_was_given_and_there_is_no_other() -> None:
    engine = ScriptedProvider([reply("Hi", tokens=TokenUsage(1_000_000, 0))] * 2)
    with CompatibleEmulator(engine, models=["gpt-4o"]) as server:
        with OpenAICompatibleClient(**server.client_kwargs()) as client:
            assert client.chat(HELLO).cost_usd is None  # what a server calls gpt-4o may be anything
        with OpenAICompatibleClient(**server.client_kwargs(), prices={"gpt-4o": ModelPrice(3, 4)}) as client:
            assert client.chat(HELLO).cost_usd == Decimal(3)


def test_nothing_is_sent_that_nobody_asked_for() -> None:
    with CompatibleEmulator() as server, OpenAICompatibleClient(**server.client_kwargs()) as client:
        client.chat(HELLO)
        assert set(server.requests[-1].body) == {"model", "messages"}
        client.chat(HELLO, options=ChatOptions(max_tokens=9, temperature=0.0, reasoning_effort="low"))
        body = server.requests[-1].body
    assert (body["max_tokens"], body["temperature"], body["reasoning_effort"]) == (9, 0.0, "low")
    assert "max_completion_tokens" not in body


def test_images_are_sent_to_models_of_which_nothing_is_known_and_not_where_it_is_known_better() -> None:
    picture = [Message.user([ImagePart(url="https://example.com/a.png")])]
    with CompatibleEmulator(ScriptedProvider(["A cat."])) as server:
        with OpenAICompatibleClient(**server.client_kwargs()) as client:
            assert client.chat(picture).message == "A cat."
        with (
            OpenAICompatibleClient(**server.client_kwargs(), profile=ModelProfile(max_output=100)) as client,
            pytest.raises(ConfigError, match="does not read images"),
        ):
            client.chat(picture)
        assert client.output_limit() == 100


# ── keys ─────────────────────────────────────────────────────────────────────────────────


@EVERY_VERB
async def test_no_key_of_the_environment_goes_to_a_foreign_server(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-of-openai")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-openai")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: of-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://nowhere.invalid/v1")
    with CompatibleEmulator() as server:
        async with OpenAICompatibleClient(base_url=server.base_url, model="llama-3.1-8b") as client:
            await ask(client, verb, HELLO)
        headers = server.requests[-1].headers
    assert not {"authorization", "openai-organization", "openai-project", "x-secret"} & set(headers)


@EVERY_VERB
async def test_a_key_that_is_given_is_a_bearer_key_and_a_function_is_asked_each_time(verb: str) -> None:
    with CompatibleEmulator(api_keys=["k-1234567"]) as server:
        where: dict[str, Any] = {"base_url": server.base_url, "model": "llama-3.1-8b"}
        for key in ("k-1234567", lambda: "k-1234567"):
            async with OpenAICompatibleClient(**where, api_key=key) as client:
                assert (await ask(client, verb, HELLO)).message == "Hello"
        async with OpenAICompatibleClient(**where) as client:
            with pytest.raises(LoomError, match="API key") as caught:
                await ask(client, verb, HELLO)
    assert "api_key=" in (caught.value.hint or "")


def test_a_key_over_plain_http_is_warned_of_unless_it_stays_on_this_machine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="loom_py"):
        for base_url, key in (
            ("http://localhost:1/v1", "k-1234567"),
            ("http://10.1.2.3:8000/v1", None),
            ("https://llm.example/v1", "k-1234567"),
        ):
            OpenAICompatibleClient(base_url=base_url, model="m", api_key=key)
        assert caplog.text == ""
        OpenAICompatibleClient(base_url="http://10.1.2.3:8000/v1", model="m", api_key="k-1234567")
    assert "key_over_plain_http" in caplog.text
    assert "k-1234567" not in caplog.text


@EVERY_VERB
@pytest.mark.parametrize("status", [302, 307])
async def test_a_key_does_not_follow_a_redirect_to_another_server(verb: str, status: int) -> None:
    with CompatibleEmulator() as other, CompatibleEmulator(api_keys=["k-1234567"]) as server:
        server.answer_next(status, headers={"location": f"{other.base_url}/chat/completions"})
        async with OpenAICompatibleClient(**server.client_kwargs()) as client:
            with contextlib.suppress(LoomError):  # a 302 makes a GET of it, which is refused
                await ask(client, verb, HELLO)
        (seen,) = other.requests
    assert "authorization" not in seen.headers


# ── settings ─────────────────────────────────────────────────────────────────────────────


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(BuilderError) as caught:
        OpenAICompatibleClient(max_tokens=0)
    assert [problem.field for problem in caught.value.problems] == ["base_url", "model", "max_tokens"]
    with pytest.raises(InvalidEndpointError, match="such as http://localhost:8000/v1"):
        OpenAICompatibleClient(base_url="localhost:8000", model="m")
    with pytest.raises(ConfigError, match="looks like an API key") as swapped:
        OpenAICompatibleClient(base_url="http://localhost:8000", model="sk-0123456789")
    assert "sk-0123456789" not in str(swapped.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://gpu-box:8000", "http://gpu-box:8000/v1"),
        ("http://gpu-box:8000/v1/", "http://gpu-box:8000/v1"),
        ("http://gpu-box:8000/v1/chat/completions", "http://gpu-box:8000/v1"),
        ("http://gpu-box:8000/api/openai", "http://gpu-box:8000/api/openai"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
    ],
)
def test_v1_is_added_to_a_bare_address_and_to_no_other(given: str, meant: str) -> None:
    assert OpenAICompatibleClient(base_url=given, model="m").endpoint == meant


def test_settings_come_from_variables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", "http://box/v1")
    monkeypatch.setenv("OPENAI_COMPATIBLE_MODEL", "m-1")
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "k-env-12345")
    config = OpenAICompatibleConfig.resolve({})
    assert (config.base_url, config.model) == ("http://box/v1", "m-1")
    assert config.sources["api_key"] == "environment (OPENAI_COMPATIBLE_API_KEY)"
    assert "k-env-12345" not in repr(config)


def test_the_one_model_of_a_server_need_not_be_named() -> None:
    with CompatibleEmulator(models=["qwen3-8b"], api_keys=["k-1234567"]) as server:
        with OpenAICompatibleClient(base_url=server.base_url, api_key="k-1234567") as client:
            assert client.model == "qwen3-8b"
            assert client.describe().to_dict()["model"] == {"value": "qwen3-8b", "source": "the server"}
            assert client.chat(HELLO).message == "Hello"
        with pytest.raises(ConfigError, match="it answered 401"):
            OpenAICompatibleClient(base_url=server.base_url)
    with (
        CompatibleEmulator(models=["a", "b"]) as server,
        pytest.raises(ConfigError, match="has 2 models: a, b") as caught,
    ):
        OpenAICompatibleClient(base_url=server.base_url)
    assert caught.value.field == "model"
    with pytest.raises(ConfigError, match="does not tell"):
        OpenAICompatibleClient(base_url="http://127.0.0.1:9")  # nobody is there


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data": [{"name": "x"}]}', b'{"data": 3}'])
def test_an_answer_that_is_no_list_of_models_is_told(body: bytes) -> None:
    http = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=body)))
    with pytest.raises(ConfigError, match="no list of models"):
        OpenAICompatibleClient(base_url="http://box", http_client=http)


def test_the_builder_and_the_registry_find_it() -> None:
    with CompatibleEmulator() as server:
        agent = AgentBuilder().with_openai_compatible_llm(server.base_url, "llama-3.1-8b").build()
        with agent:
            assert agent.chat("Hello").message == "Hello"
        client = create_provider("openai-compatible:llama-3.1-8b", base_url=server.base_url)
        assert repr(client) == f"OpenAICompatibleClient(base_url={server.base_url!r}, model='llama-3.1-8b')"


def test_a_server_that_keeps_to_openais_wire_is_as_good() -> None:
    with OpenAIEmulator(models=["gpt-4o"]) as openai:
        with OpenAICompatibleClient(**openai.client_kwargs()) as client:
            assert client.chat(HELLO).message == "Hello"
        with OpenAICompatibleClient(**openai.client_kwargs(), surface="responses") as client:
            assert client.chat(HELLO).metadata["surface"] == "responses"


# ── streams ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def slow() -> Iterator[CompatibleEmulator]:
    engine = ScriptedProvider(["one two three four five six"] * 4)
    with CompatibleEmulator(engine, quirks=Quirks(done_mark=False)) as server:
        yield server


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("verb", ["stream_chat", "astream_chat"])
async def test_a_stream_without_a_finish_reason_is_cut_off_whatever_else_is_forgiven(
    slow: CompatibleEmulator, verb: str, clean: bool
) -> None:
    slow.cut_next_stream(4, clean=clean)
    async with OpenAICompatibleClient(**slow.client_kwargs()) as client:
        with pytest.raises(StreamInterruptedError) as caught:
            await ask(client, verb, HELLO)
    assert caught.value.partial_text.startswith("one ")


def test_stream_options_are_left_out_where_they_are_not_wanted(slow: CompatibleEmulator) -> None:
    with OpenAICompatibleClient(**slow.client_kwargs(), usage_in_streams=False) as client:
        list(client.stream_chat(HELLO))
    assert "stream_options" not in slow.requests[-1].body


def test_a_history_never_has_a_message_without_content() -> None:
    engine = ScriptedProvider([call("now"), "Done."])
    with CompatibleEmulator(engine) as server, OpenAICompatibleClient(**server.client_kwargs()) as client:
        response = client.chat(HELLO, TOOLS)
        result = Message.tool("12:00", response.tool_calls[0].id, name="now")
        client.chat([*HELLO, response.to_message(), result], TOOLS)
        said = server.requests[-1].body["messages"]
    assert [message["content"] for message in said] == ["Hello", "", "12:00"]
    assert json.loads(said[1]["tool_calls"][0]["function"]["arguments"]) == {}
