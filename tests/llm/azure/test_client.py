"""The client over real transports: what it sends, what it makes of answers, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any, Self

import httpx2
import pytest

from loom_py import AzureOpenAIClient, Message, ModelPrice, Response, ToolSpec
from loom_py.emulator import AzureEmulator
from loom_py.errors import (
    ConfigError,
    ConnectionFailedError,
    ContentFilterError,
    DeploymentNotFoundError,
    LoomError,
    MalformedResponseError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
    UnsupportedParameterError,
)
from loom_py.options import ChatOptions

HELLO = [Message.user("Hello there")]
KEY = "test-api-key"
VERBS = ("chat", "achat", "stream_chat", "astream_chat")
USAGE = {"prompt_tokens": 1245, "completion_tokens": 387, "total_tokens": 1632}


def answer(content: str = "Hi", model: str = "gpt-4o-2024-11-20", **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"content": content}, "finish_reason": "stop"}
    return {"model": model, "choices": [choice], "usage": USAGE, **changes}


Handler = Callable[[httpx2.Request], httpx2.Response]


def client_of(handler: Handler, **settings: Any) -> AzureOpenAIClient:
    transport = httpx2.MockTransport(handler)
    defaults: dict[str, Any] = {
        "endpoint": "https://contoso.openai.azure.com",
        "deployment_id": "gpt-4o-deployment",
        "api_key": KEY,
        "http_client": httpx2.Client(transport=transport),
        "async_http_client": httpx2.AsyncClient(transport=transport),
    }
    return AzureOpenAIClient(**{**defaults, **settings})


def fixed(body: Any, status: int = 200, **headers: str) -> Handler:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx2.Response(status, content=content, headers=named)


class Recorder:
    """A handler that keeps the requests."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.requests: list[httpx2.Request] = []
        self._handler = handler or fixed(answer())

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self._handler(request)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.requests[-1].content)
        return body


async def ask(client: AzureOpenAIClient, verb: str, *args: Any, **settings: Any) -> Response:
    """One call with any of the four verbs."""
    call = getattr(client, verb)
    if verb == "achat":
        response = await call(*args, **settings)
    elif verb == "astream_chat":
        response = [event async for event in call(*args, **settings)][-1].response
    elif verb == "stream_chat":
        response = (await asyncio.to_thread(lambda: list(call(*args, **settings))))[-1].response
    else:
        response = await asyncio.to_thread(call, *args, **settings)
    assert isinstance(response, Response)
    return response


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    with AzureEmulator(deployments={"gpt-4o-deployment": "gpt-4o-2024-11-20", "prod": "x-large"}) as emulator:
        yield emulator


def emulated(azure: AzureEmulator, **settings: Any) -> AzureOpenAIClient:
    kwargs: dict[str, Any] = {**azure.client_kwargs(), **settings}
    return AzureOpenAIClient(**kwargs)


every_verb = pytest.mark.parametrize("verb", VERBS)


# ── what is sent ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("deployment", "path"),
    [
        ("my-gpt4-deployment", "my-gpt4-deployment"),
        ("two words", "two%20words"),
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("100%", "100%25"),
    ],
)
def test_the_deployment_is_one_step_of_the_path(deployment: str, path: str) -> None:
    seen = Recorder()
    client_of(seen, deployment_id=deployment).chat(HELLO)
    url = seen.requests[0].url
    assert url.raw_path.decode() == f"/openai/deployments/{path}/chat/completions?api-version=2024-10-21"
    assert seen.body["model"] == deployment


def test_a_gateway_s_own_path_is_kept() -> None:
    seen = Recorder()
    client_of(seen, endpoint="https://gw.example/team/openai/", api_version="2025-03-01-preview").chat(HELLO)
    assert str(seen.requests[0].url) == (
        "https://gw.example/team/openai/deployments/gpt-4o-deployment/chat/completions"
        "?api-version=2025-03-01-preview"
    )


@every_verb
async def test_settings_travel_on_every_verb(verb: str) -> None:
    seen = Recorder()
    client = client_of(seen, temperature=0.0, max_tokens=7)
    options = ChatOptions(seed=3, extra_headers={"x-own": "1"}, extra_body={"own": True})
    await ask(client, verb, HELLO, options=options)
    assert (seen.body["temperature"], seen.body["max_completion_tokens"], seen.body["seed"]) == (0.0, 7, 3)
    assert seen.body["own"] is True
    assert seen.requests[0].headers["x-own"] == "1"
    assert seen.requests[0].headers["content-type"] == "application/json"
    assert seen.body.get("stream", False) is ("stream" in verb)


