"""What goes over Ollama's wire, and what comes back, by each of the four verbs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from loom_ollama import OllamaEmulator, OllamaProvider
from loom_py.conformance import run
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContextLengthError,
    IncompleteResponseError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
    UnsupportedParameterError,
)
from loom_py.llm.prices import ModelPrice
from loom_py.llm.scripted import ScriptedProvider, call, reply
from loom_py.messages import ImagePart, Message, Response, TextPart, TokenUsage, ToolSpec
from loom_py.options import ChatOptions

WEATHER = ToolSpec(
    "get weather",
    "The weather.",
    {
        "type": "object",
        "properties": {"at": {"type": "object", "properties": {"city": {"anyOf": [{"type": "string"}]}}}},
        "required": ["at"],
        "additionalProperties": False,
    },
)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def server() -> Iterator[OllamaEmulator]:
    engine = ScriptedProvider(lambda _: reply("It rains.", tokens=TokenUsage(12, 3)))
    with OllamaEmulator(engine, models=["llama3.2", "gpt-oss:120b-cloud"]) as server:
        yield server


@pytest.fixture
def provider(server: OllamaEmulator) -> Iterator[OllamaProvider]:
    with OllamaProvider("llama3.2", host=server.host) as provider:
        yield provider


def _chat(provider: OllamaProvider, *said: Any, **settings: Any) -> Response:
    return provider.chat(*_asked(said), **settings)


def _achat(provider: OllamaProvider, *said: Any, **settings: Any) -> Response:
    async def run() -> Response:
        async with provider:
            return await provider.achat(*_asked(said), **settings)

    return asyncio.run(run())


def _stream(provider: OllamaProvider, *said: Any, **settings: Any) -> Response:
    *_, last = provider.stream_chat(*_asked(said), **settings)
    assert last.response is not None
    return last.response


def _astream(provider: OllamaProvider, *said: Any, **settings: Any) -> Response:
    async def run() -> Response:
        async with provider:
            events = [event async for event in provider.astream_chat(*_asked(said), **settings)]
        response = events[-1].response
        assert response is not None
        return response

    return asyncio.run(run())


def _asked(said: tuple[Any, ...]) -> tuple[Any, ...]:
    return said or ([Message.user("Weather?")],)


Verb = Callable[..., Response]
verbs = pytest.mark.parametrize("verb", [_chat, _achat, _stream, _astream])


def test_every_conformance_scenario_that_applies_passes() -> None:
    scorecard = run("loom_ollama.conformance:OllamaAdapter", jobs=4)
    assert scorecard.failed == ()
    assert len(scorecard.passed) >= 95


@verbs
def test_an_answer_has_its_text_tokens_and_cost(verb: Verb, provider: OllamaProvider) -> None:
    response = verb(provider)
    assert (response.message, response.tokens_used, response.finish_reason) == (
        "It rains.",
        TokenUsage(12, 3),
        "stop",
    )
    assert response.cost_usd == 0
    assert response.metadata["cost"]["source"].startswith("a server of your own")
    assert response.metadata["generation_seconds"] == 0.003


def test_a_cloud_model_has_no_price_unless_one_is_given(server: OllamaEmulator) -> None:
    model = "gpt-oss:120b-cloud"
    with OllamaProvider(model, host=server.host) as plain:
        assert _chat(plain).cost_usd is None
    with OllamaProvider(model, host=server.host, prices={model: ModelPrice(1, 2)}) as priced:
        assert _chat(priced).cost_usd == Decimal("0.000018")


def test_the_request_says_all_that_was_asked(server: OllamaEmulator) -> None:
    provider = OllamaProvider(
        "llama3.2",
        host=server.host,
        temperature=0.5,
        context_window=8192,
        keep_alive="10m",
        think="low",
        model_options={"top_k": 7},
    )
    options = ChatOptions(
        max_tokens=9, seed=3, stop="END", extra_body={"options": {"mirostat": 1}, "truncate": False}
    )
    provider.chat([Message.system("Be brief."), Message.user("Hi")], (WEATHER,), options=options)
    body = server.requests[-1].body
    assert body["options"] == {
        "top_k": 7,
        "temperature": 0.5,
        "num_predict": 9,
        "seed": 3,
        "stop": ["END"],
        "num_ctx": 8192,
        "mirostat": 1,
    }
    assert (body["keep_alive"], body["think"], body["truncate"]) == ("10m", "low", False)
    assert body["tools"][0]["function"] == {
        "name": "get weather",
        "description": "The weather.",
        "parameters": WEATHER.parameters,
    }
    provider.close()


def test_a_schema_becomes_the_format(provider: OllamaProvider, server: OllamaEmulator) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    _chat(provider, options=ChatOptions(response_format=form))
    assert server.requests[-1].body["format"] == schema
    _chat(provider, options=ChatOptions(response_format={"type": "json_object"}))
    assert server.requests[-1].body["format"] == "json"
    with pytest.raises(InvalidRequestError, match="response_format"):
        _chat(provider, options=ChatOptions(response_format={"type": "yaml"}))


def test_images_travel_as_data(provider: OllamaProvider, server: OllamaEmulator) -> None:
    _chat(provider, [Message.user([TextPart("What is it?"), ImagePart.from_bytes(PNG)])])
    assert server.requests[-1].body["messages"][0]["images"] == ["iVBORw0KGgoAAAAAAAAAAAAAAAAAAAAAAAAAAA=="]
    with pytest.raises(InvalidRequestError, match="not by address"):
        _chat(provider, [Message.user([ImagePart.from_url("https://example.com/a.png")])])


@verbs
def test_tool_calls_keep_their_ids_or_get_one(verb: Verb) -> None:
    for ids in (True, False):
        engine = ScriptedProvider([call("get weather", at={"city": "Oslo"})])
        with (
            OllamaEmulator(engine, ids=ids) as server,
            OllamaProvider("llama3.2", host=server.host) as provider,
        ):
            response = verb(provider, [Message.user("?")], (WEATHER,))
            (made,) = response.tool_calls
            assert (made.name, made.arguments, made.error) == ("get weather", {"at": {"city": "Oslo"}}, None)
            assert made.id
            assert response.finish_reason == "tool_calls"


def test_one_call_at_a_time_is_kept_where_parallel_calls_are_not_wanted() -> None:
    engine = ScriptedProvider([[call("a"), call("b")]])
    with OllamaEmulator(engine) as server, OllamaProvider("llama3.2", host=server.host) as provider:
        options = ChatOptions(parallel_tool_calls=False)
        tools = (ToolSpec("a"), ToolSpec("b"))
        assert [
            made.name for made in _stream(provider, [Message.user("?")], tools, options=options).tool_calls
        ] == ["a"]


def test_a_tool_choice_that_cannot_be_kept_is_an_error(
    provider: OllamaProvider, server: OllamaEmulator
) -> None:
    for choice in ("required", "get weather"):
        with pytest.raises(UnsupportedParameterError, match="tool_choice"):
            _chat(provider, [Message.user("?")], (WEATHER,), options=ChatOptions(tool_choice=choice))
    _chat(provider, [Message.user("?")], (WEATHER,), options=ChatOptions(tool_choice="none"))
    assert "tools" not in server.requests[-1].body


def test_thinking_is_kept_for_the_next_turn(provider: OllamaProvider, server: OllamaEmulator) -> None:
    message = {"role": "assistant", "content": "4", "thinking": "2 and 2"}
    server.answer_next(
        200, {"model": "llama3.2", "message": message, "done": True, "done_reason": "stop", "eval_count": 5}
    )
    response = _chat(provider)
    assert response.metadata["thinking"] == "2 and 2"
    assert response.metadata["usage_incomplete"] is True
    _chat(provider, [Message.user("2+2?"), response.to_message(), Message.user("sure?")])
    assert server.requests[-1].body["messages"][1]["thinking"] == "2 and 2"


# ── failures ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "said", "kind", "retryable"),
    [
        (404, "model 'x' not found", NotFoundError, False),
        (404, 'model "x" not found, try pulling it first', NotFoundError, False),
        (404, "404 page not found", NotFoundError, False),
        (400, "registry.ollama.ai/library/x does not support tools", UnsupportedParameterError, False),
        (400, '"x" does not support thinking', UnsupportedParameterError, False),
        (400, "the input length exceeds the context length", ContextLengthError, False),
        (400, "invalid options: num_gpu", InvalidRequestError, False),
        (401, "unauthorized", AuthenticationError, False),
        (429, "too many concurrent requests", RateLimitError, True),
        (
            503,
            "server busy, please try again.  maximum pending requests exceeded",
            ServiceUnavailableError,
            True,
        ),
        (
            500,
            "model requires more system memory (9.1 GiB) than is available (7.7 GiB)",
            ServiceUnavailableError,
            False,
        ),
        (500, "llama runner process has terminated: exit status 2", ServiceUnavailableError, True),
        (504, "upstream timed out", RequestTimeoutError, True),
        (418, "teapot", InvalidRequestError, False),
    ],
)
@verbs
def test_each_refusal_is_its_type(
    verb: Verb,
    status: int,
    said: str,
    kind: type[LoomError],
    retryable: bool,
    provider: OllamaProvider,
    server: OllamaEmulator,
) -> None:
    server.fail_next(status, said, headers={"Retry-After": "7"})
    with pytest.raises(kind) as caught:
        verb(provider)
    error = caught.value
    assert type(error) is kind
    assert (error.retryable, error.http_status, error.retry_after) == (retryable, status, 7.0)
    assert said[:12] in error.message
    assert len(server.requests) == 1


@verbs
def test_nobody_there_was_never_sent(verb: Verb) -> None:
    provider = OllamaProvider("llama3.2", host="http://127.0.0.1:9")
    with pytest.raises(ConnectionFailedError, match="cannot be reached") as caught:
        verb(provider)
    assert caught.value.sent is False
    assert "ollama serve" in str(caught.value)


@verbs
def test_a_slow_answer_ends_at_its_timeout(
    verb: Verb, provider: OllamaProvider, server: OllamaEmulator
) -> None:
    for options in (ChatOptions(timeout=0.2), ChatOptions(total_timeout=0.2)):
        server.delay_next(3)
        begun = time.monotonic()
        with pytest.raises(RequestTimeoutError):
            verb(provider, options=options)
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("verb", [_stream, _astream])
def test_a_cut_stream_is_an_error_with_what_was_said(
    verb: Verb, provider: OllamaProvider, server: OllamaEmulator
) -> None:
    server.cut_next_stream(1)
    with pytest.raises(StreamInterruptedError) as caught:
        verb(provider)
    assert caught.value.partial_text == "It "


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "[1]",
        "{}",
        "<html>",
        '{"done": true}',
        '{"message": 3, "done": true}',
        '{"message": {"content": 7}, "done": true}',
        '{"message": {"content": "", "tool_calls": 5}, "done": true}',
        '{"message": {"content": "", "tool_calls": [{}]}, "done": true}',
        "[" * 100_000,
        "\x00\udcff".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
@verbs
def test_what_is_no_answer_is_told_as_such(
    verb: Verb, body: str, provider: OllamaProvider, server: OllamaEmulator
) -> None:
    server.answer_next(200, body)
    with pytest.raises((MalformedResponseError, StreamInterruptedError)):
        verb(provider)


@verbs
def test_a_limit_that_left_no_text_says_what_it_took(
    verb: Verb, provider: OllamaProvider, server: OllamaEmulator
) -> None:
    message = {"role": "assistant", "content": ""}
    server.answer_next(
        200,
        {"message": message, "done": True, "done_reason": "length", "prompt_eval_count": 4, "eval_count": 8},
    )
    with pytest.raises(IncompleteResponseError) as caught:
        verb(provider)
    assert caught.value.tokens_used == TokenUsage(4, 8)


def test_lines_may_be_cut_anywhere_and_hold_line_separators(
    server: OllamaEmulator, provider: OllamaProvider
) -> None:
    text = "a\u2028b\u0085c é 🌧"
    server.engine = ScriptedProvider(lambda _: reply(text))
    assert _stream(provider).message == text
    assert _astream(provider).message == text


def test_many_at_once_do_not_mix(server: OllamaEmulator, provider: OllamaProvider) -> None:
    server.engine = ScriptedProvider(lambda request: reply(request.text))
    wrong: list[str] = []

    def ask(number: int) -> None:
        for _ in range(3):
            said = f"number {number}"
            if provider.chat([Message.user(said)]).message != said:
                wrong.append(said)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


async def test_a_cancelled_call_hangs_up(server: OllamaEmulator) -> None:
    async with OllamaProvider("llama3.2", host=server.host) as provider:
        server.delay_next(30)
        task = asyncio.create_task(provider.achat([Message.user("?")]))
        while not server.requests:  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        end = time.monotonic() + 5
        while server.connections and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert server.connections == 0
