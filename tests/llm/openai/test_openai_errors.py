"""OpenAI's refusals, as typed errors that say what to do. Bodies as its guide to error codes and public
issues quote them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from loom_py import Message, ScriptedProvider
from loom_py.emulator import OpenAIEmulator, Quota
from loom_py.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    NetworkAccessError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.llm.openai import OpenAIClient
from loom_py.llm.openai.failures import ADVICE
from loom_py.llm.scripted import reply

HELLO = [Message.user("Hello")]
VERBS = ["chat", "achat", "stream_chat", "astream_chat"]
AZURES_WORDS = ("azure", "deployment's", "resource", "entra", "portal", "api_version", "model_name=")


@pytest.fixture
def openai() -> Iterator[OpenAIEmulator]:
    with OpenAIEmulator(ScriptedProvider(["Hi"] * 9)) as emulator:
        yield emulator


async def failure(client: OpenAIClient, verb: str = "chat") -> LoomError:
    with pytest.raises(LoomError) as caught:
        await _ask(client, verb)
    error: LoomError = caught.value
    return error


async def _ask(client: OpenAIClient, verb: str) -> None:
    method = getattr(client, verb)
    if verb == "achat":
        await method(HELLO)
    elif verb == "astream_chat":
        [event async for event in method(HELLO)]
    elif verb == "stream_chat":
        await asyncio.to_thread(lambda: list(method(HELLO)))
    else:
        await asyncio.to_thread(method, HELLO)


def body(message: str, kind: str | None, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


CASES: list[tuple[int, dict[str, Any], type[LoomError], bool, str]] = [
    (
        401,
        body("Incorrect API key provided: sk-ab***yz.", "invalid_request_error", "invalid_api_key"),
        AuthenticationError,
        False,
        "OPENAI_API_KEY",
    ),
    (
        401,
        body("You must be a member of an organization to use the API", "invalid_request_error", None),
        AuthenticationError,
        False,
        "organization=",
    ),
    (
        401,
        body(
            "You have insufficient permissions for this operation. Missing scopes: model.request.",
            "invalid_request_error",
            "missing_scope",
        ),
        AuthenticationError,
        False,
        "restricted",
    ),
    (
        403,
        body(
            "Country, region, or territory not supported",
            "request_forbidden",
            "unsupported_country_region_territory",
        ),
        PermissionDeniedError,
        False,
        "country or region",
    ),
    (
        403,
        body("Project `proj_1` does not have access to model `gpt-4o`", "invalid_request_error", None),
        PermissionDeniedError,
        False,
        "'gpt-4o'",
    ),
    (
        404,
        body(
            "The model `gpt-4o` does not exist or you do not have access to it.",
            "invalid_request_error",
            "model_not_found",
        ),
        DeploymentNotFoundError,
        False,
        "GET /v1/models",
    ),
    (
        404,
        body("Invalid URL (POST /chat/completions)", "invalid_request_error", None),
        NotFoundError,
        False,
        "/v1",
    ),
    (
        429,
        body(
            "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Used"
            " 29000, Requested 2000. Please try again in 2s.",
            "tokens",
            "rate_limit_exceeded",
        ),
        RateLimitError,
        True,
        "",
    ),
    (
        429,
        body(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
        RateLimitError,
        False,
        "billing",
    ),
    (
        429,
        body(
            "Your account is not active, please check your billing details on our website.",
            "billing_not_active",
            "billing_not_active",
        ),
        RateLimitError,
        False,
        "billing",
    ),
    (
        429,
        body(
            "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000,"
            " Requested 50000. The input or output tokens must be reduced in order to run successfully.",
            "tokens",
            "rate_limit_exceeded",
        ),
        RateLimitError,
        False,
        "shorten it",
    ),
    (
        400,
        body(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001"
            " tokens. Please reduce the length of the messages.",
            "invalid_request_error",
            "context_length_exceeded",
            "messages",
        ),
        ContextLengthError,
        False,
        "Shorten",
    ),
    (
        400,
        body(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            "invalid_request_error",
            "invalid_prompt",
        ),
        ContentFilterError,
        False,
        "usage policies",
    ),
    (
        400,
        body("This is not a chat model and thus not supported", "invalid_request_error", None, "model"),
        InvalidRequestError,
        False,
        "no chat model",
    ),
    (
        404,
        body(
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint.", None, None
        ),
        NotFoundError,
        False,
        "no chat model",
    ),
    (
        403,
        body("Your organization must be verified to use the model `gpt-5`.", "invalid_request_error", None),
        PermissionDeniedError,
        False,
        "Verify the organization",
    ),
    (
        401,
        body("Your request IP does not match the configured IP allowlist.", None, "ip_not_authorized"),
        NetworkAccessError,
        False,
        "Add this address",
    ),
    (
        503,
        body("The engine is currently overloaded, please try again later", "server_error", None),
        ServiceUnavailableError,
        True,
        "",
    ),
    (500, body("The server had an error", "server_error", None), ServiceUnavailableError, True, ""),
]


@pytest.mark.parametrize(("status", "answer", "kind", "retryable", "hint"), CASES)
async def test_a_refusal_is_typed_and_says_what_to_do(
    openai: OpenAIEmulator,
    status: int,
    answer: dict[str, Any],
    kind: type[LoomError],
    retryable: bool,
    hint: str,
) -> None:
    openai.fail_next(status, body=answer)
    async with OpenAIClient(**openai.client_kwargs()) as client:
        error = await failure(client)
    assert isinstance(error, kind)
    assert (error.http_status, error.retryable, error.deployment) == (status, retryable, "gpt-4o")
    assert hint in (error.hint or "")
    assert not any(word in (error.hint or "").lower() for word in AZURES_WORDS)
    assert error.request_id is not None
    assert isinstance(error, ProviderError)
    assert error.provider_code == answer["error"]["code"]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_wrong_key_and_a_wrong_model_are_told_apart_by_every_verb(
    openai: OpenAIEmulator, verb: str
) -> None:
    good = openai.client_kwargs()
    async with OpenAIClient(
        model="gpt-4o", api_key="sk-wrong-0123456789", base_url=good["base_url"]
    ) as client:
        error = await failure(client, verb)
    assert isinstance(error, AuthenticationError)
    assert "sk-wrong-0123456789" not in str(error)
    async with OpenAIClient(model="gpt-9", api_key=good["api_key"], base_url=good["base_url"]) as client:
        error = await failure(client, verb)
    assert isinstance(error, DeploymentNotFoundError)
    assert error.hint is not None
    assert "'gpt-9'" in error.hint


@pytest.mark.parametrize(
    "shown", ["sk-proj-0123456789abcdefghij", "sk-proj-********ghij", "sk-...ghij", "0123****ghij"]
)
async def test_nothing_of_a_key_that_a_refusal_echoes_is_told(openai: OpenAIEmulator, shown: str) -> None:
    said = f"Incorrect API key provided: {shown}. You can find your API key at https://platform.openai.com."
    openai.fail_next(401, body=body(said, "invalid_request_error", "invalid_api_key"))
    async with OpenAIClient(
        model="gpt-4o", api_key="sk-proj-0123456789abcdefghij", base_url=openai.base_url
    ) as client:
        error = await failure(client)
    assert error.message.startswith("Incorrect API key provided: ***. You can find")
    assert "ghij" not in f"{error!r}{error.args}{error.to_dict()}"


@pytest.mark.parametrize("verb", VERBS)
async def test_a_model_that_only_responses_has_is_asked_there_once_a_404_said_so(
    openai: OpenAIEmulator, verb: str
) -> None:
    said = "This model is only supported in v1/responses and not in v1/chat/completions."
    openai.fail_next(404, body=body(said, "invalid_request_error", None, "model"))
    async with OpenAIClient(**openai.client_kwargs()) as client:
        await _ask(client, verb)
        await _ask(client, verb)
    paths = [request.path for request in openai.requests]
    assert paths == ["/v1/chat/completions", "/v1/responses", "/v1/responses"]


async def test_a_parameter_that_a_search_model_refuses_is_left_out(openai: OpenAIEmulator) -> None:
    openai.fail_next(400, body=body("Model incompatible request argument supplied: temperature", None, None))
    async with OpenAIClient(**openai.client_kwargs()) as client:
        client.chat(HELLO)
    assert ["temperature" in request.body for request in openai.requests] == [True, False]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after-ms": "1500", "retry-after": "1"}, 1.5),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-reset-tokens": "120ms"}, 360.0),
        ({"x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
    ],
)
async def test_the_wait_of_a_429_is_read_from_openais_headers(
    openai: OpenAIEmulator, headers: dict[str, str], wait: float
) -> None:
    openai.fail_next(429, headers=headers, body=body("Slow down", "requests", "rate_limit_exceeded"))
    async with OpenAIClient(**openai.client_kwargs()) as client:
        error = await failure(client)
    assert error.retry_after == wait


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Rate limit reached on tokens per min (TPM): Limit 1. Please try again in 6m0s.", "tokens"),
        ("Rate limit reached on requests per min (RPM): Limit 1. Please try again in 6m0s.", "requests"),
        ("Rate limit reached on requests per day (RPD): Limit 1. Please try again in 6m0s.", "daily"),
    ],
)
async def test_the_text_of_a_429_tells_which_limit_it_was_and_how_long(
    openai: OpenAIEmulator, text: str, kind: str
) -> None:
    openai.fail_next(429, body=body(text, None, "rate_limit_exceeded"))
    async with OpenAIClient(**openai.client_kwargs()) as client:
        error = await failure(client)
    assert isinstance(error, RateLimitError)
    assert (error.kind, error.retry_after) == (kind, 360.0)


async def test_a_quota_that_is_used_up_is_refused_in_openais_words() -> None:
    quotas = {"gpt-4o": Quota(tokens_per_minute=100_000, requests_per_minute=1)}
    with OpenAIEmulator(quotas=quotas) as openai:
        async with OpenAIClient(**openai.client_kwargs()) as client:
            client.chat(HELLO)
            error = await failure(client)
    assert isinstance(error, RateLimitError)
    assert error.message.startswith("Rate limit reached for gpt-4o in organization")
    assert error.kind == "requests"
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 61


@pytest.mark.parametrize("verb", ["stream_chat", "astream_chat"])
@pytest.mark.parametrize("surface", ["chat", "responses"])
async def test_a_stream_that_breaks_off_keeps_what_had_come(verb: str, surface: Any) -> None:
    with OpenAIEmulator(ScriptedProvider(["one two three four five six"])) as openai:
        openai.cut_next_stream(7)
        async with OpenAIClient(**openai.client_kwargs(), surface=surface) as client:
            error = await failure(client, verb)
    assert isinstance(error, StreamInterruptedError)
    assert error.partial_text.startswith("one ")


async def test_a_web_page_instead_of_an_answer_points_to_the_base_url(openai: OpenAIEmulator) -> None:
    openai.answer_next(body="<html>Welcome</html>", headers={"content-type": "text/html"})
    async with OpenAIClient(**openai.client_kwargs()) as client:
        error = await failure(client)
    assert isinstance(error, MalformedResponseError)
    assert error.hint == "Check that base_url= is an API and not a web page or a proxy's."


async def test_a_refusal_of_the_model_is_its_answer(openai: OpenAIEmulator) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "model": "gpt-4o"}
    openai.answer_next(body=answer)
    async with OpenAIClient(**openai.client_kwargs()) as client:
        response = client.chat(HELLO)
    assert response.message == response.metadata["refusal"] == "I can't help with that."


async def test_an_answer_that_the_filter_stopped_is_an_error_with_its_text() -> None:
    with OpenAIEmulator(ScriptedProvider([reply("half", finish_reason="content_filter")])) as openai:
        async with OpenAIClient(**openai.client_kwargs()) as client:
            error = await failure(client)
    assert isinstance(error, ContentFilterError)
    assert (error.side, error.partial_text, error.categories) == ("completion", "half", {})


async def test_a_failing_function_for_the_key_keeps_its_own_words(openai: OpenAIEmulator) -> None:
    def key() -> str:
        raise OSError("the vault is shut")

    async with OpenAIClient(model="gpt-4o", api_key=key, base_url=openai.base_url) as client:
        error = await failure(client)
    assert isinstance(error, AuthenticationError)
    assert "the vault is shut" in error.message
    assert "OPENAI_API_KEY" not in (error.hint or "")
    assert openai.requests == []


def test_no_advice_speaks_of_azure() -> None:
    said = " ".join(row.advice or "" for row in ADVICE).lower()
    assert not any(word in said for word in AZURES_WORDS)
