"""The extra ``fast``: the same results by another transport and another JSON."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py import AzureOpenAIClient, ChatOptions, Message
from loom_py._json import STANDARD, codec
from loom_py.errors import ConfigError, ConnectionFailedError

pytest.importorskip("aiohttp")
pytest.importorskip("orjson")

FAST = codec(True)
BOTH = pytest.mark.parametrize("fast", [False, True])
HELLO = [Message.user("hello")]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
TEXTS = st.recursive(
    st.none() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


# ── JSON ─────────────────────────────────────────────────────────────────────────────────


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in type and value, throughout."""
    return repr(one) == repr(other)


@given(VALUES)
def test_both_readers_give_the_same_value(value: Any) -> None:
    text = json.dumps(value).encode()
    assert same(FAST.loads(text), STANDARD.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": NaN, "b": -Infinity}',
        b'{"a": 18446744073709551616, "b": -9223372036854775809}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": 1, "a": 2}',
        b"\xef\xbb\xbf[1]",
        '{"a": "é"}'.encode("utf-16"),
        b'{"a": "\xed\xa0\x80"}',
        b"-0",
    ],
)
def test_what_orjson_reads_otherwise_is_left_to_the_standard_library(text: bytes) -> None:
    assert same(FAST.loads(text), json.loads(text))


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": 01}', b"\xff", b'{"a":1}x', b"nul"])
def test_what_is_no_json_is_refused_by_both_readers(text: bytes) -> None:
    for reader in (FAST, STANDARD):
        with pytest.raises(ValueError):
            reader.loads(text)


def test_json_nested_too_deeply_is_refused_by_both_readers() -> None:
    for reader in (FAST, STANDARD):
        with pytest.raises((RecursionError, ValueError)):
            reader.loads(b"[" * 100_000 + b"]" * 100_000)


@given(TEXTS)
def test_both_writers_say_the_same(value: Any) -> None:
    assert FAST.dumps_text(value) == STANDARD.dumps_text(value)


@pytest.mark.parametrize("wrap", [str, lambda text: [{"content": [{"image_url": {"url": text}}]}]])
def test_a_large_text_is_written_in_a_few_times_its_size(wrap: Callable[[str], Any]) -> None:
    value = wrap("x" * 8_000_000)
    tracemalloc.start()
    try:
        written = FAST.dumps_text(value)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written == STANDARD.dumps_text(value)
    assert kept < 10_000_000
    assert most < 40_000_000


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize("value", ["\ud800", [Word("a")], {"a": (None, "b")}])
def test_text_of_any_kind_is_written_alike(value: Any) -> None:
    assert FAST.dumps_text(value) == STANDARD.dumps_text(value)


@BOTH
@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}])
async def test_an_option_that_is_no_json_is_refused_either_way(fast: bool, value: object) -> None:
    client = AzureOpenAIClient(endpoint="http://127.0.0.1:1", deployment_id="gpt-4o", api_key="k", fast=fast)
    with pytest.raises(ConfigError):
        await client.achat(HELLO, options=ChatOptions(extra_body={"messages": [value]}))
    await client.aclose()


# ── the transport ────────────────────────────────────────────────────────────────────────

