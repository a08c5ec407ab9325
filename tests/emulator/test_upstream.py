"""Passing requests on to a real endpoint, recording them, and replaying the recording."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AzureOpenAI, OpenAI

from loom_py.emulator import AzureEmulator, AzureUpstream, FaultPlan, FaultRule
from loom_py.emulator.cassette import MASK, Cassette, Recording, Scrubber, load_cassette
from loom_py.errors import ConfigError
from loom_py.llm.scripted import ScriptedProvider

DEPLOYMENT = "gpt-4o-deployment"
PATH = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21"
KEY = "real-upstream-key-0123456789"
CLIENT_KEY = "client-side-key-987654321"


@pytest.fixture
def real() -> Iterator[AzureEmulator]:
    """Stands in for the real endpoint."""
    with AzureEmulator(api_keys=[KEY]) as emulator:
        yield emulator


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return tmp_path / "tape.jsonl"


@contextmanager
def proxy(engine: AzureUpstream, **settings: Any) -> Iterator[httpx2.Client]:
    with (
        AzureEmulator(engine, api_keys=[CLIENT_KEY], **settings) as azure,
        httpx2.Client(base_url=azure.endpoint, headers={"api-key": CLIENT_KEY}, verify=False) as http,
    ):
        yield http


def body(text: str = "Hello there", **fields: Any) -> Any:
    return {"messages": [{"role": "user", "content": text}], **fields}


def recorded(real: AzureEmulator, tape: Path, *bodies: Any) -> list[httpx2.Response]:
    with proxy(AzureUpstream(real.endpoint, api_key=KEY, cassette=tape)) as http:
        return [http.post(PATH, json=item) for item in bodies]


# ── passing on ───────────────────────────────────────────────────────────────────────────


def test_requests_are_passed_on_with_the_upstreams_key(real: AzureEmulator) -> None:
    with proxy(AzureUpstream(real.endpoint, api_key=KEY)) as http:
        answer = http.post(PATH, json=body(), headers={"x-ms-client-request-id": "mine"})
    assert answer.json()["choices"][0]["message"]["content"] == "Hello there"
    assert answer.headers["x-ms-served-model"] == "gpt-4o-2024-11-20"
    (request,) = real.requests
    assert (request.query, request.body) == ({"api-version": "2024-10-21"}, body())
    assert request.headers["x-ms-client-request-id"] == "mine"
    assert request.headers["accept-encoding"] == "identity"  # a cassette is to be readable


def test_a_token_may_be_sent_instead_of_a_key(real: AzureEmulator) -> None:
    with proxy(AzureUpstream(real.endpoint, token=real.issue_token())) as http:
        assert http.post(PATH, json=body()).status_code == 200
    assert "api-key" not in real.requests[0].headers


def test_the_emulator_still_wants_its_own_key(real: AzureEmulator) -> None:
    with proxy(AzureUpstream(real.endpoint, api_key=KEY)) as http:
        assert http.post(PATH, json=body(), headers={"api-key": "wrong"}).status_code == 401
    assert real.requests == []


def test_errors_are_passed_on_as_they_are(real: AzureEmulator) -> None:
    real.faults = FaultPlan(rules=[FaultRule(error="429-2026", nth=1), FaultRule(error="504-html", nth=2)])
    with proxy(AzureUpstream(real.endpoint, api_key=KEY)) as http:
        limited, broken = http.post(PATH, json=body()), http.post(PATH, json=body())
    assert (limited.status_code, limited.headers["retry-after-ms"]) == (429, "0")
    assert (broken.status_code, broken.headers["content-type"]) == (504, "text/html")


@pytest.mark.parametrize("path", ["/openai/v1/responses", "/openai/v1/models", "/openai/nowhere"])
def test_any_path_is_passed_on(real: AzureEmulator, path: str) -> None:
    with proxy(AzureUpstream(real.endpoint, api_key=KEY)) as http:
        answer = http.post(path, json={"model": DEPLOYMENT, "input": "Hi"})
    assert answer.status_code == (200 if path.endswith("responses") else 404)
    assert real.requests[0].path == path


def test_an_upstream_that_is_not_there_is_502() -> None:
    with AzureEmulator() as gone:
        endpoint = gone.endpoint
    with proxy(AzureUpstream(endpoint, api_key=KEY)) as http:
        answer = http.post(PATH, json=body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "UpstreamUnreachable")
    assert KEY not in answer.text


def test_a_stream_that_breaks_off_upstream_breaks_off_here(real: AzureEmulator, tape: Path) -> None:
    real.cut_next_stream(3)
    engine = AzureUpstream(real.endpoint, api_key=KEY, cassette=tape)
    with proxy(engine) as http, pytest.raises(httpx2.RemoteProtocolError):
        http.post(PATH, json=body(stream=True))
    (recording,) = load_cassette(tape)
    assert not recording.whole
    with proxy(AzureUpstream(replay=tape)) as http, pytest.raises(httpx2.RemoteProtocolError):
        http.post(PATH, json=body(stream=True))


def test_scripted_faults_strike_before_the_upstream(real: AzureEmulator) -> None:
    plan = FaultPlan(rules=[FaultRule(error="503-empty", nth=1)])
    with proxy(AzureUpstream(real.endpoint, api_key=KEY), faults=plan) as http:
        assert [http.post(PATH, json=body()).status_code for _ in range(2)] == [503, 200]


# ── recording ────────────────────────────────────────────────────────────────────────────


def test_a_cassette_has_one_exchange_a_line(real: AzureEmulator, tape: Path) -> None:
    recorded(real, tape, body("one"), body("two", stream=True))
    lines = [json.loads(line) for line in tape.read_text("utf-8").splitlines()]
    assert [line["request"]["body"]["messages"][0]["content"] for line in lines] == ["one", "two"]
    assert lines[0]["request"]["path"] == PATH.partition("?")[0]
    assert lines[0]["request"]["query"] == {"api-version": "2024-10-21"}
    assert lines[0]["response"]["status"] == 200
    assert lines[0]["response"]["headers"]["x-ms-served-model"] == "gpt-4o-2024-11-20"
    assert "".join(lines[1]["response"]["chunks"]).endswith("data: [DONE]\n\n")


def test_no_secret_gets_into_a_cassette(real: AzureEmulator, tape: Path) -> None:
    real.engine = ScriptedProvider([f"your key is {KEY}", f"and yours {CLIENT_KEY}"])
    token = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJhenVyZSJ9.c2lnbmF0dXJlc2lnbmF0dXJl"
    engine = AzureUpstream(real.endpoint, api_key=KEY, cassette=tape)
    with proxy(engine) as http:
        headers = {"cookie": "session=c00kie", "x-note": f"{KEY} {token}"}
        path = f"{PATH}&sig=s1gnature&note={CLIENT_KEY}"
        fields = {"user": KEY, "metadata": {CLIENT_KEY: f"Bearer {token}"}}
        http.post(path, json=body(CLIENT_KEY, **fields), headers=headers)
        http.post(path, json=body(stream=True), headers=headers)
    text = tape.read_text("utf-8")
    for secret in (KEY, CLIENT_KEY, token, "c00kie", "s1gnature"):
        assert secret not in text
    assert text.count(MASK) > 5
    assert KEY not in repr(engine)
    assert KEY not in repr(vars(engine)["_replay"])


@given(
    st.binary(max_size=60), st.integers(0, 60), st.integers(0, 60), st.text('ab"\\é€', min_size=4, max_size=8)
)
def test_a_secret_cut_in_two_is_found(noise: bytes, at: int, cut: int, secret: str) -> None:
    data = noise[:at] + secret.encode() + noise[at:]
    cleaned = b"".join(Scrubber([secret]).chunks([data[:cut], data[cut:]]))
    assert secret.encode() not in cleaned


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_chunks_without_secrets_keep_their_boundaries(chunks: list[bytes]) -> None:
    assert Scrubber(["a-secret-that-is-nowhere-in-the-noise-at-all-1234567890"]).chunks(chunks) == chunks
    recording = Recording("POST", "/p", {}, {"a": 1}, 200, {"x": "y"}, tuple(chunks))
    assert Recording.from_json(recording.to_json()) == recording


# ── replay ───────────────────────────────────────────────────────────────────────────────


def test_a_recording_replays_without_the_endpoint(real: AzureEmulator, tape: Path) -> None:
    bodies = [body("one"), body("two", stream=True)]
    originals = recorded(real, tape, *bodies)
    real.stop()
    engine = AzureUpstream(replay=tape)
    with proxy(engine) as http:
        replayed = [http.post(PATH, json=item) for item in bodies]
    assert [answer.content for answer in replayed] == [answer.content for answer in originals]
    assert replayed[0].headers["apim-request-id"] == originals[0].headers["apim-request-id"]
    assert replayed[1].headers["content-type"].startswith("text/event-stream")
    assert engine.remaining == 0


def test_the_sdk_cannot_tell_a_replay_from_the_real_thing(real: AzureEmulator, tape: Path) -> None:
    def ask(endpoint: str, key: str) -> list[str]:
        with (
            AzureOpenAI(azure_endpoint=endpoint, api_key=key, api_version="1", max_retries=0) as classic,
            OpenAI(base_url=f"{endpoint}/openai/v1/", api_key=key, max_retries=0) as v1,
        ):
            messages: Any = [{"role": "user", "content": "Hello there"}]
            stream = classic.chat.completions.create(model=DEPLOYMENT, messages=messages, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
            return [text, v1.responses.create(model=DEPLOYMENT, input="Hi").output_text]

    with AzureEmulator(AzureUpstream(real.endpoint, api_key=KEY, cassette=tape)) as azure:
        first = ask(azure.endpoint, azure.api_key)
    with AzureEmulator(AzureUpstream(replay=tape)) as azure:
        assert ask(azure.endpoint, azure.api_key) == first == ["Hello there", "Hi"]


def test_a_replay_keeps_the_boundaries_of_chunks(tape: Path) -> None:
    chunks = (b"data: {}\n", b"\ndata: \xe2\x82", b"\xac\n\n", b"data: [DONE]\n\n")
    recording = Recording("POST", PATH.partition("?")[0], {}, body(), 200, {}, chunks)
    tape.write_text(recording.to_json() + "\n", "utf-8")
    (loaded,) = load_cassette(tape)
    assert loaded.chunks == chunks
    with proxy(AzureUpstream(replay=tape)) as http:
        assert http.post(PATH, json=body()).content == b"".join(chunks)


def test_a_strict_replay_says_what_differs(real: AzureEmulator, tape: Path) -> None:
    recorded(real, tape, body("one"))
    with proxy(AzureUpstream(replay=tape)) as http:
        other = http.post(PATH, json=body("two", seed=1))
        elsewhere = http.post("/openai/v1/responses", json=body("one"))
        right = http.post(PATH, json=body("one"))
        beyond = http.post(PATH, json=body("one"))
    assert (other.status_code, other.json()["error"]["code"]) == (500, "CassetteMismatch")
    assert "the body differs in messages, seed" in other.json()["error"]["message"]
    assert "expected POST /openai/deployments/" in elsewhere.json()["error"]["message"]
    assert right.status_code == 200
    assert "all 1 exchanges" in beyond.json()["error"]["message"]


def test_a_request_with_a_secret_matches_its_scrubbed_recording(real: AzureEmulator, tape: Path) -> None:
    recorded(real, tape, body("Hi", user=CLIENT_KEY))
    with proxy(AzureUpstream(replay=tape)) as http:
        assert http.post(PATH, json=body("Hi", user=CLIENT_KEY)).status_code == 200


def test_the_best_match_is_the_most_similar_body_of_that_path(real: AzureEmulator, tape: Path) -> None:
    recorded(real, tape, body("the weather in Oslo"), body("the price of bread"))
    with proxy(AzureUpstream(replay=tape, match="best")) as http:

        def ask(text: str) -> str:
            answer = http.post(PATH, json=body(text)).json()
            return str(answer["choices"][0]["message"]["content"])

        assert ask("the price of milk") == "the price of bread"
        assert ask("the weather in Bergen") == "the weather in Oslo"
        assert ask("the price of bread") == "the price of bread"  # again
        assert http.post("/openai/v1/responses", json=body("x")).status_code == 500


def test_of_equal_matches_the_unused_come_first(tape: Path) -> None:
    recordings = [
        Recording("POST", "/p", {}, {"a": 1}, 200, {}, (str(number).encode(),)) for number in range(3)
    ]
    tape.write_text("\n".join(recording.to_json() for recording in recordings), "utf-8")
    cassette = Cassette(tape, strict=False)
    assert [cassette.take("POST", "/p", {"a": 1}).chunks[0] for _ in range(4)] == [b"0", b"1", b"2", b"0"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "either endpoint= or replay="),
        ({"endpoint": "http://x", "replay": "y"}, "either endpoint= or replay="),
        ({"endpoint": "ftp://x"}, "http"),
        ({"endpoint": "http://x", "match": "worst"}, "strict"),
        ({"replay": "/no/such/tape.jsonl"}, "cannot be read"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        AzureUpstream(**settings)


@pytest.mark.parametrize("line", ["{", "[]", '{"request": {}}', '{"request": 1, "response": 2}'])
def test_a_bad_line_of_a_cassette_is_named(tape: Path, line: str) -> None:
    tape.write_text(f"\n{line}\n", "utf-8")
    with pytest.raises(ConfigError, match="line 2 of the cassette"):
        AzureUpstream(replay=tape)


def test_the_command_records_an_upstream_and_replays_it(real: AzureEmulator, tape: Path) -> None:
    specs = [
        ["--engine", f"upstream:{real.endpoint}", "--cassette", str(tape)],
        ["--engine", f"replay:{tape}"],
    ]
    answers = [commanded(*spec) for spec in specs]
    assert answers[0] == answers[1]
    assert b"Hello there" in answers[0]
    assert len(real.requests) == 1
    assert KEY not in tape.read_text("utf-8")


def commanded(*arguments: str) -> bytes:
    """What a server started by the command answers to one request."""
    command = [sys.executable, "-W", "error", "-m", "loom_py.emulator", "--port", "0", *arguments]
    env = {**os.environ, "AZURE_OPENAI_API_KEY": KEY}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().split()[1]
            answer = httpx2.post(f"{endpoint}{PATH}", json=body(), headers={"api-key": "emulator-key"})
            assert answer.status_code == 200
            return answer.content
        finally:
            process.terminate()
