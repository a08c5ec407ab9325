"""Credentials of every shape, cached, refreshed, and on the wire exactly once."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any, NamedTuple

import httpx2
import pytest

from loom_py import AzureOpenAIClient, Message
from loom_py.errors import AuthenticationError, ConfigError
from loom_py.llm.azure.auth import TokenSource

SCOPE = "https://cognitiveservices.azure.com/.default"
HELLO = [Message.user("Hello")]
ANSWER = {
    "model": "gpt-4o-2024-11-20",
    "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}


class AccessToken(NamedTuple):
    token: str
    expires_on: float


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Credential:
    """Counts its calls; each token is good for an hour."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: list[tuple[str, ...]] = []

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.calls.append(scopes)
        return AccessToken(f"token-{len(self.calls)}", self.clock.now + 3600)


class AsyncCredential(Credential):
    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:  # type: ignore[override]
        await asyncio.sleep(0.01)
        return super().get_token(*scopes)


@pytest.mark.parametrize("kind", [Credential, AsyncCredential])
async def test_a_token_is_kept_until_five_minutes_before_its_end(kind: type[Credential]) -> None:
    clock = Clock()
    credential = kind(clock)
    source = TokenSource(credential, SCOPE, clock)
    assert [await source.atoken(), await asyncio.to_thread(source.token)] == ["token-1"] * 2
    clock.now += 3600 - 301
    assert await source.atoken() == "token-1"
    clock.now += 1
    assert await source.atoken() == "token-2"
    assert await asyncio.to_thread(source.token) == "token-2"
    assert credential.calls == [(SCOPE,)] * 2


async def test_of_many_calls_without_a_token_one_asks_for_it() -> None:
    credential = AsyncCredential(Clock())
    source = TokenSource(credential, SCOPE, credential.clock)
    assert await asyncio.gather(*(source.atoken() for _ in range(50))) == ["token-1"] * 50
    assert len(credential.calls) == 1


async def test_a_blocking_call_on_the_loop_does_not_wait_for_a_task_of_it() -> None:
    credential = AsyncCredential(Clock())
    source = TokenSource(credential, SCOPE, credential.clock)
    task = asyncio.create_task(source.atoken())
    await asyncio.sleep(0.001)
    assert source.token().startswith("token-")
    assert (await task).startswith("token-")


async def test_slow_provider_functions_run_side_by_side() -> None:
    together = asyncio.Barrier(10)

    async def provide() -> str:
        await together.wait()
        return "token"

    source = TokenSource(provide, SCOPE)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(source.atoken() for _ in range(10))) == ["token"] * 10


async def test_a_blocking_credential_does_not_stop_the_loop() -> None:
    seen: list[str] = []

    def provide() -> str:
        seen.append(threading.current_thread().name)
        return "token"

    assert await TokenSource(provide, SCOPE).atoken() == "token"
    assert seen != [threading.main_thread().name]


async def aprovide() -> str:
    return "Bearer provided"


class AsyncCallable:
    async def __call__(self) -> str:
        return "provided"


@pytest.mark.parametrize(
    "provide",
    [lambda: "provided", lambda: "Bearer provided\n", aprovide, AsyncCallable(), lambda: aprovide()],
)
async def test_any_function_that_gives_a_token_will_do(provide: Any) -> None:
    source = TokenSource(provide, SCOPE)
    assert await source.atoken() == "provided"
    assert await asyncio.to_thread(source.token) == "provided"


@pytest.mark.parametrize("answer", [None, "", "Bearer ", 7, AccessToken("", 1.0)])
def test_no_token_is_an_authentication_error(answer: Any) -> None:
    with pytest.raises(AuthenticationError, match="no token"):
        TokenSource(lambda: answer, SCOPE).token()


def test_an_odd_expiry_only_means_no_cache() -> None:
    credential = Credential(Clock())
    credential.get_token = lambda *_, **__: AccessToken("t", None)  # type: ignore[method-assign,arg-type]
    assert TokenSource(credential, SCOPE).token() == "t"


@pytest.mark.parametrize("thing", ["a-token", object(), 5])
def test_what_is_no_credential_is_refused_without_being_shown(thing: Any) -> None:
    with pytest.raises(ConfigError, match=r"get_token\(\) or be callable") as caught:
        TokenSource(thing, SCOPE)
    assert "a-token" not in str(caught.value)


def test_the_token_is_in_no_repr() -> None:
    source = TokenSource(lambda: "very-secret", SCOPE)
    source.token()
    assert "very-secret" not in repr(source)


