"""Wordings and shapes of refusals beyond the recorded ones, each understood."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from loom_py import AzureOpenAIClient, Message
from loom_py.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    InvalidRequestError,
    LoomError,
    NetworkAccessError,
    PermissionDeniedError,
    RateLimitError,
    ServiceUnavailableError,
    UnsupportedParameterError,
)
from loom_py.llm.azure.errors import error_from_answer
from loom_py.llm.azure.wire import decode_usage

HELLO = [Message.user("Hello")]


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Any:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return error_from_answer(status, {key.replace("_", "-"): value for key, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("message", "wait", "kind"),
    [
        (
            "Rate limit of 50 per 86400s exceeded. Please wait 40000 seconds before retrying.",
            40000.0,
            "daily",
        ),
        ("Please wait 12 seconds before retrying.", 12.0, None),
        ("Too many requests. Retry after: 20 seconds", 20.0, None),
        ("Token limit is exceeded. Try again in 15 seconds.", 15.0, "tokens"),
        ("The provisioned utilization is at 100%.", None, "capacity"),
    ],
)
def test_the_wait_and_the_kind_of_a_429_are_read(message: str, wait: float | None, kind: str | None) -> None:
    error = refusal(429, message)
    assert (type(error), error.retry_after, error.kind) == (RateLimitError, wait, kind)


def test_a_quota_that_is_used_up_is_not_worth_another_try() -> None:
    error = refusal(429, "You exceeded your current quota.", "insufficient_quota")
    assert type(error) is RateLimitError
    assert error.retryable is False
    assert "waiting does not help" in str(error.hint)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "hint"),
    [
        (401, None, "Token tenant a does not match resource tenant.", AuthenticationError, "another tenant"),
        (403, "AuthenticationTypeDisabled", "Disabled.", PermissionDeniedError, "credential="),
        (
            403,
            None,
            "Key based authentication is disabled for this resource.",
            PermissionDeniedError,
            "credential=",
        ),
        (
            403,
            None,
            "Out of call volume quota. Quota will be replenished in 2.03:18:16.",
            RateLimitError,
            "quota",
        ),
        (403, None, "Caller IP 10.0.0.9 is not allowed.", NetworkAccessError, "address"),
        (403, None, "The subscription is disabled.", PermissionDeniedError, "subscription"),
        (
            404,
            "model_not_found",
            "The model 'foo' does not exist.",
            DeploymentNotFoundError,
            "deployment's name",
        ),
        (404, None, "unknown model", DeploymentNotFoundError, "deployment's name"),
        (400, None, "API version not supported", InvalidRequestError, "api_version="),
        (
            400,
            None,
            "Invalid 'tools[0].name': bad pattern.",
            InvalidRequestError,
            "Name tools",
        ),
    ],
)
def test_a_refusal_gets_its_own_hint(
    status: int, code: str | None, message: str, kind: type[LoomError], hint: str
) -> None:
    error = refusal(status, message, code)
    assert type(error) is kind
    assert hint in str(error.hint)


def test_the_limit_in_the_newer_wording_of_too_long_is_read() -> None:
    message = (
        "Input tokens exceed the configured limit of 272000 tokens."
        " Your messages resulted in 300123 tokens. Please reduce the length of the messages."
    )
    error = refusal(400, message)
    assert type(error) is ContextLengthError
    assert (error.limit, error.used) == (272_000, 300_123)


def test_a_parameter_named_only_in_the_message_is_learned_from() -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        if "temperature" in sent[-1]:
            message = "Unsupported parameter: 'temperature' is not supported with this model."
            return httpx2.Response(400, json={"error": {"message": message, "param": None, "code": None}})
        choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
        return httpx2.Response(200, json={"model": "o3", "choices": [choice]})

    client = client_of(answer, temperature=0.2)
    assert client.chat(HELLO).message == "Hi"
    assert [("temperature" in body) for body in sent] == [True, False]
    assert type(refusal(400, "Unsupported parameter: 'top_p' is not supported with this model.")) is (
        UnsupportedParameterError
    )


def client_of(handler: Any, **settings: Any) -> AzureOpenAIClient:
    transport = httpx2.MockTransport(handler)
    return AzureOpenAIClient(
        endpoint="https://x.openai.azure.com",
        deployment_id="prod-chat",
        api_key="a-key",
        http_client=httpx2.Client(transport=transport),
        **settings,
    )


FLAT = {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 5 seconds."}


@pytest.mark.parametrize("surface", ["chat", "responses"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (FLAT, RateLimitError),
        ({"statusCode": 401, "message": "Unauthorized. Access token is missing."}, AuthenticationError),
        ({"code": "server_error", "message": "boom"}, ServiceUnavailableError),
    ],
)
def test_a_gateway_s_flat_error_with_status_200_is_an_error(
    surface: Any, stream: bool, body: dict[str, Any], kind: type[LoomError]
) -> None:
    content = f"data: {json.dumps(body)}\n\n" if stream else json.dumps(body)
    client = client_of(lambda _: httpx2.Response(200, text=content), surface=surface)
    with pytest.raises(LoomError) as caught:
        list(client.stream_chat(HELLO)) if stream else client.chat(HELLO)
    assert type(caught.value) is kind
    if kind is RateLimitError:
        assert caught.value.retry_after == 5.0


def test_a_verdict_that_blocked_blocks_a_whole_answer_too() -> None:
    choice = {
        "index": 0,
        "message": {"content": "bad"},
        "finish_reason": "stop",
        "content_filter_results": {"hate": {"filtered": True, "severity": "high"}},
    }
    client = client_of(lambda _: httpx2.Response(200, json={"model": "gpt-4o", "choices": [choice]}))
    for ask in (client.chat, lambda messages: list(client.stream_chat(messages))):
        with pytest.raises(ContentFilterError) as caught:
            ask(HELLO)
        assert (caught.value.filtered, caught.value.partial_text) == (("hate",), "bad")


def test_counts_that_came_as_text_are_counted() -> None:
    usage = decode_usage({"prompt_tokens": "5", "completion_tokens": 3})
    assert usage is not None
    assert (usage.input, usage.output) == (5, 3)


def test_wire_debug_masks_what_is_called_a_secret_wherever_it_stands() -> None:
    from loom_py import ChatOptions

    shown: list[str] = []
    answer = {"model": "gpt-4o", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    client = client_of(lambda _: httpx2.Response(200, json=answer), wire_debug=shown.append)
    options = ChatOptions(
        extra_headers={"X-Custom-Token": "OTHERSECRET"},
        extra_body={"data_sources": [{"authentication": {"key": "OTHERSECRET"}}]},
        max_tokens=77,
    )
    client.chat(HELLO, options=options)
    text = "\n".join(shown)
    assert "OTHERSECRET" not in text
    assert '"max_completion_tokens":77' in text
    assert "a-key" not in text


class BreaksOff(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that ends in the middle, as of a connection that is lost."""

    def __iter__(self) -> Any:
        yield b'{"error": {"mess'
        raise httpx2.ReadError("connection lost")

    async def __aiter__(self) -> Any:
        yield b'{"error": {"mess'
        raise httpx2.ReadError("connection lost")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, RateLimitError), (401, AuthenticationError), (500, ServiceUnavailableError)],
)
async def test_a_refusal_whose_body_breaks_off_keeps_its_status_and_wait(
    status: int, kind: type[LoomError]
) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"retry-after": "4"}, stream=BreaksOff())

    transport = httpx2.MockTransport(answer)
    client = AzureOpenAIClient(
        endpoint="https://x.openai.azure.com",
        deployment_id="gpt-4o",
        api_key="a-key",
        http_client=httpx2.Client(transport=transport),
        async_http_client=httpx2.AsyncClient(transport=transport),
    )
    caught: list[LoomError] = []
    for ask in (client.chat, lambda messages: list(client.stream_chat(messages))):
        with pytest.raises(LoomError) as blocking:
            ask(HELLO)
        caught.append(blocking.value)
    with pytest.raises(LoomError) as awaited:
        await client.achat(HELLO)
    for error in (*caught, awaited.value):
        assert (type(error), error.http_status) == (kind, status)
        if kind is RateLimitError:
            assert error.retry_after == 4.0
        assert error.__context__ is None
