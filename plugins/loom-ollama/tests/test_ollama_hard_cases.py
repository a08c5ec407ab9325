"""What a wire in JSON cannot hold, what a fork must not share, and what is never tried again."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from loom_ollama import OllamaEmulator, OllamaProvider
from loom_py import AgentBuilder
from loom_py.errors import (
    ConfigError,
    InvalidRequestError,
    LoomError,
    NotFoundError,
    ProviderError,
    RequestTimeoutError,
)
from loom_py.llm.prices import ModelPrice, PriceOverride
from loom_py.llm.scripted import ScriptedProvider, reply
from loom_py.messages import Message, Response, ToolCall, ToolSpec
from loom_py.options import ChatOptions


@pytest.fixture
def server() -> Iterator[OllamaEmulator]:
    with OllamaEmulator(ScriptedProvider(lambda asked: reply(asked.text))) as server:
        yield server


@pytest.fixture
def provider(server: OllamaEmulator) -> Iterator[OllamaProvider]:
    with OllamaProvider("llama3.2", host=server.host) as provider:
        yield provider


def _chat(provider: OllamaProvider, *said: Any, **settings: Any) -> Response:
    return provider.chat(*said, **settings)


def _stream(provider: OllamaProvider, *said: Any, **settings: Any) -> Response:
    *_, last = provider.stream_chat(*said, **settings)
    assert last.response is not None
    return last.response


def _achat(provider: OllamaProvider, *said: Any, **settings: Any) -> Response:
    async def whole() -> Response:
        async with provider:
            return await provider.achat(*said, **settings)

    return asyncio.run(whole())


def _astream(provider: OllamaProvider, *said: Any, **settings: Any) -> Response:
    async def last() -> Response:
        async with provider:
            events = [event async for event in provider.astream_chat(*said, **settings)]
        assert events[-1].response is not None
        return events[-1].response

    return asyncio.run(last())


verbs = pytest.mark.parametrize("verb", [_chat, _stream, _achat, _astream])
Verb = Callable[..., Response]
HELLO = [Message.user("Hello")]


# ── what goes over the wire ──────────────────────────────────────────────────────────────


@verbs
def test_half_a_surrogate_pair_becomes_a_question_mark(verb: Verb, provider: OllamaProvider) -> None:
    assert verb(provider, [Message.user("a\ud800b")]).message == "a?b"


@verbs
def test_what_json_cannot_hold_is_an_error_of_ours(verb: Verb, provider: OllamaProvider) -> None:
    for body in ({"keep": object()}, {"options": {"top_p": math.nan}}):
        with pytest.raises(InvalidRequestError, match="written as JSON") as caught:
            verb(provider, HELLO, options=ChatOptions(extra_body=body))
        assert caught.value.sent is False


def test_arguments_travel_as_an_object_that_json_knows(
    provider: OllamaProvider, server: OllamaEmulator
) -> None:
    calls = [
        ToolCall.parse("1", "f", '{"x": [NaN, 1.5, {"y": -Infinity}]}'),
        ToolCall.parse("2", "f", "{broken"),
    ]
    said = [Message.user("?"), Message.assistant("", calls), Message.tool("a", "1"), Message.tool("b", "2")]
    provider.chat(said, (ToolSpec("f"),))
    sent = server.requests[-1].body["messages"][1]["tool_calls"]
    assert [call["function"]["arguments"] for call in sent] == [
        {"x": [None, 1.5, {"y": None}]},
        {"INVALID_JSON": "{broken"},
    ]


@verbs
@pytest.mark.parametrize("value", ["two\nlines", "snow ☃"])
def test_a_header_that_cannot_be_sent_is_not_tried_again(
    verb: Verb, value: str, provider: OllamaProvider, server: OllamaEmulator
) -> None:
    with pytest.raises(InvalidRequestError, match="'x-note' cannot be sent") as caught:
        verb(provider, HELLO, options=ChatOptions(extra_headers={"x-note": value}))
    assert (caught.value.retryable, caught.value.sent) == (False, False)
    assert value not in str(caught.value)
    assert server.requests == []
    with pytest.raises(ConfigError, match="headers"):
        OllamaProvider("llama3.2", headers={"x-note": value})


def test_extra_headers_are_sent(provider: OllamaProvider, server: OllamaEmulator) -> None:
    provider.chat(HELLO, options=ChatOptions(extra_headers={"X-Note": "yes"}))
    assert server.requests[-1].headers["x-note"] == "yes"


# ── failures ─────────────────────────────────────────────────────────────────────────────


@verbs
def test_a_redirect_is_told_and_not_followed(
    verb: Verb, provider: OllamaProvider, server: OllamaEmulator
) -> None:
    server.fail_next(302, "moved", headers={"location": "http://127.0.0.1:9/"})
    with pytest.raises(ProviderError) as caught:
        verb(provider, HELLO)
    assert type(caught.value) is ProviderError
    assert not caught.value.retryable
    assert "host=" in str(caught.value)


@verbs
def test_a_timeout_says_how_long_was_waited(
    verb: Verb, provider: OllamaProvider, server: OllamaEmulator
) -> None:
    for options in (ChatOptions(timeout=0.15), ChatOptions(total_timeout=0.15)):
        server.delay_next(3)
        with pytest.raises(RequestTimeoutError, match=r"after 0\.15 s"):
            verb(provider, HELLO, options=options)


# ── money ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "price",
    [
        ModelPrice(1, 2),
        {"input": 1, "output": 2},
        PriceOverride(price=ModelPrice(2, 4), multiplier="0.5"),
    ],
)
def test_prices_are_given_in_every_form_that_other_providers_take(price: Any) -> None:
    provider = OllamaProvider("llama3.2:latest", prices={"LLaMA3.2": price})
    cost = provider.worst_cost(1_000_000, 1_000_000)
    assert (cost.usd, cost.model) == (Decimal(3), "llama3.2:latest")


def test_prices_of_other_models_leave_a_server_of_ones_own_free() -> None:
    provider = OllamaProvider("llama3.2", prices={"qwen3": ModelPrice(1, 2)})
    assert provider.worst_cost(10, 10).usd == 0


def test_the_answer_tells_how_long_it_took(provider: OllamaProvider) -> None:
    metadata = provider.chat(HELLO).metadata
    assert metadata["latency_ms"] > 0
    assert metadata["finish_reason"] == "stop"


# ── connections ──────────────────────────────────────────────────────────────────────────


def _in_child(work: Callable[[], bool]) -> int:
    """Forks; the child ends with 0 where ``work`` is true."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = 0 if work() else 2
    except LoomError:
        code = 3
    finally:
        os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_do_not_read_each_others_answers(
    provider: OllamaProvider,
) -> None:
    provider.chat(HELLO)  # a connection stands now

    def ask(child: int) -> bool:
        said = [f"{child}-{turn}" for turn in range(10)]
        return [provider.chat([Message.user(text)]).message for text in said] == said

    children = [_in_child(lambda child=child: ask(child)) for child in range(3)]  # type: ignore[misc]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert provider.chat(HELLO).message == "Hello"


