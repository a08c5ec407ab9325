"""What is too much, too many, or not HTTP at all; and the pytest plugin's marker."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loom_py.emulator import AzureEmulator, Quota, VirtualClock

DEPLOYMENT = "gpt-4o-deployment"
PATH = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21"


def spoken(azure: AzureEmulator, data: bytes) -> tuple[int, Any]:
    """What is answered to raw bytes: the status and the JSON."""
    with socket.create_connection((azure.host, azure.port), timeout=5) as connection:
        connection.sendall(data)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_json(azure: AzureEmulator, data: bytes) -> None:
    status, body = spoken(azure, data)
    assert (status, body["error"]["code"]) == (400, "400")


def test_headers_have_a_limit() -> None:
    with AzureEmulator(max_header=2000) as azure:
        fits, too_long = b"x" * 1000, b"x" * 3000
        request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: %s\r\n\r\n"
        assert spoken(azure, request % fits)[0] == 404
        status, body = spoken(azure, request % too_long)
    assert status == 400
    assert "headers are too large" in body["error"]["message"]


def test_connections_have_a_limit_and_room_comes_back() -> None:
    with AzureEmulator(max_connections=2) as azure, ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection((azure.host, azure.port))) for _ in range(2)]
        settle(azure, 2)
        refused = httpx2.get(azure.endpoint)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ServiceUnavailable")
        assert refused.headers["retry-after"] == "1"
        opened[0].close()
        settle(azure, 1)
        assert httpx2.get(azure.endpoint).status_code == 404


def settle(azure: AzureEmulator, open_connections: int) -> None:
    """Wait until the server has noticed its connections."""
    for _ in range(500):
        if azure.connections == open_connections:
            return
        time.sleep(0.002)
    raise AssertionError(f"{azure.connections} connections are open")


@pytest.mark.parametrize("limits", [{"max_connections": 0}, {"max_header": 0}])
def test_a_limit_of_nothing_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        AzureEmulator(**limits)  # type: ignore[arg-type]


# ── any JSON at all ──────────────────────────────────────────────────────────────────────

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_PARTS = ["role", "content", "type", "text", "tool_calls", "function", "name", "arguments", "call_id", "id"]
_ITEM = st.dictionaries(
    st.sampled_from([*_PARTS, "output", "image_url", "encrypted_content", "summary", "tool_call_id"]),
    _JSON | st.sampled_from(["user", "assistant", "tool", "message", "function_call", "reasoning"]),
    max_size=4,
)
_ITEMS = [
    "messages",
    "input",
    "tools",
    "tool_choice",
    "stream",
    "stream_options",
    "reasoning",
    "include",
    "text",
]
_VALUES = ["temperature", "max_tokens", "max_output_tokens", "stop", "n", "store", "user", "instructions"]
_MORE = ["previous_response_id", "metadata", "truncation", "top_p", "logit_bias", "parallel_tool_calls"]
_BODY = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(_ITEMS, _JSON | st.lists(_ITEM, max_size=3)),
        **dict.fromkeys([*_VALUES, *_MORE], _JSON),
    },
)


@pytest.fixture(scope="module")
def unplugged() -> AzureEmulator:
    """An emulator that is used without a socket."""
    return AzureEmulator(deployments={"chat": "gpt-4o-2024-11-20", "thinker": "o3"})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    body=_BODY,
    model=st.sampled_from(["chat", "thinker"]),
    api=st.sampled_from(["chat/completions", "responses"]),
)
def test_no_json_makes_it_fail(unplugged: AzureEmulator, body: dict[str, Any], model: str, api: str) -> None:
    async def post() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=unplugged.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://azure") as http:
            headers = {"api-key": unplugged.api_key}
            return await http.post(f"/openai/v1/{api}", json={**body, "model": model}, headers=headers)

    answer = asyncio.run(post())
    assert answer.status_code in {200, 400}, answer.text
    if answer.status_code == 400:
        assert answer.json()["error"]["message"]


def test_nothing_was_logged_for_a_bad_request(
    azure: AzureEmulator, http: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for content in (b"{", b"[]", b'{"messages": [{}]}', b"\xff\xfe", b"[" * 100_000):
            assert http.post(PATH, content=content).status_code == 400
    assert not caplog.records


# ── the marker ───────────────────────────────────────────────────────────────────────────


@pytest.mark.azure_emulator(
    deployments={"chat": "gpt-4.1"}, quotas={"chat": Quota(requests_per_minute=1)}, clock=VirtualClock()
)
def test_the_marker_gives_the_fixture_its_arguments(azure_emulator: AzureEmulator) -> None:
    assert azure_emulator.deployments == {"chat": "gpt-4.1"}
    path = f"{azure_emulator.endpoint}/openai/deployments/chat/chat/completions?api-version=1"
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    answers = [httpx2.post(path, json=body, headers={"api-key": azure_emulator.api_key}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


@pytest.mark.azure_emulator(deployments=["far"], region="westus")
class TestMarked:
    @pytest.mark.azure_emulator(deployments=["near"])
    def test_the_nearest_mark_wins_setting_by_setting(self, azure_emulator: AzureEmulator) -> None:
        assert azure_emulator.deployments == {"near": "near"}
        assert httpx2.get(azure_emulator.endpoint).headers["x-ms-region"] == "westus"


def test_the_marker_is_known_where_markers_are_strict(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import pytest

            @pytest.mark.azure_emulator(deployments=["mine"])
            def test_it(azure_emulator, azure_endpoint):
                assert azure_emulator.deployments == {"mine": "mine"}
                assert azure_endpoint == azure_emulator.endpoint
            """
        ),
        "utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
