"""429s, in the wordings and headers of each year."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

from loom_py.emulator.wire_errors import WireError, gateway_error, rate_limited

__all__ = ["ThrottleStyle", "check_style", "provisioned_full", "throttled"]

ThrottleStyle: TypeAlias = Literal["2023", "2025", "2026", "apim"]
"""Whose 429: Azure's of that year, or the one of API Management in front of it."""


def check_style(style: str) -> None:
    """Raises `ValueError` for a style there is not."""
    if style not in get_args(ThrottleStyle):
        raise ValueError(f"style must be one of {', '.join(get_args(ThrottleStyle))}, not {style!r}")


def throttled(
    style: ThrottleStyle,
    deployment: str,
    region: str,
    wait: float,
    *,
    kind: Literal["tokens", "requests"],
    api_version: str = "2024-10-21",
    operation: str = "ChatCompletions_Create",
    zero_retry_after_ms: bool = True,
) -> WireError:
    """The 429 for a deployment whose quota has room again in ``wait`` seconds.

    Only the style "2026" has ``Retry-After-Ms``: 0 whatever the wait, as the service sends it, or
    the truth without ``zero_retry_after_ms``.
    """
    seconds = max(1, math.ceil(wait))
    if style == "2026":
        message = f"Your requests to {deployment} for {deployment} in {region} have exceeded rate limit."
        error = rate_limited(message, wait, quirks=False)
        error.headers["retry-after"] = str(seconds)
        if zero_retry_after_ms:
            error.headers["retry-after-ms"] = "0"
        return error
    if style == "2025":
        noun = "token" if kind == "tokens" else "call"
        message = (
            f"Your requests to {deployment} for {deployment} in {region} have exceeded the {noun} rate limit "
            f"for your current AIServices S0 pricing tier. This request was for {operation} under Azure "
            f"OpenAI API version {api_version}. Please retry after {seconds} seconds."
        )
        return gateway_error(429, "429", message, {"retry-after": str(seconds)})
    if style == "apim":
        message = f"Rate limit is exceeded. Try again in {seconds} seconds."
        body = {"statusCode": 429, "message": message}
        return WireError(429, body, headers={"retry-after": str(seconds)})
    return _of_2023(seconds, kind, api_version, operation)


def _of_2023(seconds: int, kind: str, api_version: str, operation: str) -> WireError:
    """No Retry-After: the wait stands in the text, and in a header with one hyphen too many."""
    noun = "token" if kind == "tokens" else "call"
    message = (
        f"Requests to the {operation} Operation under Azure OpenAI API version {api_version} have exceeded "
        f"{noun} rate limit of your current OpenAI S0 pricing tier. Please retry after {seconds} seconds. "
        "Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default "
        "rate limit."
    )
    headers = {
        f"x-rate-limit-reset-{kind}": str(seconds),
        "policy-id": "DeploymentRatelimit-Token" if kind == "tokens" else "DeploymentRatelimit-Call",
    }
    return gateway_error(429, "429", message, headers)


def provisioned_full(wait: float) -> WireError:
    """The 429 of provisioned throughput at 100 % utilisation; both headers tell the truth."""
    message = (
        "The provisioned deployment is at its full utilization. Please retry after the time given in the "
        "retry-after-ms header, or send the request to another deployment."
    )
    milliseconds = max(1, math.ceil(wait * 1000))
    headers = {"retry-after-ms": str(milliseconds), "retry-after": str(max(1, math.ceil(wait)))}
    return gateway_error(429, "429", message, headers)
