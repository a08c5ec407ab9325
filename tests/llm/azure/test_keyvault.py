"""Keys that are not in the settings: from a function, and from Azure Key Vault."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import structlog

from loom_py import AzureOpenAIClient, KeyVaultSecret, Message
from loom_py.errors import AuthenticationError, ConfigError, LoomError, MissingDependencyError

HELLO = [Message.user("Hello")]
ANSWER = {"model": "gpt-4o", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
every_verb = pytest.mark.parametrize("verb", ["chat", "achat", "stream_chat", "astream_chat"])
both_apis = pytest.mark.parametrize("api", ["classic", "v1"])


class Vault:
    """A secret client; ``value`` is what the vault holds now."""

    def __init__(self, value: str | None = "key-number-one") -> None:
        self.value = value
        self.reads: list[str] = []

    def get_secret(self, name: str) -> Any:
        self.reads.append(name)
        return SimpleNamespace(value=self.value)


class AsyncVault(Vault):
    async def get_secret(self, name: str) -> Any:
        await asyncio.sleep(0)
        return super().get_secret(name)


class Azure:
    """Takes one key only, on both APIs, and keeps what it was sent."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.seen: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        sent = request.headers.get("api-key") or bearer
        self.seen.append(sent)
        if sent != self.key:
            message = f"Access denied due to invalid subscription key {sent} or wrong API endpoint."
            return httpx2.Response(401, json={"error": {"code": "401", "message": message}})
        return httpx2.Response(200, json=ANSWER)

    def client(self, **settings: Any) -> AzureOpenAIClient:
        transport = httpx2.MockTransport(self)
        return AzureOpenAIClient(
            endpoint="https://contoso.openai.azure.com",
            deployment_id="gpt-4o",
            http_client=httpx2.Client(transport=transport),
            async_http_client=httpx2.AsyncClient(transport=transport),
            **settings,
        )


async def ask(client: AzureOpenAIClient, verb: str) -> None:
    call = getattr(client, verb)
    if verb == "achat":
        await call(HELLO)
    elif verb == "astream_chat":
        [event async for event in call(HELLO)]
    else:
        list(call(HELLO)) if verb == "stream_chat" else call(HELLO)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


# ── a function ───────────────────────────────────────────────────────────────────────────


@every_verb
@both_apis
async def test_a_key_from_a_function_is_asked_for_each_call(verb: str, api: Any) -> None:
    keys = iter(["first-key", "second-key"])
    azure = Azure("first-key")
    client = azure.client(api_key=lambda: next(keys), api=api)
    await ask(client, verb)
    azure.key = "second-key"
    await ask(client, verb)
    assert azure.seen == ["first-key", "second-key"]


@every_verb
@both_apis
async def test_a_key_from_a_coroutine_function_works_on_every_verb(verb: str, api: Any) -> None:
    async def key() -> str:
        await asyncio.sleep(0)
        return "first-key"

    azure = Azure("first-key")
    await ask(azure.client(api_key=key, api=api), verb)
    assert azure.seen == ["first-key"]


@every_verb
async def test_a_rotated_key_is_asked_for_again_when_azure_refuses_the_old_one(verb: str) -> None:
    keys = iter(["old-key-000", "new-key-000"])
    azure = Azure("new-key-000")
    await ask(azure.client(api_key=lambda: next(keys)), verb)
    assert azure.seen == ["old-key-000", "new-key-000"]


def test_a_function_that_gives_no_key_is_an_error_of_ours() -> None:
    azure = Azure("x")
    with pytest.raises(AuthenticationError, match="gave no"):
        azure.client(api_key=lambda: "").chat(HELLO)
    assert azure.seen == []


# ── key vault ────────────────────────────────────────────────────────────────────────────


@every_verb
@both_apis
@pytest.mark.parametrize("kind", [Vault, AsyncVault])
async def test_a_key_is_read_from_the_vault_once_and_kept(verb: str, api: Any, kind: type[Vault]) -> None:
    vault, azure = kind(), Azure("key-number-one")
    client = azure.client(api_key=KeyVaultSecret("contoso-kv", "openai-key", client=vault), api=api)
    for _ in range(3):
        await ask(client, verb)
    assert vault.reads == ["openai-key"]
    assert azure.seen == ["key-number-one"] * 3


def test_a_key_is_read_again_after_its_time() -> None:
    vault, azure, clock = Vault(), Azure("key-number-one"), Clock()
    secret = KeyVaultSecret("kv", "k", client=vault, refresh_after=60, clock=clock)
    assert secret.get_token("").expires_on == pytest.approx(clock.now + 60 + 300)
    client = azure.client(api_key=KeyVaultSecret("kv", "k", client=vault, refresh_after=0))
    client.chat(HELLO)
    vault.value = azure.key = "key-number-two"
    client.chat(HELLO)
    assert azure.seen[-1] == "key-number-two"


