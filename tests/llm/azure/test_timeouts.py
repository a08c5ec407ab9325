"""How long a call may take: to connect, to answer, and in all."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import pytest

from loom_py import AzureOpenAIClient, Message, Response
from loom_py.emulator import AzureEmulator
from loom_py.errors import ProviderError, RequestTimeoutError, StreamInterruptedError
from loom_py.options import ChatOptions

VERBS = ("chat", "achat", "stream_chat", "astream_chat")
STREAMS = VERBS[2:]
TALK = [Message.user("one two three four five six seven eight nine ten")]
every_verb = pytest.mark.parametrize("verb", VERBS)


async def ask(client: AzureOpenAIClient, verb: str, options: ChatOptions) -> Response:
    call = getattr(client, verb)
    if verb == "achat":
        response = await call(TALK, options=options)
    elif verb == "astream_chat":
        response = [event async for event in call(TALK, options=options)][-1].response
    elif verb == "stream_chat":
        response = (await asyncio.to_thread(lambda: list(call(TALK, options=options))))[-1].response
    else:
        response = await asyncio.to_thread(call, TALK, options=options)
    assert isinstance(response, Response)
    return response


def at(endpoint: str, **settings: Any) -> AzureOpenAIClient:
    return AzureOpenAIClient(endpoint=endpoint, deployment_id="gpt-4o", api_key="a-key", **settings)


@contextmanager
def dripping(head: bytes, drop: bytes, pause: float = 0.03) -> Iterator[str]:
    """A server that answers with ``head`` and then ``drop`` again and again; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(head)
            while not over.wait(pause):
                connection.sendall(drop)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"//127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


OK = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n"
WORD = b'data: {"choices": [{"index": 0, "delta": {"content": "word "}}]}\n\n'


# ── connecting ───────────────────────────────────────────────────────────────────────────


@every_verb
async def test_connecting_takes_its_own_timeout_at_most(verb: str) -> None:
    with dripping(b"", b"", pause=5) as address:  # accepts, and never shakes hands
        async with at(f"https:{address}") as client:
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"connecting after 0\.2 s"):
                await ask(client, verb, ChatOptions(connect_timeout=0.2))
            assert time.monotonic() - began < 2


