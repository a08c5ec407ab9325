"""Every exception of Bedrock's and every way a connection fails, as loom_py's own errors."""

from __future__ import annotations

import asyncio
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from loom_bedrock import BedrockProvider
from loom_bedrock.emulator import BedrockEmulator
from loom_bedrock.failures import error_from_answer
from loom_py import ScriptedProvider
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
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
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
    UnsupportedParameterError,
)
from loom_py.messages import Message
from loom_py.options import ChatOptions

Serve = Callable[..., tuple[BedrockEmulator, BedrockProvider]]
HELLO = [Message.user("Hello")]
VERBS = ("chat", "achat", "stream_chat", "astream_chat")


def ask(provider: BedrockProvider, verb: str, options: ChatOptions | None = None) -> LoomError:
    """The error of one call."""

    async def stream() -> None:
        async for _ in provider.astream_chat(HELLO, options=options):
            pass

    calls: dict[str, Callable[[], object]] = {
        "chat": lambda: provider.chat(HELLO, options=options),
        "achat": lambda: asyncio.run(provider.achat(HELLO, options=options)),
        "stream_chat": lambda: list(provider.stream_chat(HELLO, options=options)),
        "astream_chat": lambda: asyncio.run(stream()),
    }
    with pytest.raises(LoomError) as caught:
        calls[verb]()
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind", "status", "retryable"),
    [
        ("ThrottlingException", RateLimitError, 429, True),
        ("ValidationException", InvalidRequestError, 400, False),
        ("AccessDeniedException", PermissionDeniedError, 403, False),
        ("ResourceNotFoundException", DeploymentNotFoundError, 404, False),
        ("ModelTimeoutException", RequestTimeoutError, 408, True),
        ("ModelErrorException", ServiceUnavailableError, 424, True),
        ("ModelNotReadyException", ServiceUnavailableError, 429, True),
        ("InternalServerException", ServiceUnavailableError, 500, True),
        ("ServiceUnavailableException", ServiceUnavailableError, 503, True),
        ("ServiceQuotaExceededException", RateLimitError, 400, False),
        ("ExpiredTokenException", AuthenticationError, 401, False),
        ("UnrecognizedClientException", AuthenticationError, 401, False),
        ("InvalidSignatureException", AuthenticationError, 401, False),
        ("UnknownOperationException", NotFoundError, 404, False),
    ],
)
def test_each_exception_is_its_error_once_and_with_its_facts(
    serve: Serve, code: str, kind: type[ProviderError], status: int, retryable: bool
) -> None:
    bedrock, provider = serve()
    bedrock.fail(code, "Said by the service.", headers={"retry-after": "7"}, times=4)
    for verb in VERBS:
        error = ask(provider, verb)
        assert type(error) is kind
        assert isinstance(error, ProviderError)
        assert (error.http_status, error.retryable) == (status, retryable)
        assert (error.message, error.provider_code) == ("Said by the service.", code)
        assert error.retry_after == 7.0
        assert error.request_id
        assert error.deployment == provider.model
        assert error.__context__ is None
        assert pickle.loads(pickle.dumps(error)).to_dict() == error.to_dict()
    assert bedrock.received == 4, "botocore tried again by itself"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Input is too long for requested model.", ContextLengthError),
        (
            "The model returned the following errors: prompt is too long: 210,000 tokens > 200000 maximum",
            ContextLengthError,
        ),
        ("input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000", ContextLengthError),
        ("This model doesn't support tool use in streaming mode.", UnsupportedParameterError),
        (
            "This model doesn't support the toolConfig.toolChoice.any field. Remove it.",
            UnsupportedParameterError,
        ),
        ("The provided model identifier is invalid.", DeploymentNotFoundError),
        ("Output blocked by content filtering policy: blocked by our content filters", ContentFilterError),
        ("Invocation of model ID x with on-demand throughput isn’t supported. Retry …", InvalidRequestError),
        ("Something else.", InvalidRequestError),
    ],
)
def test_a_validation_exception_is_read_for_what_was_wrong(message: str, kind: type[Any]) -> None:
    error = error_from_answer("ValidationException", message, status=400)
    assert type(error) is kind
    assert error.http_status == 400


def test_tokens_a_message_counts_are_the_errors_facts() -> None:
    error = error_from_answer("ValidationException", "prompt is too long: 210,000 tokens > 200000 maximum")
    assert isinstance(error, ContextLengthError)
    assert (error.used, error.limit) == (210_000, 200_000)


def test_a_model_for_profiles_only_says_to_use_a_profile() -> None:
    message = "Invocation of model ID x with on-demand throughput isn't supported."
    error = error_from_answer("ValidationException", message)
    assert isinstance(error, InvalidRequestError)
    assert error.param == "model"
    assert "inference profile" in str(error)


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("Too many requests, please wait before trying again.", "requests"),
        ("Too many tokens, please wait before trying again.", "tokens"),
        ("Too many tokens per day, please wait before trying again.", "daily"),
        ("Slow down.", None),
    ],
)
def test_a_throttle_says_which_limit_it_was(message: str, limit: str | None) -> None:
    error = error_from_answer("ThrottlingException", message)
    assert isinstance(error, RateLimitError)
    assert error.kind == limit


