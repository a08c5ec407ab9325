"""What servers refuse, and what to do about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from loom_openai_compatible.lenient import error_of, room_of
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    UnsupportedParameterError,
)
from loom_py.llm.azure.errors import USED_UP, error_from_answer
from loom_py.llm.openai.failures import Advice, OpenAIFailures

if TYPE_CHECKING:
    import httpx2

__all__ = ["ADVICE", "CompatibleFailures"]

ADVICE: tuple[Advice, ...] = (
    Advice(AuthenticationError, None, message=r"^the credential "),  # the user's own function failed
    Advice(
        AuthenticationError,
        "Give api_key= the key that this server was started with. OPENAI_API_KEY is never sent to it.",
    ),
    Advice(PermissionDeniedError, "Check what the key may do on this server, and which models it may use."),
    Advice(
        DeploymentNotFoundError,
        "Check the model's name, {model}: GET {base_url}/models lists those that are served.",
    ),
    Advice(
        NotFoundError, "Check base_url=, {base_url}: it usually ends in /v1, and the client adds the rest."
    ),
    Advice(
        RateLimitError,
        "The budget of this key is used up, and waiting does not help: ask whoever runs the server.",
        frozenset(USED_UP),
    ),
    Advice(
        ContextLengthError,
        "Shorten the conversation or the tool results, lower max_tokens, or start the server with a larger"
        " context.",
    ),
    Advice(ContentFilterError, "Rephrase the content, or ask whoever runs the server."),
    Advice(
        InvalidRequestError,
        "Start vLLM with --enable-auto-tool-choice and the --tool-call-parser of the model.",
        message=r"enable-auto-tool-choice|tool-call-parser",
    ),
    Advice(
        ProviderError,
        "Start llama-server with --jinja.",
        message=r"requires? --jinja",
        is_final=True,
    ),
    Advice(
        ProviderError,
        "The server was not started for chats: see its own options.",
        message=r"this server does not support",
        is_final=True,
    ),
    Advice(
        InvalidRequestError,
        "Use a model that takes tools.",
        message=r"does not support tools",
    ),
    Advice(UnsupportedParameterError, "The server does not take this: leave it out."),
    Advice(
        MalformedResponseError,
        "Check that {base_url} is the server's API and not its web page or a proxy's.",
        message=r"answered 200 with (an HTML page|.* that is not JSON)",
    ),
    Advice(ConnectionFailedError, "Check that the server runs, and that {base_url} is where it listens."),
    Advice(ProviderError, "The server sends callers elsewhere: check base_url=.", message=r"^HTTP 3\d\d "),
)


class CompatibleFailures(OpenAIFailures):
    """`Failures` of a server whose error bodies may be its own."""

    advice = ADVICE

    def _refusal(self, answer: httpx2.Response, body: bytes) -> ProviderError:
        data = _parsed(body)
        error = error_of(data, answer.status_code)
        content = body if error is None else json.dumps(error).encode()
        failure = error_from_answer(answer.status_code, answer.headers, content)
        if isinstance(failure, ContextLengthError) and failure.limit is None:
            failure.limit, failure.used = room_of(failure.message, data)
        return failure


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
