"""What nobody should send: each is answered clearly, without a traceback or a secret, and does no harm."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from loom_py.errors import InvalidRequestError
from loom_py.serve.requests import parse_chat

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


LIMITS = {
    "max_body": 20_000,
    "max_header": 8192,
    "header_timeout": 0.6,
    "body_timeout": 0.6,
    "write_timeout": 0.6,
    "max_connections": 40,
}


@pytest.fixture(scope="module")
def running(launch_once: Any) -> Iterator[Any]:
    """A server with tight limits, whose log holds nothing that it should not."""
    found = launch_once(**LIMITS)
    yield found
    log = found.log.read_text()
    assert "Traceback" not in log
    assert "Exception" not in log
    assert "super-secret" not in log


@pytest.fixture
def server(running: Any) -> Iterator[Any]:
    """The server, which is still well at the end of each test."""
    yield running
    assert b"echo well?" in _post(running, _asking("well?"))


def _asking(text: str, **more: Any) -> str:
    return json.dumps({"model": "helper", "messages": [{"role": "user", "content": text}], **more})


def _post(server: Any, body: str | bytes, more: str = "") -> bytes:
    data = body if isinstance(body, bytes) else body.encode()
    head = f"{HEAD}{more}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    found: bytes = server.say(head.encode("latin-1") + data)
    return found


def _parsed(answer: bytes) -> tuple[int, dict[str, Any]]:
    """Status and error of an answer, which is in OpenAI's shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), answer[:200]
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in str(error)
    return int(head.split()[1]), error


DEEP = '{"model": "helper", "messages": ' + "[" * 9000 + "]" * 9000 + "}"

BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "the body is not valid JSON"),
    "half a JSON": (b'{"model": ', 400, "not valid JSON at character"),
    "an array": (b"[]", 400, "must be a JSON object, not an array"),
    "null": (b"null", 400, "must be a JSON object, not null"),
    "deep": (DEEP.encode(), 400, "nested too deeply"),
    "no UTF-8": (b'{"model": "\xff\xfe"}', 400, "not UTF-8"),
    "UTF-16": ('{"model": "helper"}'.encode("utf-16"), 400, "not UTF-8"),
    "a bare NUL": (b'{"model": "he\x00lper"}', 400, "not valid JSON"),
    "NaN": (b'{"model": "helper", "temperature": NaN}', 400, "not valid JSON"),
    "a number of 5000 digits": (b'{"seed": ' + b"9" * 5000 + b"}", 400, "not valid JSON"),
    "more than any number": (b'{"model": "helper", "logit_bias": {"1": 1e999}}', 400, "not valid JSON"),
    "half a pair": (
        rb'{"model": "helper", "messages": [{"role": "user", "content": "\ud800"}]}',
        400,
        "surrogate",
    ),
    "too large": (b'{"model": "' + b"x" * 30_000 + b'"}', 413, "20,000 bytes"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_none_is_a_clear_error(server: Any, name: str) -> None:
    body, status, message = BODIES[name]
    found, error = _parsed(_post(server, body))
    assert (found, message in error["message"]) == (status, True), error
    assert error["type"] == "invalid_request_error"


def _many(item: str, number: int) -> str:
    return ",".join([item] * number)


BIASES = ",".join(f'"{number}": "b"' for number in range(300_000))


@pytest.mark.parametrize(
    "body",
    [
        '{"role": "user", "content": [' + _many("5", 10**6) + "]}",
        _many('{"role": "user", "content": [' + _many("5", 1000) + "]}", 1000),
        '{"role": "user", "content": [' + _many('{"type": "text", "text": ""}', 100_000) + "]}",
        '{"role": "assistant", "tool_calls": [' + _many("{}", 500_000) + "]}",
        '{"role": "user", "content": ""}], "logit_bias": {' + BIASES + '}, "stop": [',
        '{"role": "user", "content": ""}], "modalities": [' + _many("5", 10**6),
        '{"role": "user", "content": ""}], ' + _many('"a": 5', 10**6) + ', "stop": [',
    ],
    ids=["parts", "lists of parts", "good parts", "calls", "dict", "list", "fields"],
)
def test_a_body_of_millions_is_refused_at_once(body: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequestError):
        parse_chat(f'{{"model": "helper", "messages": [{body}]}}'.encode())
    assert time.process_time() - began < 1.5


def test_a_body_of_deep_tools_is_refused_and_no_harm(server: Any) -> None:
    schema = '{"properties": {"a": ' * 400 + "{}" + "}}" * 400
    tools = f'[{{"type": "function", "function": {{"name": "f", "parameters": {schema}}}}}]'
    body = f'{{"model": "helper", "messages": [{{"role": "user", "content": "hi"}}], "tools": {tools}}}'
    status, error = _parsed(_post(server, body))
    assert (status, error["param"]) == (400, "tools[0].function.parameters")


def test_a_nul_in_text_is_text(server: Any) -> None:
    body = rb'{"model": "helper", "messages": [{"role": "user", "content": "a\u0000b"}]}'
    assert rb"echo a\u0000b" in _post(server, body)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
def test_a_body_that_does_not_say_it_is_json_is_refused(server: Any, kind: str) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    answer = server.say(f"{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    status, error = _parsed(answer)
    assert (status, error["code"]) == (415, "unsupported_media_type")


def test_a_bomb_is_not_unpacked(server: Any) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    assert _parsed(_post(server, bomb, "Content-Encoding: gzip\r\n"))[0] == 415


def test_a_chunked_body_has_the_same_limit(server: Any) -> None:
    with server.connect() as line:
        line.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        try:
            for _ in range(200):
                line.sendall(chunk)
        except OSError:
            pass
        status, error = _parsed(_head_and_body(line))
    assert (status, error["code"]) == (413, "request_too_large")


def test_a_length_that_is_too_large_is_refused_before_the_body(server: Any) -> None:
    with server.connect() as line:
        line.sendall(f"{HEAD}Expect: 100-continue\r\nContent-Length: 999999999999\r\n\r\n".encode())
        answer = _head_and_body(line)
    assert _parsed(answer)[0] == 413
    assert b"100 Continue" not in answer


def _head_and_body(connection: socket.socket) -> bytes:
    """One answer, by its length."""
    found = b""
    while b"\r\n\r\n" not in found:
        part = connection.recv(65536)
        assert part, found
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(
        int(each.split(b":")[1]) for each in head.split(b"\r\n") if each.startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(server: Any) -> None:
    began = time.monotonic()
    with server.connect() as line:
        line.settimeout(0.1)
        answer = b""
        for byte in (HEAD * 3).encode():
            try:
                line.sendall(bytes([byte]))
                answer += line.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if answer:
                break
    assert time.monotonic() - began < 3
    status, error = _parsed(answer)
    assert (status, error["code"]) == (408, "request_timeout")


def test_a_second_head_is_waited_for_no_longer(server: Any) -> None:
    with server.connect() as line:
        line.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"live" in _head_and_body(line)
        began = time.monotonic()
        line.sendall(b"GET /health")
        assert line.recv(100) == b""
    assert time.monotonic() - began < 3


def test_a_silent_connection_is_closed(server: Any) -> None:
    with server.connect() as line:
        assert line.recv(100) == b""


def test_a_body_that_comes_too_slowly_is_not_waited_for(server: Any) -> None:
    with server.connect() as line:
        line.sendall(f'{HEAD}Content-Length: 100\r\n\r\n{{"model"'.encode())
        status, error = _parsed(_head_and_body(line))
    assert (status, error["code"]) == (408, "request_timeout")


def test_many_slow_clients_do_not_keep_out_the_others(server: Any) -> None:
    slow = [server.connect() for _ in range(30)]
    try:
        for line in slow:
            line.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x")
        assert b"echo hi" in _post(
            server, '{"model": "helper", "messages": [{"role": "user", "content": "hi"}]}'
        )
    finally:
        for line in slow:
            line.close()


def test_too_many_connections_are_told_so(server: Any) -> None:
    lines = [server.connect() for _ in range(41)]
    try:
        status, error = _parsed(lines[-1].recv(65536))
        assert (status, error["code"]) == (503, "too_many_connections")
    finally:
        for line in lines:
            line.close()
    time.sleep(0.1)


def test_more_connections_than_files_are_told_so(served_program: Path) -> None:
    limited = f"ulimit -n 100; exec {sys.executable} {served_program} '{{}}'"
    with subprocess.Popen(
        ["bash", "-c", limited], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = urlsplit(server.stdout.readline().strip())
        assert url.hostname is not None
        assert url.port is not None
        lines = []
        for _ in range(60):
            lines.append(socket.create_connection((url.hostname, url.port), 5))
            time.sleep(0.005)
        assert _parsed(lines[-1].recv(65536))[1]["code"] == "too_many_connections"
        for line in lines:
            line.close()
        server.terminate()
        _, log = server.communicate(timeout=20)
    assert "Traceback" not in log


def test_a_client_that_does_not_read_its_stream_is_given_up(server: Any) -> None:
    def counts() -> list[int]:
        answer = _post(server, _asking("counts"))
        found: list[int] = json.loads(
            json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"]
        )
        return found

    cancelled = counts()[2]
    body = _asking("flood 100000", stream=True)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        line.connect(server.address)
        line.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        end = time.monotonic() + 10
        while counts()[2] == cancelled:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_a_client_that_does_not_read_a_whole_answer_is_given_up(server: Any) -> None:
    body = _asking("flood 20000")
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        line.settimeout(5)
        line.connect(server.address)
        line.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        time.sleep(2.5)  # its answer is complete for the server, and it would idle for 75 s
        found = 0
        with suppress(ConnectionResetError):
            while part := line.recv(2**20):
                found += len(part)
    assert found < 20_000_000  # the rest was dropped, and the line with it


def test_a_client_that_reads_slowly_gets_all_of_its_answer(server: Any) -> None:
    body = _asking("flood 8000")
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(5)
        line.connect(server.address)
        line.sendall(f"{HEAD}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        found, began = 0, time.monotonic()
        while part := line.recv(200_000):
            found += len(part)
            time.sleep(max(0.0, began + found / 4_000_000 - time.monotonic()))
    assert found >= 8_000_000
    assert time.monotonic() - began > 1.5  # longer than the 0.6 s in which a client must take something


def test_two_ways_to_end_a_body_are_refused_and_what_follows_is_not_read(server: Any) -> None:
    body = _asking("one")
    raw = f"{HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    answer = server.say(f"{raw}GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    status, error = _parsed(answer)
    assert (status, error["code"]) == (400, "invalid_http")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "X-Session-Id"])
def test_a_header_that_decides_is_sent_once(server: Any, name: str) -> None:
    raw = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{name}: a\r\n{name}: b\r\n\r\n"
    status, error = _parsed(server.say(raw.encode()))
    assert (status, error["code"]) == (400, "invalid_http")
    assert name.lower() in error["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9\r\n\r\n",
        b"\r\n\r\n\r\n\r\nnonsense\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["TLS", "version", "nonsense", "NUL", "two lengths", "header", "path", "no end", "smuggling"],
)
def test_what_is_no_http_is_refused(server: Any, raw: bytes) -> None:
    answer = server.say(raw, timeout=3)
    assert answer[9:12] in (b"400", b"405", b"408", b"431"), answer
    _parsed(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/page/..%2f..%2fkeys.py",
        "//etc/passwd",
        "/%00",
        "/v1/models/%0d%0aX-Injected:1",
        "/v1/chat/completions/",
        "/v1/models/../../../etc",
        "/" + "a/" * 1000,
    ],
)
def test_no_path_leads_anywhere_else(server: Any, path: str) -> None:
    answer = server.say(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    status, error = _parsed(answer)
    assert status in (400, 404)
    assert b"root:" not in answer
    assert b"injected:" not in answer.lower().split(b"\r\n\r\n")[0]
    assert error["code"] in ("not_found", "invalid_path", "model_not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "TRACE", "OPTIONS", "BREW"])
def test_another_method_is_refused(server: Any, method: str) -> None:
    head = f"{method} /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = server.say(head.encode())
    assert _parsed(answer)[0] == 405
    assert b"allow: POST" in answer


def test_a_name_that_a_page_made_up_for_this_machine_is_refused(server: Any) -> None:
    for host in ("evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "localhost@evil.example"):
        answer = server.say(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        status, error = _parsed(answer)
        assert (status, error["code"]) == (403, "host_not_allowed")
    for host in ("localhost", "127.0.0.1:9", "[::1]:9", "LOCALHOST"):
        answer = server.say(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200")


def test_no_page_of_another_origin_may_read(server: Any) -> None:
    asked = "Origin: https://evil.example\r\nConnection: close\r\n\r\n"
    answer = server.say(f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{asked}".encode())
    assert b"access-control" not in answer.lower()


def test_requests_in_a_row_are_answered_in_a_row(server: Any) -> None:
    def one(text: str, last: bool) -> bytes:
        body = _asking(text)
        close = "Connection: close\r\n" if last else ""
        return f"{HEAD}{close}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    answer = server.say(b"".join(one(f"number {n}", n == 9) for n in range(10)))
    places = [answer.find(f"echo number {n}".encode()) for n in range(10)]
    assert places == sorted(places)
    assert -1 not in places


def test_garbage_behind_a_stream_does_not_end_up_in_it(server: Any) -> None:
    body = json.dumps(
        {"model": "helper", "stream": True, "messages": [{"role": "user", "content": "slow 8"}]}
    )
    answer = server.say(f"{HEAD}Content-Length: {len(body)}\r\n\r\n{body}GARBAGE\x00\x01\r\n\r\n".encode())
    assert answer.count(b"HTTP/1.1 200") == 1
    stream = answer.split(b"[DONE]")[0]
    assert b"word7" in stream
    assert b"invalid_http" not in stream


def test_a_bad_chunk_is_refused(server: Any) -> None:
    raw = f"{HEAD}Transfer-Encoding: chunked\r\n\r\nZZZ\r\nabc\r\n".encode()
    assert _parsed(server.say(raw))[0] == 400


def test_the_log_says_who_was_refused_and_nothing_they_sent(launch: Any, ask: Callable[..., Any]) -> None:
    server = launch()
    _post(server, '{"model": "super-secret-prompt"', "Authorization: Bearer super-secret-key\r\n")
    _post(server, json.dumps(ask("super-secret-text")))
    _post(server, json.dumps(ask("away")))
    server.terminate()
    assert server.ended() == 0
    assert "super-secret" not in server.log.read_text()