# ── on the wire ──────────────────────────────────────────────────────────────────────────


class Wire:
    """A transport that keeps the requests and answers with ``statuses`` in turn, then 200."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[httpx2.Request] = []
        self._statuses = list(statuses)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        status = self._statuses.pop(0) if self._statuses else 200
        body = ANSWER if status == 200 else {"error": {"code": "401", "message": "very-secret-token refused"}}
        return httpx2.Response(status, json=body)

    def client(self, **settings: Any) -> AzureOpenAIClient:
        transport = httpx2.MockTransport(self)
        return AzureOpenAIClient(
            endpoint="https://x.openai.azure.com",
            deployment_id="gpt-4o",
            http_client=httpx2.Client(transport=transport),
            async_http_client=httpx2.AsyncClient(transport=transport),
            **settings,
        )

    def authorizations(self) -> list[list[str]]:
        return [request.headers.get_list("authorization") for request in self.requests]


@pytest.mark.parametrize(
    "settings",
    [
        {"entra_token": "test-token"},
        {"entra_token": "Bearer test-token"},
        {"token_provider": lambda: "test-token"},
        {"credential": lambda: "Bearer test-token"},
    ],
    ids=["token", "bearer", "provider", "credential"],
)
async def test_a_token_travels_once_and_without_a_key(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "key-of-the-environment")
    wire = Wire()
    client = wire.client(**settings)
    await asyncio.to_thread(client.chat, HELLO)
    await client.achat(HELLO)
    assert wire.authorizations() == [["Bearer test-token"]] * 2
    assert not any("api-key" in request.headers for request in wire.requests)


async def test_a_key_travels_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "token-of-the-environment")
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "of-another-service")
    wire = Wire()
    client = wire.client(api_key="test-api-key")
    await asyncio.to_thread(client.chat, HELLO)
    await client.achat(HELLO)
    assert [request.headers.get_list("api-key") for request in wire.requests] == [["test-api-key"]] * 2
    assert wire.authorizations() == [[], []]
    assert not any("of-another-service" in request.headers.values() for request in wire.requests)


def test_of_key_and_token_the_key_wins_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    with caplog.at_level("WARNING", "loom_py"):
        client = wire.client(api_key="test-api-key", entra_token="test-token")
    client.chat(HELLO)
    assert wire.requests[0].headers["api-key"] == "test-api-key"
    assert wire.authorizations() == [[]]
    assert [record.getMessage().split()[0] for record in caplog.records] == ["both_credentials_given"]
    assert "test-api-key" not in caplog.text


async def test_a_credential_that_fails_is_an_authentication_error_on_every_verb() -> None:
    def fail() -> str:
        raise RuntimeError("no identity here")

    wire = Wire()
    client = wire.client(token_provider=fail)
    for verb in (client.chat, lambda m: list(client.stream_chat(m))):
        with pytest.raises(AuthenticationError, match="RuntimeError: no identity here") as caught:
            await asyncio.to_thread(verb, HELLO)
        assert caught.value.deployment == "gpt-4o"
        assert caught.value.__context__ is None
        assert not caught.value.retryable
    with pytest.raises(AuthenticationError, match="no identity here"):
        await client.achat(HELLO)
    with pytest.raises(AuthenticationError, match="no identity here"):
        _ = [event async for event in client.astream_chat(HELLO)]
    assert wire.requests == []


def test_a_token_the_server_refused_is_not_used_again() -> None:
    clock = Clock()
    clock.now = 4e9
    credential = Credential(clock)
    wire = Wire(401)
    client = wire.client(credential=credential)
    client.chat(HELLO)
    client.chat(HELLO)
    assert wire.authorizations() == [["Bearer token-1"], ["Bearer token-2"], ["Bearer token-2"]]


def test_a_refused_token_is_renewed_once_and_not_again() -> None:
    wire = Wire(401, 401, 401)
    with pytest.raises(AuthenticationError):
        wire.client(token_provider=lambda: "token").chat(HELLO)
    assert len(wire.authorizations()) == 2


def test_a_token_that_an_error_echoes_is_masked() -> None:
    client = Wire(401, 401).client(token_provider=lambda: "very-secret-token")
    with pytest.raises(AuthenticationError) as caught:
        client.chat(HELLO)
    assert "very-secret-token" not in f"{caught.value} {caught.value!r} {json.dumps(caught.value.to_dict())}"


def test_only_one_of_credential_and_provider_is_taken() -> None:
    with pytest.raises(ConfigError, match="not both"):
        Wire().client(credential=lambda: "a", token_provider=lambda: "b")
