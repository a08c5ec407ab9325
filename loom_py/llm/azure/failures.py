"""What the SDK and its transport raise, as errors of ours."""

from __future__ import annotations

from loom_py.errors import (
    ConnectionFailedError,
    LoomError,
    MalformedResponseError,
    ProviderError,
    RequestTimeoutError,
)
from loom_py.llm.azure.connections import CONNECT_TIMEOUT

__all__ = ["transport_failure"]


def transport_failure(exc: Exception, endpoint: str, timeout: float) -> LoomError:
    """The typed error for a call that got no whole answer.

    ``timeout`` is the call's, in seconds.
    """
    import httpx2
    import openai

    cause = exc.__cause__ or exc
    if isinstance(exc, (openai.APITimeoutError, httpx2.TimeoutException)):
        return _timed_out(timeout, connecting=isinstance(cause, httpx2.ConnectTimeout))
    if broken := next((error for error in (exc, cause) if isinstance(error, httpx2.DecodingError)), None):
        return MalformedResponseError(
            f"the answer's content encoding is broken: {broken}",
            hint="Look for a proxy between here and the endpoint that compresses answers.",
        )
    if isinstance(cause, (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol)):
        return ProviderError(
            f"the request cannot be sent: {cause}", hint="Check extra_headers and the endpoint."
        )
    if isinstance(exc, (openai.APIConnectionError, httpx2.RequestError)):
        return ConnectionFailedError(
            f"the connection to {endpoint} failed: {type(cause).__name__}: {cause}",
            hint="Check the endpoint's name and this machine's network.",
        )
    return ProviderError(f"the call failed: {type(exc).__name__}: {exc}")


def _timed_out(timeout: float, *, connecting: bool) -> RequestTimeoutError:
    if connecting:
        return RequestTimeoutError(
            f"timed out connecting after {min(timeout, CONNECT_TIMEOUT):g} s",
            hint="Check that the endpoint can be reached from this machine.",
        )
    return RequestTimeoutError(
        f"timed out waiting for an answer after {timeout:g} s",
        hint="Raise timeout=, or ask for less at once.",
    )
