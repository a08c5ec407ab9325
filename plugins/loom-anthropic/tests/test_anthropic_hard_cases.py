"""Time that is kept whatever drips in, forks that share nothing, and JSON as strict as the service's."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from loom_anthropic import AnthropicEmulator, AnthropicProvider
from loom_anthropic.answers import decode_message
from loom_py.errors import ContextLengthError, RequestTimeoutError
from loom_py.llm.scripted import ScriptedProvider, reply
from loom_py.messages import Message, Response, TokenUsage
from loom_py.options import ChatOptions

Make = Callable[..., AnthropicProvider]
HELLO = [Message.user("Hello")]


def _chat(provider: AnthropicProvider, options: ChatOptions) -> Response:
    return provider.chat(HELLO, options=options)


def _stream(provider: AnthropicProvider, options: ChatOptions) -> object:
    return list(provider.stream_chat(HELLO, options=options))


def _achat(provider: AnthropicProvider, options: ChatOptions) -> Response:
    async def call() -> Response:
        async with provider:
            return await provider.achat(HELLO, options=options)

    return asyncio.run(call())


def _astream(provider: AnthropicProvider, options: ChatOptions) -> object:
    async def call() -> object:
        async with provider:
            return [event async for event in provider.astream_chat(HELLO, options=options)]

    return asyncio.run(call())


verbs = pytest.mark.parametrize("verb", [_chat, _stream, _achat, _astream])


def _drip(listener: socket.socket, head: bytes, drop: bytes) -> None:
    """Answer every connection with ``head``, and then with a ``drop`` now and then for ever."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the test is over
            return
        with connection:
            try:
                connection.sendall(head)
                while True:
                    connection.sendall(drop)
                    time.sleep(0.04)
            except OSError:  # the client has hung up
                continue


@pytest.fixture(
    params=[
        (b"HTTP/1.1 200 OK\r\nx-slow: ", b"a"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"8\r\n: ping\n\n\r\n"),
    ],
    ids=["headers", "blanks", "comments"],
)
def dripping(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server that always sends something and never an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_drip, args=(listener, *request.param), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(2)


@verbs
@pytest.mark.parametrize(
    "options", [ChatOptions(timeout=0.3), ChatOptions(total_timeout=0.3)], ids=["one", "all"]
)
def test_a_server_that_drips_holds_no_verb_longer_than_its_time(
    verb: Callable[[AnthropicProvider, ChatOptions], object],
    options: ChatOptions,
    dripping: str,
    claude: Make,
) -> None:
    provider = claude(base_url=dripping)
    assert provider.keeps_timeouts
    begun = time.monotonic()
    with pytest.raises(RequestTimeoutError):
        verb(provider, options)
    assert time.monotonic() - begun < 1.5


LOADING = """
import sys
from loom_anthropic import AnthropicProvider
assert "anthropic" not in sys.modules
AnthropicProvider(api_key="sk-ant-1", model="claude-haiku-4-5")
assert "anthropic" in sys.modules
"""


def test_the_sdk_is_loaded_with_the_provider_and_not_in_the_time_of_its_first_call() -> None:
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _in_child(work: Callable[[], bool]) -> int:
    """Forks; the child ends with 0 where ``work`` is true."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = 0 if work() else 2
    finally:
        os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_do_not_read_each_others_answers(api: AnthropicEmulator, claude: Make) -> None:
    api.engine = ScriptedProvider(lambda asked: reply(asked.text))
    provider = claude()
    provider.chat(HELLO)  # a connection stands now

    def ask(child: int) -> bool:
        said = [f"{child}-{turn}" for turn in range(10)]
        return [provider.chat([Message.user(text)]).message for text in said] == said

    children = [_in_child(lambda child=child: ask(child)) for child in range(3)]  # type: ignore[misc]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert provider.chat(HELLO).message == "Hello"


def test_a_full_context_window_is_told_apart_from_a_used_up_limit() -> None:
    usage = {"input_tokens": 9, "output_tokens": 0}
    with pytest.raises(ContextLengthError) as caught:
        decode_message({"content": [], "stop_reason": "model_context_window_exceeded", "usage": usage})
    assert caught.value.tokens_used == TokenUsage(9, 0)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_the_emulator_reads_json_as_strictly_as_the_service(number: str, api: AnthropicEmulator) -> None:
    parts = urlsplit(api.base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    headers = {
        "x-api-key": api.api_key,
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
    }
    connection.request("POST", "/v1/messages", f'{{"temperature": {number}}}', headers)
    answer = connection.getresponse()
    assert answer.status == 400
    assert "not valid JSON" in json.loads(answer.read())["error"]["message"]
    connection.close()