ANSWER = json.dumps(
    {
        "model": "gpt-4o",
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
).encode()
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s"


@asynccontextmanager
async def serving(answer: Callable[[int], bytes | None], seen: list[bytes]) -> AsyncIterator[str]:
    """A server that keeps each request and gives ``answer(number)``, or hangs up for ``None``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                (length,) = [
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ]
                seen.append(head + await reader.readexactly(length))
                said = answer(len(seen))
                if said is None:
                    return
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**26)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def usual(_: int) -> bytes:
    return OK % (len(ANSWER), b"", ANSWER)


def client_of(endpoint: str, fast: bool, **settings: Any) -> AzureOpenAIClient:
    return AzureOpenAIClient(
        endpoint=endpoint, deployment_id="gpt-4o", **{"api_key": "a-key", "fast": fast, **settings}
    )


def heads(request: bytes) -> dict[bytes, bytes]:
    """The request line and the headers of a request, but for its length."""
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
    fields.pop(b"content-length")
    return {b"": lines[0], **fields}


@BOTH
async def test_a_request_that_is_kept_is_the_request_the_sdk_would_build(fast: bool) -> None:
    seen: list[bytes] = []
    async with serving(usual, seen) as endpoint, client_of(endpoint, fast) as client:
        await client.achat(HELLO)
        await client.achat([Message.user("a longer message")])
        await client.achat(HELLO)
    assert heads(seen[0]) == heads(seen[1]) == heads(seen[2])
    assert b"a longer message" in seen[1]
    assert seen[0] == seen[2]


async def test_both_transports_send_the_same_headers() -> None:
    seen: list[bytes] = []
    async with serving(usual, seen) as endpoint:
        for fast in (False, True):
            async with client_of(endpoint, fast) as client:
                await client.achat(HELLO)
    assert heads(seen[0]) == heads(seen[1])


@BOTH
async def test_a_key_that_was_rotated_is_the_key_of_the_next_request(fast: bool) -> None:
    keys = iter(["first", "second", "second"])
    seen: list[bytes] = []
    async with (
        serving(usual, seen) as endpoint,
        client_of(endpoint, fast, api_key=lambda: next(keys)) as client,
    ):
        for _ in range(3):
            await client.achat(HELLO)
    assert [heads(request)[b"api-key"] for request in seen] == [b"first", b"second", b"second"]


@BOTH
async def test_a_cookie_the_server_sets_comes_back_with_the_next_request(fast: bool) -> None:
    def with_cookie(_: int) -> bytes:
        return OK % (len(ANSWER), b"set-cookie: instance=seven; Path=/\r\n", ANSWER)

    seen: list[bytes] = []
    async with serving(with_cookie, seen) as endpoint, client_of(endpoint, fast) as client:
        await client.achat(HELLO)
        await client.achat(HELLO)
    assert heads(seen[1])[b"cookie"] == b"instance=seven"


@BOTH
async def test_a_body_of_ten_megabytes_arrives_whole(fast: bool) -> None:
    seen: list[bytes] = []
    async with serving(usual, seen) as endpoint, client_of(endpoint, fast) as client:
        await client.achat([Message.user("x" * 10_000_000)])
    assert b"x" * 10_000_000 in seen[0]


@BOTH
async def test_a_header_of_twenty_kilobytes_is_taken(fast: bool) -> None:
    def long_header(_: int) -> bytes:
        return OK % (len(ANSWER), b"x-ms-debug: " + b"x" * 20_000 + b"\r\n", ANSWER)

    async with serving(long_header, []) as endpoint, client_of(endpoint, fast) as client:
        assert (await client.achat(HELLO)).message == "hi"


@BOTH
async def test_a_connection_that_is_refused_says_that_nothing_was_sent(fast: bool) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with client_of(f"http://127.0.0.1:{port}", fast) as client:
        with pytest.raises(ConnectionFailedError) as caught:
            await client.achat(HELLO)
    assert caught.value.sent is False


@BOTH
async def test_a_server_that_hangs_up_on_a_request_leaves_open_whether_it_was_read(fast: bool) -> None:
    seen: list[bytes] = []
    async with serving(lambda _: None, seen) as endpoint, client_of(endpoint, fast) as client:
        with pytest.raises(ConnectionFailedError) as caught:
            await client.achat(HELLO)
    assert caught.value.sent is not False
    assert len(seen) == 1  # and it is not sent again unasked


@BOTH
async def test_a_server_that_switches_protocols_unasked_has_failed(fast: bool) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n"
    async with serving(lambda _: switch, []) as endpoint, client_of(endpoint, fast) as client:
        with pytest.raises(ConnectionFailedError) as caught:
            await client.achat(HELLO)
    assert caught.value.retryable


@BOTH
async def test_a_connection_the_server_closed_meanwhile_is_not_used_again(fast: bool) -> None:
    seen: list[bytes] = []

    def closing(_: int) -> bytes:
        return OK % (len(ANSWER), b"connection: close\r\n", ANSWER)

    async with serving(closing, seen) as endpoint, client_of(endpoint, fast) as client:
        for _ in range(3):
            assert (await client.achat(HELLO)).message == "hi"


# ── the switch ───────────────────────────────────────────────────────────────────────────

CALL = """
import asyncio, sys
from loom_py import AzureOpenAIClient, Message
from loom_py.errors import LoomError
async def main():
    client = AzureOpenAIClient(endpoint="http://127.0.0.1:1", deployment_id="gpt-4o", api_key="k"{fast})
    try:
        await client.achat([Message.user("hello")])
    except LoomError:
        pass
    shares = next(iter(client._connections._async_pools.values())).http._transport._shares
    print(*(type(shared.transport).__name__ for shared in shares._pools.values()))
    del shares
    del client  # while the event loop still runs
    await asyncio.sleep(0)
asyncio.run(main())
"""


def transport_of(argument: str, environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CALL.replace("{fast}", argument)],
        env={**os.environ, "LOOM_FAST": environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""  # a client that was never closed goes without a word
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("argument", "environment", "transport"),
    [
        ("", "", "AiohttpTransport"),
        ("", "0", "AsyncHTTPTransport"),
        ("", "1", "AiohttpTransport"),
        (", fast=False", "1", "AsyncHTTPTransport"),
        (", fast=True", "0", "AiohttpTransport"),
    ],
)
def test_the_argument_decides_then_the_variable_then_what_is_installed(
    argument: str, environment: str, transport: str
) -> None:
    assert transport_of(argument, environment) == transport


def test_a_value_of_the_variable_that_says_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_FAST", "perhaps")
    with pytest.raises(ConfigError, match="fast"):
        AzureOpenAIClient(endpoint="http://127.0.0.1:1", deployment_id="gpt-4o", api_key="k")
