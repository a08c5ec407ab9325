"""What Ollama, its client and the network say went wrong, as loom_py's own errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from loom_ollama.config import OllamaConfig
from loom_ollama.connections import Patience
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContextLengthError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    UnsupportedParameterError,
)

__all__ = ["answer_error", "network_error", "stream_error"]

MAX_SAID = 500
"""Characters of the server's own words in a message."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A row of the classification: the first that fits decides. Empty conditions fit everything."""

    error: type[ProviderError]
    hint: str | None = None
    status: tuple[int, ...] = ()
    said: str = ""
    retryable: bool | None = None


PULL = "Pull it first: ollama pull {model}"
RULES = (
    _Rule(
        ContextLengthError,
        said=r"(input|prompt).{0,20}(length )?exceeds.{0,40}context|context length exceeded",
    ),
    _Rule(
        UnsupportedParameterError,
        "Choose a model with tools: ollama show {model}",
        said=r"does not support tools",
    ),
    _Rule(
        UnsupportedParameterError, "Leave reasoning_effort and think= out.", said=r"does not support thinking"
    ),
    _Rule(
        InvalidRequestError,
        "Choose a model with vision.",
        said=r"(does not support|missing data required for) (vision|image)",
    ),
    _Rule(NotFoundError, PULL, said=r"model .* not found|try pulling it first"),
    _Rule(
        ServiceUnavailableError,
        "Choose a smaller model, or a smaller context_window.",
        said=r"requires more system memory|out of memory",
        retryable=False,
    ),
    _Rule(ServiceUnavailableError, "The server's queue is full (OLLAMA_MAX_QUEUE).", said=r"server busy"),
    _Rule(AuthenticationError, "Check api_key or OLLAMA_API_KEY, or sign in: ollama signin", status=(401,)),
    _Rule(PermissionDeniedError, status=(403,)),
    _Rule(NotFoundError, "Is it Ollama that answers at this host?", status=(404, 405)),
    _Rule(RequestTimeoutError, status=(408, 504)),
    _Rule(RateLimitError, status=(429,)),
    _Rule(InvalidRequestError, status=tuple(range(400, 500))),
    _Rule(
        ProviderError,
        "The server sends callers elsewhere: give its own address as host=.",
        tuple(range(300, 400)),
    ),
    _Rule(ServiceUnavailableError),
)
"""Statuses and words of Ollama's server (its API documentation and the messages of its source)."""


def answer_error(status: int, headers: Mapping[str, str], body: bytes, config: OllamaConfig) -> ProviderError:
    """The error an answer with ``status`` stands for."""
    said = _said(body) or f"HTTP {status}"
    return _classified(
        status, said, config, retry_after=_retry_after(headers), request_id=_request_id(headers)
    )


def stream_error(data: Mapping[str, Any], config: OllamaConfig) -> ProviderError:
    """The error a line of a stream tells of, where the status was 200 already."""
    said = data.get("error")
    return _classified(500, said if isinstance(said, str) else "the server failed", config)


def network_error(exc: Exception, config: OllamaConfig, patience: Patience) -> LoomError:
    """The error of a request that got no whole answer in the time it had."""
    if isinstance(exc, LoomError):
        return exc
    if isinstance(exc, httpx.ConnectTimeout):
        return RequestTimeoutError(
            f"timed out connecting to {config.host} after {min(patience.connect, patience.was):g} s",
            deployment=config.model,
            sent=False,
            hint=_HOST,
        )
    if isinstance(exc, (httpx.TimeoutException, TimeoutError)):
        return RequestTimeoutError(
            f"timed out waiting for an answer after {patience.was:g} s",
            deployment=config.model,
            hint="A model that has to be loaded first takes long: raise timeout=, or set keep_alive=.",
        )
    if isinstance(exc, (httpx.ConnectError, ConnectionError)):
        return ConnectionFailedError(
            f"Ollama cannot be reached at {config.host}", deployment=config.model, sent=False, hint=_HOST
        )
    if isinstance(exc, httpx.InvalidURL):
        return InvalidRequestError(f"no URL: {config.host}", deployment=config.model)
    if isinstance(exc, (httpx.DecodingError, httpx.TooManyRedirects)):
        return MalformedResponseError(
            f"the answer cannot be read: {type(exc).__name__}", deployment=config.model
        )
    if isinstance(exc, httpx.HTTPError):
        return ConnectionFailedError("the connection broke off", deployment=config.model)
    return ProviderError(f"the call failed: {type(exc).__name__}", deployment=config.model)


_HOST = "Is it running (ollama serve), and is host= or OLLAMA_HOST right?"


def _classified(status: int, said: str, config: OllamaConfig, **facts: Any) -> ProviderError:
    said = _without_secret(said, config)[:MAX_SAID]
    for rule in RULES:
        if rule.status and status not in rule.status:
            continue
        if rule.said and not re.search(rule.said, said, re.IGNORECASE | re.DOTALL):
            continue
        hint = None if rule.hint is None else rule.hint.format(model=config.model)
        error_status = status if 400 <= status < 600 else None
        return rule.error(
            said,
            http_status=error_status,
            retryable=rule.retryable,
            deployment=config.model,
            hint=hint,
            **facts,
        )
    raise AssertionError("the last rule fits everything")


def _said(body: bytes) -> str:
    """The server's words: of JSON its ``error``, else the text."""
    text = body.decode("utf-8", "replace").strip()
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return "" if text.startswith("<") else text
    said = data.get("error", data.get("message")) if isinstance(data, dict) else None
    if isinstance(said, Mapping):
        said = said.get("message")
    return said if isinstance(said, str) else ""


def _without_secret(said: str, config: OllamaConfig) -> str:
    secrets = [config.headers.get(name, "") for name in config.headers]
    if config.api_key is not None:
        secrets.append(config.api_key.get_secret_value())
    for secret in secrets:
        if len(secret) > 3:
            said = said.replace(secret, "***")
    return said


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from seconds or a date."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds < 1e9 else None  # also not a number


def _request_id(headers: Mapping[str, str]) -> str | None:
    return headers.get("x-request-id") or None
