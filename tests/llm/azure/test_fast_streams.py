"""Shortcuts through a stream, which must give what the long way gives."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loom_py.errors import ContentFilterError
from loom_py.events import TextDelta
from loom_py.llm.azure.dialling import dial, in_turn
from loom_py.llm.azure.sse import SSEReader
from loom_py.llm.azure.stream import StreamDecoder
from loom_py.messages import TokenUsage


def chunk(text: Any, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": text}, **more}]}


def decoded(chunks: Sequence[bytes], size: int) -> tuple[list[str], str]:
    """The texts of a stream whose bytes come ``size`` at a time, and the whole answer."""
    end = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode()
    body = b"".join(b"data: %s\n\n" % each for each in (*chunks, end, b"[DONE]"))
    decoder = StreamDecoder()
    events = [
        event for start in range(0, len(body), size) for event in decoder.feed(body[start : start + size])
    ]
    texts = [event.delta for event in events if isinstance(event, TextDelta)]
    return texts, decoder.finish()[1].message


@given(st.lists(st.text(min_size=1), min_size=1), st.booleans(), st.integers(1, 400))
def test_every_text_comes_out_as_it_went_in(texts: list[str], ascii_only: bool, size: int) -> None:
    chunks = [json.dumps(chunk(text), ensure_ascii=ascii_only).encode("utf-8", "replace") for text in texts]
    expected = [json.loads(each)["choices"][0]["delta"]["content"] for each in chunks]
    found, message = decoded(chunks, size)
    assert found == expected
    assert message == "".join(expected)


@given(
    st.lists(st.text(alphabet='":, {}[]\\a', min_size=1, max_size=4), min_size=1),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.integers(1, 400),
)
@example([':"', "x"], (",", ":"), 400)
@example([': "', "x"], (", ", ": "), 400)
def test_a_text_that_looks_like_the_json_around_it_is_text(
    texts: list[str], separators: tuple[str, str], size: int
) -> None:
    more = {"system_fingerprint": "", "usage": {}, "obfuscation": ""}
    chunks = [json.dumps({**chunk(text), **more}, separators=separators).encode() for text in texts]
    assert decoded(chunks, size) == (texts, "".join(texts))


def test_an_empty_usage_is_none_and_overwrites_no_other() -> None:
    decoder = StreamDecoder()
    counted = {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    chunks = [
        {**chunk("a"), "usage": {}},
        chunk("b", finish_reason="stop"),
        {"choices": [], **counted},
        {"choices": [], "usage": {}},
    ]
    body = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in chunks)
    list(decoder.feed(body))
    assert decoder.finish()[1].tokens_used == TokenUsage(5, 2)


def test_another_content_in_the_chunk_is_never_taken_for_the_text() -> None:
    chunks = [
        b'{"model":"m","choices":[{"index":0,"delta":{"content" :"same"},"note":{"content":"same%d"}}]}' % n
        for n in range(5)
    ]
    assert decoded(chunks, 10_000)[0] == ["same"] * 5


def test_a_verdict_after_many_like_chunks_is_still_heard() -> None:
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    chunks = [json.dumps(chunk(f"w{n}", content_filter_results=safe)).encode() for n in range(5)]
    loud = {"hate": {"filtered": True, "severity": "high"}}
    chunks.append(json.dumps(chunk("last", content_filter_results=loud)).encode())
    with pytest.raises(ContentFilterError):
        decoded(chunks, 10_000)


LINES = st.sampled_from([b"data: a", b"data:b", b"data: ", b": comment", b"event: x", b"", b"data", b"x:y"])
ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.lists(st.integers(1, 12), min_size=1))
def test_events_are_the_same_however_the_bytes_are_cut(
    lines: list[tuple[bytes, bytes]], sizes: list[int]
) -> None:
    body = b"".join(line + end for line, end in lines)
    single, whole, cut = SSEReader(), SSEReader(), SSEReader()
    expected = [event for byte in body for event in single.feed(bytes([byte]))]
    assert whole.feed(body) == expected
    found, start = [], 0
    for index in range(len(body)):
        size = sizes[index % len(sizes)]
        found += cut.feed(body[start : start + size])
        start += size
    assert found == expected
    assert whole.rest() == cut.rest() == single.rest()


def test_an_event_of_ten_megabytes_costs_no_more_in_small_pieces_than_its_length() -> None:
    def seconds(megabytes: int) -> float:
        reader, piece = SSEReader(), b"x" * 1_000
        began = time.process_time()
        reader.feed(b"data: ")
        for _ in range(megabytes * 1_000):
            reader.feed(piece)
        (event,) = reader.feed(b"\n\n")
        assert len(event) == megabytes * 1_000_000
        return time.process_time() - began

    seconds(1)
    assert seconds(10) < 2.0  # looked at anew with each piece it takes minutes


# ── connecting ───────────────────────────────────────────────────────────────────────────


def test_the_families_of_addresses_take_turns() -> None:
    def info(family: int, where: str) -> tuple[int, int, int, str, Any]:
        return family, socket.SOCK_STREAM, 6, "", (where, 80)

    six, four = socket.AF_INET6, socket.AF_INET
    order = in_turn([info(six, "a"), info(six, "b"), info(four, "c"), info(six, "d")])
    assert [each[4][0] for each in order] == ["a", "c", "b", "d"]


async def test_a_host_is_reached_by_the_address_that_answers() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connected = await dial("localhost", port)  # which may be ::1 first, where nobody listens
        assert connected.getpeername()[1] == port
        connected.close()


async def test_a_host_that_refuses_everywhere_is_an_os_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await dial("localhost", taken.getsockname()[1])


async def test_a_cancelled_attempt_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    attempt = asyncio.create_task(dial("localhost", 9))
    await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises((asyncio.CancelledError, OSError)):
        await attempt
    assert asyncio.all_tasks() == before