def test_an_endpoint_policy_is_a_matter_of_the_network() -> None:
    message = (
        "User: arn is not authorized to perform: bedrock:InvokeModel because no VPC endpoint policy allows it"
    )
    assert type(error_from_answer("AccessDeniedException", message)) is NetworkAccessError


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (418, InvalidRequestError),
        (502, ServiceUnavailableError),
        (504, RequestTimeoutError),
    ],
)
def test_a_proxys_error_page_goes_by_its_status(serve: Serve, status: int, kind: type[Any]) -> None:
    bedrock, provider = serve()
    bedrock.answer(b"<html>no</html>", status=status, times=4)
    for verb in VERBS:
        error = ask(provider, verb)
        assert type(error) is kind
        assert error.http_status == status


@pytest.mark.parametrize(
    "body", [b"", b"<html>Sign in</html>", b"[]", b"null", b'{"output": 3}', b'{"output": {"message": null}}']
)
def test_a_page_with_status_200_is_no_answer(serve: Serve, body: bytes) -> None:
    bedrock, provider = serve()
    bedrock.answer(body, times=4)
    for verb in VERBS:
        assert isinstance(ask(provider, verb), MalformedResponseError)


@pytest.mark.parametrize("damage", [b"\0" * 40, b"\x00\x00\x00\x10" + b"x" * 30, b"short"])
def test_damaged_frames_are_typed(serve: Serve, damage: bytes) -> None:
    bedrock, provider = serve()
    bedrock.answer(damage, headers={"content-type": "application/vnd.amazon.eventstream"}, times=2)
    for verb in VERBS[2:]:
        error = ask(provider, verb)
        assert isinstance(error, (MalformedResponseError, StreamInterruptedError))
        assert error.retryable


# ── in the middle of a stream ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "code",
    [
        "ModelStreamErrorException",
        "ThrottlingException",
        "InternalServerException",
        "ServiceUnavailableException",
        "ValidationException",
    ],
)
def test_an_exception_in_a_stream_interrupts_it_and_keeps_the_text(serve: Serve, code: str) -> None:
    bedrock, provider = serve(ScriptedProvider(["one two three"] * 2))
    bedrock.fail(code, "Out of breath.", after_events=3, times=2)
    for verb in VERBS[2:]:
        error = ask(provider, verb)
        assert isinstance(error, StreamInterruptedError)
        assert error.partial_text == "one two "
        assert "Out of breath." in error.message
        assert error.provider_code == code[0].lower() + code[1:]
        assert error.request_id


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("ThrottlingException", "Too many tokens", RateLimitError),
        ("ValidationException", "Input is too long for requested model.", ContextLengthError),
        ("ModelStreamErrorException", "Oh.", ServiceUnavailableError),
    ],
)
def test_an_exception_before_any_text_is_the_plain_error(
    serve: Serve, code: str, message: str, kind: type[Any]
) -> None:
    bedrock, provider = serve(ScriptedProvider(["one"] * 2))
    bedrock.fail(code, message, after_events=1, times=2)
    for verb in VERBS[2:]:
        assert type(ask(provider, verb)) is kind


def test_a_stream_cut_after_its_last_word_is_whole(serve: Serve) -> None:
    bedrock, provider = serve(ScriptedProvider(["one"]))
    bedrock.drop(after_events=4)  # start, delta, stop, messageStop; the tokens never come
    last = list(provider.stream_chat(HELLO))[-1].response
    assert last is not None
    assert last.message == "one"
    assert last.cost_usd is None


# ── no connection ────────────────────────────────────────────────────────────────────────


def test_a_port_nobody_listens_on_was_never_sent_to(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    _, provider = serve(endpoint_url=f"http://127.0.0.1:{port}")
    for verb in VERBS:
        error = ask(provider, verb)
        assert isinstance(error, ConnectionFailedError)
        assert error.sent is False


def test_a_dropped_connection_may_have_been_billed(serve: Serve) -> None:
    bedrock, provider = serve()
    bedrock.drop(times=4)
    for verb in VERBS:
        error = ask(provider, verb)
        assert type(error) is ConnectionFailedError
        assert error.sent is True
    assert bedrock.received == 4


def test_tls_that_is_none_is_not_worth_another_try(serve: Serve) -> None:
    bedrock, _ = serve()
    _, provider = serve(endpoint_url=bedrock.endpoint_url.replace("http:", "https:"))
    error = ask(provider, "chat")
    assert isinstance(error, ConnectionFailedError)
    assert error.sent is False


def test_headers_that_cannot_be_sent_are_refused_with_a_typed_error(serve: Serve) -> None:
    _, provider = serve()
    error = ask(provider, "chat", ChatOptions(extra_headers={"x-bad": "two\r\nlines"}))
    assert isinstance(error, LoomError)


def test_parameters_botocore_refuses_are_an_invalid_request_that_was_not_sent(serve: Serve) -> None:
    bedrock, provider = serve()
    error = ask(provider, "chat", ChatOptions(extra_body={"performanceConfig": {"latency": 3}}))
    assert isinstance(error, InvalidRequestError)
    assert error.sent is False
    assert bedrock.received == 0


# ── secrets ──────────────────────────────────────────────────────────────────────────────


def test_what_a_service_repeats_of_a_credential_is_masked(serve: Serve) -> None:
    token = "session-token-0123456789-abcdef"
    bedrock, provider = serve(emulated={"session_token": token})
    secret = bedrock.settings["secret_access_key"]
    said = f"Canonical String: 'POST x-amz-security-token:{token} ' Signature={'ab' * 32} secret {secret}"
    bedrock.fail("InvalidSignatureException", said)
    error = ask(provider, "chat")
    shown = "".join(traceback.format_exception(error)) + repr(vars(error))
    assert token not in shown
    assert secret not in shown
    assert "ab" * 32 not in shown
    assert "Canonical String" in error.message
