"""Azure OpenAI's error answers, body by body.

Wordings and keys follow answers of the real service in 2023–2026; where the gateway answers there
are ``code`` and ``message``, where the model answers also ``type`` and ``param``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "WireError",
    "bad_http",
    "bad_key",
    "bad_token",
    "content_filtered",
    "context_length",
    "deployment_not_found",
    "filter_down",
    "gateway_error",
    "invalid_request",
    "method_not_allowed",
    "rate_limited",
    "resource_not_found",
    "server_error",
    "stopping",
    "timed_out",
    "too_large",
    "too_many_connections",
    "verdicts",
]

JSON_TYPE = "application/json"

_FILTERED_PROMPT = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
    "Please modify your prompt and retry. To learn more about our content filtering policies please read "
    "our documentation: https://go.microsoft.com/fwlink/?linkid=2198766"
)
_SERVER_ERROR = (
    "The server had an error while processing your request. Sorry about that! You can retry your request, "
    "or contact us through an Azure support request at: https://go.microsoft.com/fwlink/?linkid=2213926 if "
    "the error persists. (Please include the request ID {request_id} in your message.)"
)


class WireError(Exception):
    """An error answer: HTTP ``status``, JSON ``body``, ``headers``.

    ``media_type`` is the Content-Type, or ``None`` to send none. ``from_model`` says that the
    request got as far as the model, which adds its headers. ``is_verbatim`` says that it is to go out in
    just these words, whichever service is emulated.
    """

    def __init__(
        self,
        status: int,
        body: Any,
        *,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = JSON_TYPE,
        from_model: bool = False,
        is_verbatim: bool = False,
    ) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        self.media_type = media_type
        self.from_model = from_model
        self.is_verbatim = is_verbatim


def gateway_error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> WireError:
    """An error of the gateway: ``{"error": {"code", "message"}}``."""
    return WireError(status, {"error": {"code": code, "message": message}}, headers=headers)


def invalid_request(
    message: str, param: str | None = None, code: str | None = None, *, status: int = 400
) -> WireError:
    """A request the model refuses (400)."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return WireError(status, {"error": error}, from_model=True)


def bad_key() -> WireError:
    """401 for a wrong ``api-key``; also without the region header, as the real one."""
    return gateway_error(
        401,
        "401",
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid "
        "key for an active subscription and use a correct regional API endpoint for your resource.",
    )


def bad_token() -> WireError:
    """401 for a missing credential or a wrong Entra token: no ``error`` object around it."""
    message = (
        "Unauthorized. Access token is missing, invalid, audience is incorrect "
        "(https://cognitiveservices.azure.com), or have expired."
    )
    return WireError(401, {"statusCode": 401, "message": message})


def deployment_not_found(quirks: bool = True) -> WireError:
    """404 for a deployment the resource does not have; the 2026 service sends no Content-Type."""
    error = {
        "type": "invalid_request_error",
        "code": "DeploymentNotFound",
        "message": "The API deployment for this resource does not exist. If you created the deployment "
        "within the last 5 minutes, please wait a moment and try again.",
    }
    return WireError(404, {"error": error}, media_type=None if quirks else JSON_TYPE)


def resource_not_found() -> WireError:
    """404 for a wrong path, or for a missing ``api-version``."""
    return gateway_error(404, "404", "Resource not found")


def method_not_allowed() -> WireError:
    """405 for a method the path does not take."""
    return gateway_error(405, "405", "Method Not Allowed", {"allow": "POST"})


def too_large(limit: int) -> WireError:
    """413 for a body of more than ``limit`` bytes."""
    return gateway_error(413, "413", f"The request body is too large: at most {limit} bytes are accepted.")


def timed_out() -> WireError:
    """408 for a model that took too long."""
    return gateway_error(408, "Timeout", "The operation was timeout.")


def bad_http() -> WireError:
    """400 for what is no HTTP request, or has headers that are too large."""
    return gateway_error(400, "400", "Bad Request: the request is malformed or its headers are too large.")


def too_many_connections(limit: int) -> WireError:
    """503 for a connection beyond the ``limit``."""
    message = f"The server is busy: at most {limit} connections are accepted at a time."
    return gateway_error(503, "ServiceUnavailable", message, {"retry-after": "1"})


def stopping() -> WireError:
    """503 for a request in flight when the emulator stops."""
    return gateway_error(503, "ServiceUnavailable", "The server is shutting down.")


def rate_limited(
    message: str, retry_after: float | None = None, code: str = "RateLimitReached", *, quirks: bool = True
) -> WireError:
    """429 with its two retry headers, ``retry_after`` in seconds.

    Without a known wait the 2026 service says ``Retry-After: 1`` and ``Retry-After-Ms: 0``; without
    the quirk both say one second.
    """
    if retry_after is None:
        seconds, milliseconds = 1, 0 if quirks else 1000
    else:
        seconds, milliseconds = -int(-retry_after // 1), round(retry_after * 1000)
    headers = {"retry-after": str(seconds), "retry-after-ms": str(milliseconds)}
    return WireError(429, {"error": {"code": code, "message": message, "details": message}}, headers=headers)


def server_error(request_id: str, message: str | None = None, *, status: int = 500) -> WireError:
    """500 and its kind: the model failed. The standard sentence unless ``message`` is given."""
    text = message or _SERVER_ERROR.format(request_id=request_id)
    error = {"message": text, "type": "server_error", "param": None, "code": None}
    return WireError(status, {"error": error}, from_model=True)


def context_length(message: str) -> WireError:
    """400: the conversation does not fit the model's context window."""
    return invalid_request(message, "messages", "context_length_exceeded")


def content_filtered(categories: Mapping[str, Any] | None = None) -> WireError:
    """400: the filter blocked the prompt. ``categories`` are the verdicts that are not "safe"."""
    error = {
        "message": _FILTERED_PROMPT,
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": verdicts(categories),
        },
    }
    return WireError(400, {"error": error}, from_model=True)


def filter_down() -> WireError:
    """The content filter itself has failed, and lets everything through."""
    return gateway_error(500, "content_filter_error", "The contents are not filtered")


def verdicts(categories: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The filter's verdicts: everything safe, but for ``categories``."""
    safe = {
        name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")
    }
    return {**safe, **dict(categories or {})}
