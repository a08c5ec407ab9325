"""What servers refuse, in their own shapes, as the errors of loom_py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_openai_compatible import OpenAICompatibleClient
from loom_openai_compatible.emulator import CompatibleEmulator, Quirks
from loom_openai_compatible.lenient import error_of
from loom_py import Message
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    NotFoundError,
    RateLimitError,
    ServiceUnavailableError,
    StreamInterruptedError,
)

HELLO = [Message.user("Hello")]

VLLM_LENGTH = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the messages,"
    " Please reduce the length of the messages."
)
LLAMA_LENGTH = "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it"
STUDIO_LENGTH = (
    "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with"
    " context length of only 4096 tokens, which is not enough."
)

CASES: list[tuple[str, int, Any, type[LoomError], str]] = [
    (
        "vLLM: flat, too long",
        400,
        {"object": "error", "message": VLLM_LENGTH, "code": 400},
        ContextLengthError,
        "",
    ),
    (
        "vLLM: nested, too long",
        400,
        {"error": {"message": VLLM_LENGTH, "type": "BadRequestError", "code": 400}},
        ContextLengthError,
        "",
    ),
    (
        "vLLM: no model",
        404,
        {
            "object": "error",
            "message": "The model `x` does not exist.",
            "type": "NotFoundError",
            "param": None,
            "code": 404,
        },
        DeploymentNotFoundError,
        "/models",
    ),
    (
        "vLLM: no parser for tools",
        400,
        {
            "object": "error",
            "message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser',
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        InvalidRequestError,
        "--enable-auto-tool-choice",
    ),
    (
        "llama.cpp: too long",
        400,
        {
            "error": {
                "code": 400,
                "message": LLAMA_LENGTH,
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 5000,
                "n_ctx": 4096,
            }
        },
        ContextLengthError,
        "larger context",
    ),
    (
        "llama.cpp: loading",
        503,
        {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        ServiceUnavailableError,
        "",
    ),
    (
        "llama.cpp: no jinja",
        500,
        {"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}},
        ServiceUnavailableError,
        "--jinja",
    ),
    (
        "llama.cpp: key",
        401,
        {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}},
        AuthenticationError,
        "api_key=",
    ),
    ("LM Studio: a string", 400, {"error": STUDIO_LENGTH}, ContextLengthError, ""),
    (
        "Ollama: no model",
        404,
        {
            "error": {
                "message": 'model "x" not found, try pulling it first',
                "type": "api_error",
                "code": None,
            }
        },
        DeploymentNotFoundError,
        "'llama-3.1-8b'",
    ),
    (
        "LiteLLM: rate",
        429,
        {
            "error": {
                "message": "litellm.RateLimitError: slow down",
                "type": None,
                "param": None,
                "code": "429",
            }
        },
        RateLimitError,
        "",
    ),
    (
        "LiteLLM: budget",
        400,
        {
            "error": {
                "message": "Budget has been exceeded! Current cost: 2.0, Max budget: 1.0",
                "type": "budget_exceeded",
                "param": None,
                "code": "400",
            }
        },
        RateLimitError,
        "budget",
    ),
    (
        "LiteLLM: too long",
        400,
        {
            "error": {
                "message": f"litellm.ContextWindowExceededError: litellm.BadRequestError: {VLLM_LENGTH}",
                "type": "invalid_request_error",
                "code": "400",
            }
        },
        ContextLengthError,
        "",
    ),
    (
        "LiteLLM: policy",
        400,
        {"error": {"message": "litellm.ContentPolicyViolationError: no", "type": None, "code": "400"}},
        ContentFilterError,
        "Rephrase",
    ),
    (
        "LiteLLM: no model",
        400,
        {"error": {"message": "/chat/completions: Invalid model name passed in model=x.", "code": "400"}},
        DeploymentNotFoundError,
        "/models",
    ),
    (
        "vLLM: the limit alone is too long",
        400,
        {
            "error": {
                "message": "max_tokens=8192 cannot be greater than max_model_len=max_total_tokens=4096.",
                "type": "BadRequestError",
                "param": "max_tokens",
                "code": 400,
            }
        },
        ContextLengthError,
        "max_tokens",
    ),
    (
        "TGI: too long",
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096.",
            "error_type": "validation",
        },
        ContextLengthError,
        "",
    ),
    (
        "OpenRouter: no credit",
        402,
        {"error": {"message": "Insufficient credits", "code": 402}},
        RateLimitError,
        "budget",
    ),
    (
        "Ollama: no tools",
        400,
        {"error": {"message": "library/gemma does not support tools", "type": "api_error"}},
        InvalidRequestError,
        "takes tools",
    ),
    ("FastAPI: words", 404, {"detail": "Not Found"}, NotFoundError, "/v1"),
    (
        "FastAPI: a list",
        422,
        {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]},
        InvalidRequestError,
        "",
    ),
    ("a gateway", 403, {"message": "no Route matched with those values"}, LoomError, ""),
    ("a proxy's page", 502, b"<html><title>Bad Gateway</title></html>", ServiceUnavailableError, ""),
    ("nothing", 500, b"", ServiceUnavailableError, ""),
]


@pytest.fixture(scope="module")
def server() -> Any:
    with CompatibleEmulator() as running:
        yield running


@pytest.mark.parametrize(
    ("status", "body", "kind", "hint"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_servers_refusals_are_understood(
    server: CompatibleEmulator, status: int, body: Any, kind: type[LoomError], hint: str
) -> None:
    server.fail_next(status, body=body)
    with OpenAICompatibleClient(**server.client_kwargs()) as client, pytest.raises(kind) as caught:
        client.chat(HELLO)
    error = caught.value
    assert error.http_status == status
    assert hint in (error.hint or "")
    assert not any(word in (error.hint or "").lower() for word in ("azure", "platform.openai.com", "portal"))
    if isinstance(error, ContextLengthError):
        assert error.limit == 4096
    if isinstance(error, RateLimitError):
        assert error.retryable is (status == 429)


@pytest.mark.parametrize(
    "message",
    ["context shift is disabled", "litellm.BadRequestError: Please reduce the length of the messages."],
)
def test_a_prompt_that_is_too_long_is_that_in_words_without_a_number(
    server: CompatibleEmulator, message: str
) -> None:
    server.fail_next(500, body={"error": {"code": 500, "message": message}})
    with OpenAICompatibleClient(**server.client_kwargs()) as client, pytest.raises(ContextLengthError):
        client.chat(HELLO)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "tools param requires --jinja flag"),
        (501, "This server does not support completions. Start it without `--embeddings`"),
    ],
)
def test_what_only_another_start_of_the_server_mends_is_not_tried_again(
    server: CompatibleEmulator, status: int, message: str
) -> None:
    server.fail_next(status, body={"error": {"code": status, "message": message, "type": "server_error"}})
    with OpenAICompatibleClient(**server.client_kwargs()) as client, pytest.raises(LoomError) as caught:
        client.chat(HELLO)
    assert (caught.value.retryable, caught.value.http_status) == (False, status)


EXTRA = {
    "type": "extra_forbidden",
    "loc": ["body", "stream_options"],
    "msg": "Extra inputs are not permitted",
}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {"detail": [EXTRA]}),
        (422, {"object": "error", "message": {"detail": [EXTRA]}, "type": "invalid_request_error"}),
        (
            400,
            {
                "object": "error",
                "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra'}]",
                "code": 400,
            },
        ),
    ],
    ids=["FastAPI", "Mistral", "vLLM"],
)
def test_a_parameter_that_pydantic_does_not_know_is_left_out_from_then_on(status: int, body: Any) -> None:
    with CompatibleEmulator() as server, OpenAICompatibleClient(**server.client_kwargs()) as client:
        server.fail_next(status, body=body)
        for _ in range(2):
            assert list(client.stream_chat(HELLO))[-1].response.message == "Hello"  # type: ignore[union-attr]
        sent = ["stream_options" in request.body for request in server.requests]
    assert sent == [True, False, False]


def test_fastapis_list_of_problems_reads_as_a_sentence(server: CompatibleEmulator) -> None:
    detail = [
        {"type": "missing", "loc": ["body", "messages"], "msg": "Field required"},
        {"type": "int_parsing", "loc": ["body", "max_tokens"], "msg": "not an integer"},
    ]
    server.fail_next(422, body={"detail": detail})
    with OpenAICompatibleClient(**server.client_kwargs()) as client, pytest.raises(LoomError) as caught:
        client.chat(HELLO)
    assert caught.value.message == "body.messages: Field required; body.max_tokens: not an integer"


def _client(server: CompatibleEmulator, **settings: Any) -> OpenAICompatibleClient:
    given: dict[str, Any] = {**server.client_kwargs(), **settings}
    return OpenAICompatibleClient(**given)


@pytest.mark.parametrize("style", ["openai", "vllm", "llama.cpp", "litellm", "fastapi"])
def test_the_errors_of_every_style_are_told_alike(style: Any) -> None:
    with (
        CompatibleEmulator(api_keys=["k-1234567"], quirks=Quirks(errors=style)) as server,
        _client(server, api_key="wrong-key-1") as wrong,
        _client(server, model="x") as lost,
        OpenAICompatibleClient(**server.client_kwargs()) as client,
    ):
        with pytest.raises(AuthenticationError) as refused:
            wrong.chat(HELLO)
        assert "wrong-key-1" not in str(refused.value)
        with pytest.raises(DeploymentNotFoundError):
            lost.chat(HELLO)
        server.fail_next(429, headers={"retry-after": "7"})
        with pytest.raises(RateLimitError) as caught:
            client.chat(HELLO)
        assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    "chunk",
    [
        b'data: {"error": {"message": "CUDA out of memory", "type": "InternalServerError", "code": 500}}\n\n',
        b'data: {"object": "error", "message": "CUDA out of memory", "type": "ServerError", "code": 500}\n\n',
        b'data: {"error": "CUDA out of memory"}\n\n',
        b'error: {"code": 500, "message": "CUDA out of memory", "type": "server_error"}\n\n',
    ],
)
def test_an_error_in_a_stream_is_an_error_in_every_shape(server: CompatibleEmulator, chunk: bytes) -> None:
    begun = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"half"},"finish_reason":null}]}\n\n'
    server.answer_next(body=begun + chunk, headers={"content-type": "text/event-stream"})
    with (
        OpenAICompatibleClient(**server.client_kwargs()) as client,
        pytest.raises(StreamInterruptedError, match="CUDA out of memory") as caught,
    ):
        list(client.stream_chat(HELLO))
    assert caught.value.partial_text == "half"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (
            {"object": "error", "message": "boom", "type": "InternalServerError", "code": 500},
            ServiceUnavailableError,
        ),
        ({"detail": "Not authenticated"}, LoomError),
        ({"choices": []}, MalformedResponseError),
        ({"choices": [{"finish_reason": "stop"}]}, MalformedResponseError),
        (b"<html>LM Studio</html>", MalformedResponseError),
    ],
)
def test_an_answer_with_200_that_is_none_is_an_error(
    server: CompatibleEmulator, body: Any, kind: type[LoomError]
) -> None:
    server.answer_next(body=body)
    with OpenAICompatibleClient(**server.client_kwargs()) as client, pytest.raises(kind):
        client.chat(HELLO)


def test_a_key_that_a_refusal_echoes_is_not_told(server: CompatibleEmulator) -> None:
    said = "Authentication Error, Invalid proxy token passed. Received API Key = sk-...abcd, Key Hash = 01"
    server.fail_next(401, body={"error": {"message": said, "code": "401"}})
    with OpenAICompatibleClient(**server.client_kwargs()) as client, pytest.raises(LoomError) as caught:
        client.chat(HELLO)
    assert "abcd" not in caught.value.message
    assert "Received API Key = ***, Key Hash" in caught.value.message


def test_a_server_that_does_not_run_is_named() -> None:
    client = OpenAICompatibleClient(base_url="http://127.0.0.1:9", model="m")
    with pytest.raises(ConnectionFailedError) as caught:
        client.chat(HELLO)
    assert (
        caught.value.hint == "Check that the server runs, and that http://127.0.0.1:9/v1 is where it listens."
    )
    assert caught.value.sent is False


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "detail", "code", "type", "object", "choices", "loc", "msg"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values, st.none() | st.sampled_from([400, 404, 500]))
def test_no_body_breaks_the_reader(body: Any, status: int | None) -> None:
    found = error_of(body, status)
    assert found is None or isinstance(found["error"]["message"], str)