@pytest.mark.parametrize(
    ("deployment", "settings", "temperature"),
    [
        ("gpt-4o-prod", {}, 1.0),
        ("custom-name", {}, None),
        ("custom-name", {"temperature": 0.0}, 0.0),
        ("custom-name", {"model_name": "gpt-5", "temperature": 0.2}, None),
        ("o3-prod", {"temperature": 0.2}, None),
        ("gpt-7-prod", {"temperature": 0.2}, None),
    ],
)
def test_a_temperature_is_sent_where_the_model_takes_one(
    deployment: str, settings: dict[str, Any], temperature: float | None
) -> None:
    seen = Recorder()
    client_of(seen, deployment_id=deployment, **settings).chat(HELLO)
    assert seen.body.get("temperature") == temperature


def test_a_call_s_own_settings_come_before_the_client_s() -> None:
    seen = Recorder()
    client_of(seen, temperature=0.7, max_tokens=7).chat(
        HELLO, options=ChatOptions(temperature=0.0, max_tokens=9)
    )
    assert (seen.body["temperature"], seen.body["max_completion_tokens"]) == (0.0, 9)


@every_verb
async def test_a_request_that_is_no_json_is_a_config_error(verb: str) -> None:
    options = ChatOptions(extra_body={"bad": object()})
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        await ask(client_of(Recorder()), verb, HELLO, options=options)


@every_verb
@pytest.mark.parametrize(
    ("client_s", "call_s", "read", "connect"),
    [(60.0, None, 60.0, 5.0), (2.0, None, 2.0, 2.0), (60.0, 0.5, 0.5, 0.5), (2.0, 300.0, 300.0, 5.0)],
)
async def test_a_wait_for_a_connection_is_short_and_for_an_answer_as_set(
    verb: str, client_s: float, call_s: float | None, read: float, connect: float
) -> None:
    seen = Recorder()
    await ask(client_of(seen, timeout=client_s), verb, HELLO, options=ChatOptions(timeout=call_s))
    timeout = seen.requests[0].extensions["timeout"]
    assert (timeout["read"], timeout["connect"]) == (read, connect)


# ── answers that are none ────────────────────────────────────────────────────────────────

NOT_FOUND = {"error": {"message": "Invalid deployment", "code": "DeploymentNotFound"}}
FILTERED = answer(choices=[{"finish_reason": "content_filter", "message": {"role": "assistant"}}])
BROKEN = b'data: {"error": {"message": "went wrong", "code": "500"}}\n\n'
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "half"}}]}\n\n'


@pytest.mark.parametrize(
    ("body", "verbs", "kind", "message"),
    [
        (NOT_FOUND, VERBS, DeploymentNotFoundError, "Invalid"),
        ({"id": "x", "choices": None}, VERBS, MalformedResponseError, "no choices"),
        (b"<html><body>Sign in</body></html>", VERBS, MalformedResponseError, "HTML page"),
        (b"", VERBS[:2], MalformedResponseError, "empty body"),
        (b"", VERBS[2:], StreamInterruptedError, "without any output"),
        (CHUNK, VERBS[2:], StreamInterruptedError, "without a finish reason"),
        (CHUNK + b"data: [DONE]\n\n", VERBS[2:], StreamInterruptedError, "without a finish reason"),
        (CHUNK + b'data: {"choices": [{"delta": nul', VERBS[2:], StreamInterruptedError, "finish reason"),
        (CHUNK + BROKEN, VERBS[2:], StreamInterruptedError, "went wrong"),
        (FILTERED, VERBS, ContentFilterError, "stopped"),
    ],
    ids=["error", "no-choices", "html", "empty", "no-chunks", "no-reason", "done", "broken", "mid", "filter"],
)  # fmt: skip
async def test_what_the_sdk_passes_in_silence_is_an_error(
    body: Any, verbs: tuple[str, ...], kind: type[LoomError], message: str
) -> None:
    for verb in verbs:
        client = client_of(fixed(body, apim_request_id="id-1"))
        with pytest.raises(kind, match=message) as caught:
            await ask(client, verb, HELLO)
        assert type(caught.value) is kind
        assert (caught.value.deployment, caught.value.request_id) == ("gpt-4o-deployment", "id-1")
        assert caught.value.__context__ is None