def _wait_until(is_so: Callable[[], bool]) -> bool:
    end = time.monotonic() + 3
    while not is_so() and time.monotonic() < end:
        time.sleep(0.01)
    return is_so()


def test_a_stream_that_is_closed_early_hangs_up(provider: OllamaProvider, server: OllamaEmulator) -> None:
    server.engine = ScriptedProvider(lambda _: reply("word " * 2000))
    stream = provider.stream_chat(HELLO)
    next(stream)
    assert server.connections == 1
    stream.close()
    assert _wait_until(lambda: server.connections == 0)


async def test_an_async_stream_that_is_left_alone_hangs_up(
    provider: OllamaProvider, server: OllamaEmulator
) -> None:
    server.engine = ScriptedProvider(lambda _: reply("word " * 2000))

    async def look() -> None:
        async for _ in provider.astream_chat(HELLO):
            break

    await look()
    gc.collect()
    for _ in range(300):
        if server.connections == 0:
            break
        await asyncio.sleep(0.01)
    assert server.connections == 0
    await provider.aclose()


def test_each_event_loop_has_its_own_connections(provider: OllamaProvider) -> None:
    assert [_achat(provider, HELLO).message for _ in range(3)] == ["Hello"] * 3


def test_a_path_before_the_api_is_kept(server: OllamaEmulator) -> None:
    with (
        OllamaProvider("llama3.2", host=f"{server.host}/llm/") as provider,
        pytest.raises(LoomError, match="404"),
    ):
        provider.chat(HELLO)
    assert server.requests[-1].path == "/llm/api/chat"


def test_a_proxy_of_the_environment_is_used(server: OllamaEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", server.host)
    with OllamaProvider("llama3.2", host="http://gpu.invalid:1") as provider, pytest.raises(NotFoundError):
        provider.chat(HELLO)  # the emulator is no proxy, but it is the one that was asked
    assert server.requests[-1].headers["host"] == "gpu.invalid:1"


def test_an_agents_typed_answer_is_asked_for_by_schema(server: OllamaEmulator) -> None:
    server.engine = ScriptedProvider(lambda _: reply('{"city": "Oslo"}'))
    with (
        AgentBuilder()
        .with_ollama_llm("llama3.2", host=server.host)
        .with_output(dict[str, str])
        .build() as agent
    ):
        assert agent.chat("Where?").output == {"city": "Oslo"}
    assert server.requests[-1].body["format"]["type"] == "object"