@contextmanager
def full(takes_one_after: float) -> Iterator[str]:
    """A server that takes no connection, and after so many seconds one that stays silent; its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(3)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(listener.getsockname())
    taken: list[socket.socket] = []

    def take() -> None:
        with suppress(OSError):
            taken.extend(listener.accept()[0] for _ in waiting)

    timer = threading.Timer(takes_one_after, take)
    timer.start()
    try:
        yield f"//127.0.0.1:{listener.getsockname()[1]}"
    finally:
        timer.cancel()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        timer.join()
        for each in (listener, *waiting, *taken):
            each.close()


@every_verb
async def test_a_server_that_takes_no_connection_is_given_up(verb: str) -> None:
    with full(60) as address:
        async with at(f"http:{address}") as client:
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"connecting after 0\.2 s"):
                await ask(client, verb, ChatOptions(connect_timeout=0.2))
            assert time.monotonic() - began < 2


@pytest.mark.parametrize("verb", ["chat", "achat"])
async def test_tcp_and_tls_share_the_time_to_connect(verb: str) -> None:
    async with at("https://127.0.0.1:1") as client:  # all that the first call loads is loaded now
        with pytest.raises(ProviderError):
            await ask(client, verb, ChatOptions(connect_timeout=1))
    with full(0.3) as address:  # the kernel knocks again after a second
        async with at(f"https:{address}") as client:
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"connecting after 1\.6 s"):
                await ask(client, verb, ChatOptions(connect_timeout=1.6))
            assert time.monotonic() - began < 2.4  # one after the other it would be 2.6 s


@pytest.mark.parametrize(
    ("settings", "connect"),
    [({}, 5.0), ({"connect_timeout": 9.0}, 9.0), ({"connect_timeout": 9.0, "timeout": 2.0}, 2.0)],
)
@every_verb
async def test_a_connection_gets_five_seconds_unless_told_otherwise(
    verb: str, settings: dict[str, float], connect: float
) -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
        return httpx2.Response(200, content=json.dumps({"choices": [choice]}))

    transport = httpx2.MockTransport(answer)
    client = at(
        "https://contoso.openai.azure.com",
        http_client=httpx2.Client(transport=transport),
        async_http_client=httpx2.AsyncClient(transport=transport),
    )
    await ask(client, verb, ChatOptions(**settings))  # type: ignore[arg-type]
    assert seen[0].extensions["timeout"]["connect"] == connect
    assert seen[0].extensions["timeout"]["read"] == settings.get("timeout", 60.0)


# ── in all ───────────────────────────────────────────────────────────────────────────────


@every_verb
async def test_a_call_is_over_after_its_total_timeout(verb: str) -> None:
    with AzureEmulator() as azure:
        azure.delay_next(3.0)
        async with AzureOpenAIClient(**azure.client_kwargs()) as client:
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"not over after 0\.2 s") as caught:
                await ask(client, verb, ChatOptions(total_timeout=0.2))
            assert time.monotonic() - began < 2
    assert "total_timeout" in str(caught.value)


@every_verb
async def test_a_call_that_is_done_in_time_is_none_the_wiser(verb: str) -> None:
    with AzureEmulator() as azure:
        async with AzureOpenAIClient(**azure.client_kwargs()) as client:
            response = await ask(client, verb, ChatOptions(total_timeout=20, connect_timeout=5, timeout=10))
    assert response.message


@pytest.mark.parametrize("verb", STREAMS)
async def test_a_stream_that_goes_on_and_on_is_cut_with_what_had_come(verb: str) -> None:
    with AzureEmulator(chunk_delay=0.08) as azure:
        async with AzureOpenAIClient(**azure.client_kwargs()) as client:
            began = time.monotonic()
            with pytest.raises(StreamInterruptedError, match=r"not over after 0\.5 s") as caught:
                await ask(client, verb, ChatOptions(total_timeout=0.5))
            assert 0.4 < time.monotonic() - began < 2
    assert caught.value.partial_text


DRIPS = {
    "json": (OK % b"application/json", chunked(b" ")),
    "status": (b"HTTP/1.1 200 ", b"O"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x-drip: 1\r\n"),
    "comments": (OK % b"text/event-stream", chunked(b": ping\n\n")),
    "a chunk's head": (OK % b"text/event-stream" + b"5;", b"x"),
    "half an event": (OK % b"text/event-stream" + chunked(b"data: "), chunked(b" ")),
}


@every_verb
@pytest.mark.parametrize("drip", DRIPS)
async def test_a_server_that_drips_holds_no_call_beyond_its_total_timeout(verb: str, drip: str) -> None:
    with dripping(*DRIPS[drip]) as address:
        async with at(f"http:{address}") as client:
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"not over after 0\.3 s"):
                await ask(client, verb, ChatOptions(total_timeout=0.3))
            assert time.monotonic() - began < 2


@every_verb
async def test_a_chunk_whose_head_never_ends_is_a_timeout_of_the_answer_too(verb: str) -> None:
    with dripping(*DRIPS["a chunk's head"]) as address:
        async with at(f"http:{address}") as client:
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"waiting for an answer after 0\.3 s"):
                await ask(client, verb, ChatOptions(timeout=0.3))
            assert time.monotonic() - began < 2


@pytest.mark.parametrize("verb", STREAMS)
async def test_a_stream_without_end_keeps_its_words(verb: str) -> None:
    with dripping(OK % b"text/event-stream", chunked(WORD)) as address:
        async with at(f"http:{address}") as client:
            with pytest.raises(StreamInterruptedError) as caught:
                await ask(client, verb, ChatOptions(total_timeout=0.3, timeout=0.2))
    assert caught.value.partial_text.startswith("word word ")


@every_verb
async def test_a_client_of_the_users_own_keeps_to_the_total_timeout(verb: str) -> None:
    with dripping(OK % b"text/event-stream", chunked(WORD)) as address:
        async with (
            httpx2.AsyncClient() as own,
            at(f"http:{address}", http_client=httpx2.Client(), async_http_client=own) as client,
        ):
            began = time.monotonic()
            with pytest.raises(ProviderError, match=r"not over after 0\.3 s"):
                await ask(client, verb, ChatOptions(total_timeout=0.3))
            assert time.monotonic() - began < 2


@every_verb
async def test_a_corrected_request_gets_no_new_total_timeout(verb: str) -> None:
    with AzureEmulator(deployments={"prod": "o3"}) as azure:
        azure.delay_next(0.25, times=4)
        async with AzureOpenAIClient(**azure.client_kwargs()) as client:
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"not over after 0\.4 s"):
                await ask(client, verb, ChatOptions(total_timeout=0.4, temperature=0.3))
            assert time.monotonic() - began < 0.9
        assert len(azure.requests) >= 1


async def test_a_request_that_is_taken_slowly_is_bounded_too() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def sip() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                while not over.wait(0.05):
                    connection.recv(20_000)

    threading.Thread(target=sip, daemon=True).start()
    large = [Message.user("x" * 40_000_000)]
    began = time.monotonic()
    client = at(f"http://127.0.0.1:{listener.getsockname()[1]}")
    with client, pytest.raises(RequestTimeoutError):
        client.chat(large, options=ChatOptions(total_timeout=0.5))
    assert time.monotonic() - began < 4
    over.set()
    listener.close()


# ── what is never sent ───────────────────────────────────────────────────────────────────


@every_verb
async def test_what_steers_a_call_never_reaches_the_wire(verb: str) -> None:
    with AzureEmulator() as azure:
        async with AzureOpenAIClient(**azure.client_kwargs()) as client:
            options = ChatOptions(residency="eu", priority=-3, connect_timeout=4, total_timeout=9)
            await ask(client, verb, options)
        sent = azure.requests[-1]
    assert not {"residency", "priority", "connect_timeout", "total_timeout"} & set(sent.body)
    assert "residency" not in str(sent.headers)
