"""What the SDK and its transport raise, as errors of ours."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loom_py.errors import (
    ConnectionFailedError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    NotFoundError,
    ProviderError,
    RequestTimeoutError,
)
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.azure.connections import HttpRequest
from loom_py.llm.azure.costs import CallCosts
from loom_py.llm.azure.debug import WireDebug
from loom_py.llm.azure.doctor import not_found_hint
from loom_py.llm.azure.errors import error_from_answer
from loom_py.llm.azure.headers import header, request_id
from loom_py.llm.azure.secrets import Secrets
from loom_py.llm.azure.settings import ServiceConfig
from loom_py.llm.azure.stream import StreamDecoder
from loom_py.llm.profiles import ModelProfile

if TYPE_CHECKING:
    import httpx2

__all__ = ["AzureFailures", "Failures", "transport_failure"]


REFUSED_VALUE = frozenset({"unsupported_value", "invalid_value"})
"""Codes for a parameter that is known, with a value that is not."""

CLOCKS_DIFFER = 0.002
"""Seconds by which a timer may ring before its time."""


class Failures:
    """Whatever goes wrong in calls of one deployment, as errors of ours that know all there is to know."""

    def __init__(
        self,
        config: ServiceConfig,
        profile: ModelProfile,
        costs: CallCosts,
        secrets: Secrets,
        debug: WireDebug,
    ) -> None:
        self._config = config
        self._profile = profile
        self._costs = costs
        self._secrets = secrets
        self._debug = debug

    def of(self, exc: Exception, request: HttpRequest) -> LoomError:
        """The typed error for whatever the SDK, its transport or a credential raised."""
        if isinstance(exc, LoomError):
            return self.complete(exc, {})
        answer, body = _refusal_behind(exc)
        if answer is not None:
            self._debug.answer(answer.status_code, answer.headers, body)
            if answer.status_code == 401:
                self._secrets.refused(answer.request.headers)
            error = self._refusal(answer, body)
            if isinstance(error, InvalidRequestError) and error.provider_code in REFUSED_VALUE:
                error.hint = self._known_efforts(error.param) or error.hint
            self._explain(error, request)
            return self.complete(error, answer.headers)
        return self.complete(transport_failure(exc, self._config.address, request), {})

    def _refusal(self, answer: httpx2.Response, body: bytes) -> ProviderError:
        """The typed error in an answer with an error status."""
        return error_from_answer(answer.status_code, answer.headers, body)

    def _explain(self, error: ProviderError, request: HttpRequest) -> None:
        """Put in what to do about a refusal, where the configuration tells more than the answer."""

    def _known_efforts(self, param: str | None) -> str | None:
        """The values that may go where a reasoning effort was refused, if the model is known."""
        if not (param or "").startswith("reasoning") or not self._profile.efforts:
            return None
        return f"This model is known to take reasoning_effort {', '.join(self._profile.efforts)}."

    def of_stream(
        self, exc: Exception, request: HttpRequest, decoder: StreamDecoder, answer: httpx2.Response | None
    ) -> LoomError | None:
        """The error of a stream that broke; ``None`` where all of the answer had come before."""
        if answer is None:
            return self.of(exc, request)
        if isinstance(exc, LoomError):
            return self.complete(exc, answer.headers, decoder.model)
        if decoder.is_whole:
            return None
        failure = transport_failure(exc, self._config.address, request)
        says_more = isinstance(failure, (MalformedResponseError, RequestTimeoutError))
        if decoder.assembler.has_output or not says_more:
            failure = decoder.assembler.interrupted(f"the stream broke off: {failure.message}")
        return self.complete(failure, answer.headers, decoder.model)

    def complete(self, error: LoomError, headers: Mapping[str, str], model: str = "") -> LoomError:
        """``error`` with what only the client knows, and without any credential in its text."""
        error.deployment = error.deployment or self._config.target
        error.request_id = error.request_id or request_id(headers)
        error.message = self._secrets.mask(error.message)
        error.args = (error.message,)
        if error.cost_usd is None:
            served = header(headers, "x-ms-served-model") or model
            error.cost_usd = self._costs.cost(error.tokens_used, served).usd
        return error


class AzureFailures(Failures):
    """`Failures` of an Azure OpenAI deployment: a 404 is diagnosed from the settings."""

    _config: AzureOpenAIConfig

    def _explain(self, error: ProviderError, request: HttpRequest) -> None:
        if isinstance(error, NotFoundError):
            error.hint = not_found_hint(self._config, request.route, error)


def _refusal_behind(exc: Exception) -> tuple[httpx2.Response | None, bytes]:
    """The answer with an error status that led to ``exc``, and its body.

    The body is empty where it broke off or cannot be decoded: the status and the headers had come
    before, and they say most of it.
    """
    import httpx2
    import openai

    if isinstance(exc, openai.APIStatusError):
        return exc.response, exc.response.content
    behind: BaseException | None = exc
    for _ in range(20):
        if behind is None:
            break
        if isinstance(behind, httpx2.HTTPStatusError):
            return behind.response, b""
        behind = behind.__context__ or behind.__cause__
    return None, b""


def transport_failure(exc: Exception, endpoint: str, request: HttpRequest) -> LoomError:
    """The typed error for a ``request`` that got no whole answer."""
    import httpx2
    import openai

    cause = exc.__cause__ or exc
    if isinstance(exc, (openai.APITimeoutError, httpx2.TimeoutException, TimeoutError)):
        return _timed_out(request, connecting=isinstance(cause, httpx2.ConnectTimeout))
    if broken := next((error for error in (exc, cause) if isinstance(error, httpx2.DecodingError)), None):
        return MalformedResponseError(
            f"the answer's content encoding is broken: {broken}",
            hint="Look for a proxy between here and the endpoint that compresses answers.",
        )
    if isinstance(cause, (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol)):
        return ProviderError(
            f"the request cannot be sent: {cause}",
            hint="Check extra_headers and the endpoint.",
            sent=False,
        )
    if isinstance(exc, (openai.APIConnectionError, httpx2.RequestError)):
        return ConnectionFailedError(
            f"the connection to {endpoint} failed: {type(cause).__name__}: {cause}",
            hint="Check the endpoint's name and this machine's network.",
            sent=not isinstance(cause, httpx2.ConnectError),
        )
    return ProviderError(f"the call failed: {type(exc).__name__}: {exc}")


def _timed_out(request: HttpRequest, *, connecting: bool) -> RequestTimeoutError:
    if request.end is not None and time.monotonic() >= request.end - CLOCKS_DIFFER:
        return RequestTimeoutError(
            f"timed out: the call was not over after {request.total_timeout:g} s",
            hint="Raise total_timeout=, or ask for less at once.",
        )
    if connecting:
        return RequestTimeoutError(
            f"timed out connecting after {min(request.timeout, request.connect_timeout):g} s",
            hint="Check that the endpoint can be reached from this machine.",
            sent=False,
        )
    return RequestTimeoutError(
        f"timed out waiting for an answer after {request.timeout:g} s",
        hint="Raise timeout=, or ask for less at once.",
    )