@every_verb
@both_apis
async def test_a_key_that_was_rotated_is_read_again_when_azure_refuses_it(verb: str, api: Any) -> None:
    vault, azure = Vault(), Azure("key-number-one")
    client = azure.client(api_key=KeyVaultSecret("kv", "k", client=vault), api=api)
    await ask(client, verb)
    vault.value = azure.key = "key-number-two"
    await ask(client, verb)
    await ask(client, verb)
    assert azure.seen == ["key-number-one", "key-number-one", "key-number-two", "key-number-two"]
    assert len(vault.reads) == 2


async def test_a_hundred_calls_with_a_rotated_key_read_it_once() -> None:
    vault, azure = Vault(), Azure("key-number-one")
    client = azure.client(api_key=KeyVaultSecret("kv", "k", client=vault))
    await client.achat(HELLO)
    vault.value = azure.key = "key-number-two"
    await asyncio.gather(*(client.achat(HELLO) for _ in range(100)))
    assert len(vault.reads) == 2


@pytest.mark.parametrize(
    ("vault", "url"),
    [
        ("contoso-kv", "https://contoso-kv.vault.azure.net"),
        ("contoso-kv.vault.azure.net", "https://contoso-kv.vault.azure.net"),
        ("contoso-kv.vault.usgovcloudapi.net", "https://contoso-kv.vault.usgovcloudapi.net"),
        ("https://contoso-kv.vault.azure.net/", "https://contoso-kv.vault.azure.net"),
    ],
)
def test_a_vault_is_named_or_given_by_its_url(vault: str, url: str) -> None:
    assert KeyVaultSecret(vault, "k").vault == url


@pytest.mark.parametrize(("vault", "name"), [("", "k"), ("kv", " ")])
def test_a_vault_and_a_secret_must_be_named(vault: str, name: str) -> None:
    with pytest.raises(ConfigError, match="KeyVaultSecret needs"):
        KeyVaultSecret(vault, name)


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_secret_is_an_error_that_says_so(value: str | None) -> None:
    azure = Azure("x")
    with pytest.raises(AuthenticationError, match="gave no"):
        azure.client(api_key=KeyVaultSecret("kv", "k", client=Vault(value))).chat(HELLO)
    assert azure.seen == []


def test_a_vault_that_cannot_be_read_is_an_authentication_error() -> None:
    class Broken:
        def get_secret(self, name: str) -> Any:
            raise RuntimeError(f"no secret {name}")

    with pytest.raises(AuthenticationError, match="no secret k"):
        Azure("x").client(api_key=KeyVaultSecret("kv", "k", client=Broken())).chat(HELLO)


def test_a_missing_package_keeps_its_own_hint() -> None:
    class Missing:
        def get_secret(self, name: str) -> Any:
            raise MissingDependencyError("azure-keyvault-secrets is missing", hint="pip install it")

    with pytest.raises(MissingDependencyError) as caught:
        Azure("x").client(api_key=KeyVaultSecret("kv", "k", client=Missing())).chat(HELLO)
    assert caught.value.hint == "pip install it"


@every_verb
@both_apis
async def test_no_text_ever_holds_the_key(verb: str, api: Any) -> None:
    printed: list[str] = []
    azure = Azure("another")
    secret = KeyVaultSecret("kv", "k", client=Vault())
    client = azure.client(api_key=secret, api=api, wire_debug=printed.append)
    with structlog.testing.capture_logs() as logs, pytest.raises(LoomError) as caught:
        await ask(client, verb)
    texts = [str(caught.value), repr(caught.value), json.dumps(caught.value.to_dict()), *printed]
    texts += [repr(logs), repr(client), repr(secret), str(client.describe()), repr(client.describe())]
    assert azure.seen == ["key-number-one"] * 2
    assert not any("key-number-one" in text for text in texts)
    assert "***" in caught.value.message


def test_the_key_wins_over_a_credential_and_the_log_says_so() -> None:
    azure = Azure("first-key")
    with structlog.testing.capture_logs() as logs:
        client = azure.client(api_key=lambda: "first-key", token_provider=lambda: "a-token")
    client.chat(HELLO)
    assert [log["event"] for log in logs] == ["both_credentials_given"]


def test_what_the_environment_holds_for_another_service_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer of-another\nX-Other: 1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "of-the-environment")
    sent: list[httpx2.Request] = []

    def keep(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json=ANSWER)

    for endpoint in ("https://contoso.openai.azure.com", "https://contoso.openai.azure.com/openai/v1"):
        AzureOpenAIClient(
            endpoint=endpoint,
            deployment_id="gpt-4o",
            api_key="my-own-key",
            http_client=httpx2.Client(transport=httpx2.MockTransport(keep)),
        ).chat(HELLO)
    classic, v1 = sent
    assert classic.headers["api-key"] == "my-own-key"
    assert "authorization" not in classic.headers
    assert v1.headers["authorization"] == "Bearer my-own-key"
    for request in sent:
        assert not {"x-other", "openai-organization"} & set(request.headers)