async def test_a_stream_without_a_delta_goes_on() -> None:
    odd = b'data: {"choices": [{"index": 0, "delta": null, "content_filter_offsets": {}}]}\n\n'
    stop = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    client = client_of(fixed(odd + CHUNK + odd + stop))
    assert [(await ask(client, verb, HELLO)).message for verb in VERBS[2:]] == ["half"] * 2


@every_verb
async def test_a_broken_content_encoding_is_a_malformed_answer(verb: str) -> None:
    class Garbage(httpx2.SyncByteStream, httpx2.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"this is no gzip"

        async def __aiter__(self) -> Any:
            yield b"this is no gzip"

    client = client_of(lambda _: httpx2.Response(200, headers={"content-encoding": "gzip"}, stream=Garbage()))
    with pytest.raises(ProviderError, match="encoding is broken") as caught:
        await ask(client, verb, HELLO)
    assert type(caught.value) is MalformedResponseError


@every_verb
async def test_a_redirect_that_is_not_followed_says_where_to_look(verb: str) -> None:
    client = client_of(fixed(b"", 307, location="https://elsewhere.example/"))
    with pytest.raises(ProviderError, match="HTTP 307") as caught:
        await ask(client, verb, HELLO)
    assert "endpoint" in (caught.value.hint or "")
    assert not caught.value.retryable


# ── the network ──────────────────────────────────────────────────────────────────────────


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A loopback server that hands each connection, its request read, to ``serve``."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                serve(connection)
            except OSError:
                pass

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def at(endpoint: str, **settings: Any) -> AzureOpenAIClient:
    return AzureOpenAIClient(endpoint=endpoint, deployment_id="gpt-4o-deployment", api_key=KEY, **settings)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@every_verb
async def test_a_refused_connection_names_the_endpoint(verb: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    async with at(endpoint) as client:
        with pytest.raises(ConnectionFailedError, match=endpoint) as caught:
            await ask(client, verb, HELLO)
    assert caught.value.retryable
    assert caught.value.http_status is None
    assert caught.value.__context__ is None


async def test_a_name_that_does_not_exist_is_a_failed_connection() -> None:
    async with at("https://no-such-resource.invalid") as client:
        with pytest.raises(ConnectionFailedError, match=r"no-such-resource\.invalid"):
            await client.achat(HELLO)


@every_verb
async def test_a_server_that_hangs_up_without_an_answer_is_a_failed_connection(verb: str) -> None:
    with server(lambda connection: None) as endpoint:
        async with at(endpoint) as client:
            with pytest.raises(ConnectionFailedError):
                await ask(client, verb, HELLO)


@every_verb
async def test_a_call_s_own_timeout_counts_and_is_named(verb: str, azure: AzureEmulator) -> None:
    azure.delay_next(2.0)
    async with at(azure.endpoint) as client:
        started = time.perf_counter()
        with pytest.raises(RequestTimeoutError, match=r"after 0\.15 s") as caught:
            await ask(client, verb, HELLO, options=ChatOptions(timeout=0.15))
        assert time.perf_counter() - started < 1.5
    assert (caught.value.retryable, caught.value.grpc_code) == (True, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("verb", VERBS[2:])
async def test_a_connection_cut_in_the_middle_keeps_what_had_come(verb: str) -> None:
    with server(lambda connection: connection.sendall(HEAD + chunked(CHUNK))) as endpoint:
        async with at(endpoint) as client:
            with pytest.raises(StreamInterruptedError, match="broke off") as caught:
                await ask(client, verb, HELLO)
    assert caught.value.partial_text == "half"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("verb", VERBS[2:])
async def test_a_stream_that_falls_silent_times_out(verb: str) -> None:
    done = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunked(CHUNK))
        done.wait(5)

    with server(stall) as endpoint:
        async with at(endpoint) as client:
            with pytest.raises(StreamInterruptedError, match="timed out") as caught:
                await ask(client, verb, HELLO, options=ChatOptions(timeout=0.2))
        done.set()
    assert caught.value.partial_text == "half"


@pytest.mark.parametrize("verb", VERBS[2:])
async def test_leaving_a_stream_early_hangs_up(verb: str) -> None:
    hung_up = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        connection.settimeout(0.02)
        for _ in range(250):
            try:
                connection.sendall(chunked(CHUNK))
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:  # reset, with bytes of ours unread
                break
        hung_up.set()

    with server(talk) as endpoint:
        async with at(endpoint) as client:
            if verb == "astream_chat":
                stream = client.astream_chat(HELLO)
                assert (await anext(aiter(stream))).delta == "half"
                await stream.aclose()  # type: ignore[attr-defined]
            else:
                events = client.stream_chat(HELLO)
                assert next(iter(events)).delta == "half"
                events.close()  # type: ignore[attr-defined]
            assert await asyncio.to_thread(hung_up.wait, 2)


# ── with the emulator ────────────────────────────────────────────────────────────────────


@every_verb
async def test_an_answer_comes_with_its_facts(verb: str, azure: AzureEmulator) -> None:
    async with emulated(azure) as client:
        response = await ask(client, verb, HELLO)
    assert response.message
    assert response.model == "gpt-4o-2024-11-20"
    assert response.cost_usd is not None
    assert response.cost_usd > 0
    assert response.metadata["deployment"] == "gpt-4o-deployment"
    assert response.metadata["request_id"]
    assert response.metadata["latency_ms"] > 0
    json.dumps(response.to_dict())


@every_verb
async def test_an_error_is_the_same_on_every_verb(verb: str, azure: AzureEmulator) -> None:
    azure.fail_next(429, headers={"retry-after": "7"})
    async with emulated(azure) as client:
        with pytest.raises(RateLimitError) as caught:
            await ask(client, verb, HELLO)
    assert caught.value.retry_after == 7.0
    assert caught.value.request_id
    assert len(azure.requests) == 1, "nothing is retried here"


def _specs(number: int) -> tuple[ToolSpec, ...]:
    """Two tools whose names collide on the wire, in an order that depends on ``number``."""
    names = [f"t{number % 7}:x", f"t{number % 7}.x"]
    return tuple(ToolSpec(name) for name in (names if number % 2 else names[::-1]))


def _call_first_tool(request: httpx2.Request) -> httpx2.Response:
    body = json.loads(request.content)
    said = body["messages"][-1]["content"]
    call = {
        "id": said,
        "type": "function",
        "function": {"name": body["tools"][0]["function"]["name"], "arguments": json.dumps({"said": said})},
    }
    choice = {"message": {"content": said, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    return httpx2.Response(200, json=answer(choices=[choice], usage={"prompt_tokens": int(said)}))


def _check(number: int, response: Response) -> None:
    (call,) = response.tool_calls
    assert call.name == _specs(number)[0].name
    assert (response.message, call.id, call.arguments) == (str(number), str(number), {"said": str(number)})
    assert response.tokens_used.input == number


async def test_200_calls_at_once_mix_nothing() -> None:
    client = client_of(_call_first_tool)
    calls = (client.achat([Message.user(str(number))], _specs(number)) for number in range(200))
    for number, response in enumerate(await asyncio.gather(*calls)):
        _check(number, response)


async def test_200_calls_in_threads_mix_nothing() -> None:
    client = client_of(_call_first_tool)
    calls = (
        asyncio.to_thread(client.chat, [Message.user(str(number))], _specs(number)) for number in range(200)
    )
    for number, response in enumerate(await asyncio.gather(*calls)):
        _check(number, response)


async def test_200_calls_at_once_over_real_sockets(azure: AzureEmulator) -> None:
    async with emulated(azure) as client:
        responses = await asyncio.gather(*(client.achat([Message.user(f"n{i}")]) for i in range(200)))
    assert all(f"n{i}" in response.message for i, response in enumerate(responses))


# ── lives and ends ───────────────────────────────────────────────────────────────────────


def test_one_client_serves_several_event_loops(azure: AzureEmulator) -> None:
    client = emulated(azure)

    async def once() -> str:
        async with client:
            return (await client.achat(HELLO)).message

    assert len({asyncio.run(once()) for _ in range(3)}) == 1
    client.close()


def test_connections_of_a_closed_loop_are_let_go(azure: AzureEmulator) -> None:
    client = emulated(azure)
    for _ in range(4):
        assert asyncio.run(client.achat(HELLO)).message
    assert len(client._connections._async_pools) == 1
    client.close()
    assert not client._connections._async_pools
    gc.collect()


async def test_a_closed_client_opens_again(azure: AzureEmulator) -> None:
    client = emulated(azure)
    for _ in range(2):
        for verb in VERBS:
            assert (await ask(client, verb, HELLO)).message
        await client.aclose()
        await client.aclose()
        client.close()


async def test_clients_that_were_given_are_not_closed() -> None:
    transport = httpx2.MockTransport(fixed(answer()))
    http, ahttp = httpx2.Client(transport=transport), httpx2.AsyncClient(transport=transport)
    async with client_of(fixed(answer()), http_client=http, async_http_client=ahttp) as client:
        for verb in VERBS:
            await ask(client, verb, HELLO)
    with client:
        await asyncio.to_thread(client.chat, HELLO)
    assert not http.is_closed
    assert not ahttp.is_closed
    assert (await client.achat(HELLO)).message == "Hi"
    http.close()
    await ahttp.aclose()


# ── what travelled, printed ──────────────────────────────────────────────────────────────


@every_verb
async def test_wire_debug_shows_both_directions_and_no_credential(verb: str, azure: AzureEmulator) -> None:
    seen: list[str] = []
    async with emulated(azure, wire_debug=seen.append) as client:
        await ask(client, verb, [Message.user(f"my key is {azure.api_key}")])
        await client.aclose()
        await ask(client, verb, HELLO)
    text = "\n".join(seen)
    assert azure.api_key not in text
    assert "api-key: ***" in text
    assert text.count("→ POST http://127.0.0.1") == 2
    assert text.count("← 200") == 2
    assert "my key is ***" in text
    assert '"finish_reason":"stop"' in text.replace(" ", "")


def test_wire_debug_shows_errors_and_tokens_masked() -> None:
    seen: list[str] = []
    client = client_of(
        fixed({"error": {"message": "bad", "code": "401"}}, 401),
        api_key=None,
        entra_token="a-secret-token",
        wire_debug=seen.append,
    )
    with pytest.raises(LoomError):
        client.chat(HELLO)
    text = "\n".join(seen)
    assert "← 401" in text
    assert '"bad"' in text
    assert "authorization: ***" in text
    assert "a-secret-token" not in text


async def test_wire_debug_leaves_a_given_client_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    http = httpx2.Client(transport=httpx2.MockTransport(fixed(answer())))
    client = client_of(fixed(answer()), http_client=http, wire_debug=True)
    for _ in range(2):
        client.chat(HELLO)
        client.close()
    assert capsys.readouterr().err.count("→ POST") == 2
    http.post("https://contoso.openai.azure.com/")
    assert "→" not in capsys.readouterr().err
    http.close()


def test_a_key_that_the_server_echoes_is_masked_and_a_short_one_hides_no_words() -> None:
    echo = fixed({"error": {"message": f"the key {KEY} is wrong", "code": "401"}}, 401)
    with pytest.raises(LoomError) as caught:
        client_of(echo).chat(HELLO)
    assert KEY not in f"{caught.value}{caught.value!r}{caught.value.to_dict()}{caught.value.args}"
    with pytest.raises(LoomError, match="the key"):
        client_of(echo, api_key="key").chat(HELLO)


# ── money ────────────────────────────────────────────────────────────────────────────────


def cost(deployment: str = "prod", model: str = "", headers: Any = None, **settings: Any) -> Any:
    body = answer(model=model, **({"usage": settings.pop("usage")} if "usage" in settings else {}))
    handler = fixed(body, **(headers or {}))
    return client_of(handler, deployment_id=deployment, **settings).chat(HELLO).cost_usd


def test_gpt_4o_costs_what_the_reference_says() -> None:
    assert cost("gpt-4o") == Decimal("0.0069825")
    assert cost("gpt-4o", usage={"prompt_tokens": 1000, "completion_tokens": 500}) == Decimal("0.0075")
    assert cost("gpt-4o-mini", usage={"prompt_tokens": 1000, "completion_tokens": 500}) == Decimal("0.00045")


def test_cached_input_is_priced_apart() -> None:
    usage = {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "prompt_tokens_details": {"cached_tokens": 1920},
    }
    assert cost("gpt-4o", usage=usage) == Decimal("0.005615")


def test_the_model_is_the_said_then_the_served_then_the_inferred() -> None:
    mini, full = Decimal("0.00041895"), Decimal("0.0069825")
    assert cost("gpt-4o", model="gpt-4o-mini-2024-07-18") == mini
    assert cost("gpt-4o", model="gpt-4o", headers={"x_ms_served_model": "gpt-4o-mini-2024-07-18"}) == mini
    assert cost("gpt-4o-mini", model="gpt-4o-mini", model_name="gpt-4o") == full
    assert cost("my-gpt-4o", model="") == full
    assert cost("my-gpt-4o", model="my-gpt-4o") == full


@pytest.mark.parametrize("name", ["prod", "PROD", "gpt-4o-2024-11-20", "gpt-4o"])
def test_own_prices_come_first(name: str) -> None:
    prices = {name: ModelPrice(input=10, output=100)}
    assert cost("prod", model="gpt-4o-2024-11-20", prices=prices) == Decimal("0.05115")


async def test_an_unknown_model_costs_none_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    client = client_of(fixed(answer(model="x-large")), deployment_id="prod")
    with caplog.at_level("WARNING", "loom_py"):
        for verb in VERBS * 2:
            assert (await ask(client, verb, HELLO)).cost_usd is None
        await asyncio.gather(*(client.achat(HELLO) for _ in range(20)))
    (record,) = caplog.records
    event = record.loom_event  # type: ignore[attr-defined]
    assert (event["event"], event["deployment"], event["served_model"]) == (
        "price_unknown",
        "prod",
        "x-large",
    )
    assert "model_name=" in event["hint"]


@pytest.mark.parametrize("message", [{"content": "Hi"}, {"content": None}])
def test_without_usage_there_is_no_cost_and_never_zero(message: dict[str, Any]) -> None:
    body = answer(choices=[{"message": message, "finish_reason": "stop"}], usage=None)
    assert client_of(fixed(body)).chat(HELLO).cost_usd is None


@every_verb
async def test_an_answer_the_filter_stopped_still_costs(verb: str) -> None:
    body = answer(choices=[{"message": {"content": "part"}, "finish_reason": "content_filter"}])
    with pytest.raises(ContentFilterError) as caught:
        await ask(client_of(fixed(body), deployment_id="prod"), verb, HELLO)
    assert caught.value.cost_usd == Decimal("0.0069825")


# ── imports ──────────────────────────────────────────────────────────────────────────────


def test_openai_is_imported_by_the_first_call_only() -> None:
    code = """
import sys, loom_py
from loom_py import AzureOpenAIClient
client = AzureOpenAIClient(endpoint="https://x.openai.azure.com", deployment_id="d", api_key="k")
repr(client), client.profile, client.close()
assert not {"openai", "httpx2"} & set(sys.modules), "imported too early"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_refused_effort_is_answered_with_those_the_model_takes() -> None:
    refusal = {
        "error": {
            "message": "Unsupported value: 'reasoning_effort' does not support 'none' with this model.",
            "param": "reasoning_effort",
            "code": "unsupported_value",
        }
    }
    transport = httpx2.MockTransport(lambda _: httpx2.Response(400, json=refusal))
    client = AzureOpenAIClient(
        endpoint="https://x.openai.azure.com",
        deployment_id="o3",
        api_key="a-key",
        http_client=httpx2.Client(transport=transport),
    )
    with pytest.raises(UnsupportedParameterError) as caught:
        client.chat(HELLO, options=ChatOptions(reasoning_effort="none"))
    assert caught.value.hint == "This model is known to take reasoning_effort low, medium, high."


# ── servers that never come to an end ────────────────────────────────────────────────────


class Dripping:
    """A server that answers every request with ``head`` and then ``drop`` again and again."""

    def __init__(self, head: bytes, drop: bytes) -> None:
        self._head, self._drop = head, drop
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while not self._over.is_set():
                connection, _ = self._listener.accept()
                threading.Thread(target=self._drip, args=(connection,), daemon=True).start()

    def _drip(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(self._head)
            while not self._over.wait(0.1):
                connection.sendall(self._drop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()


OK = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n"
DRIPS = {
    "json": (OK % b"application/json", b"1\r\n \r\n"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x-drip: 1\r\n"),
    "status": (b"HTTP/1.1 200 ", b"O"),
    "refusal": (b"HTTP/1.1 500 Oh\r\ncontent-length: 100000\r\n\r\n", b" "),
    "comments": (OK % b"text/event-stream", b"8\r\n: ping\n\n\r\n"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("drip", DRIPS)
async def test_an_answer_that_drips_in_for_ever_is_a_timeout(verb: str, drip: str) -> None:
    with Dripping(*DRIPS[drip]) as server:
        client = AzureOpenAIClient(
            endpoint=server.endpoint, deployment_id="gpt-4o", api_key="a-key", timeout=1
        )
        began = time.monotonic()
        with pytest.raises(LoomError) as caught:
            await ask(client, verb, HELLO)
        # of a refusal the status had come: blocking calls tell it
        refused = drip == "refusal" and verb in {"chat", "stream_chat"}
        assert type(caught.value) is (ServiceUnavailableError if refused else RequestTimeoutError)
        assert time.monotonic() - began < 10  # it would last for ever
        await client.aclose()
