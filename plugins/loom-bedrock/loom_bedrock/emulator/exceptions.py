"""Bedrock's own errors, and what an engine's errors become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loom_py.errors import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    LoomError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
)

__all__ = ["STATUSES", "BedrockException", "RawAnswer", "as_exception"]

STATUSES = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "InternalServerException": 500,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ModelStreamErrorException": 424,
    "ModelTimeoutException": 408,
    "RequestEntityTooLargeException": 413,
    "ResourceNotFoundException": 404,
    "SerializationException": 400,
    "ServiceQuotaExceededException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "UnknownOperationException": 404,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
}
"""The status of each exception (botocore's model of the service, and AWS's common errors)."""

MESSAGES = {
    "AccessDeniedException": "You don't have access to the model with the specified model ID.",
    "ExpiredTokenException": "The security token included in the request is expired",
    "InternalServerException": (
        "The system encountered an unexpected error during processing. Try your request again."
    ),
    "MissingAuthenticationTokenException": "Missing Authentication Token",
    "ModelErrorException": "The request failed due to an error while processing the model.",
    "ModelNotReadyException": "The model specified in the request is not ready to serve inference requests.",
    "ModelStreamErrorException": (
        "The model has encountered an unexpected error during processing. Try your request again."
    ),
    "ModelTimeoutException": "Model has timed out in processing the request. Try your request again.",
    "ResourceNotFoundException": "Could not resolve the foundation model from the provided model identifier.",
    "ServiceQuotaExceededException": "Your request exceeds the service quota for your account.",
    "ServiceUnavailableException": "Bedrock is unable to process your request.",
    "ThrottlingException": "Too many requests, please wait before trying again.",
    "UnrecognizedClientException": "The security token included in the request is invalid.",
}
"""What each says where nothing else is said."""


class BedrockException(Exception):  # noqa: N818 - AWS calls them exceptions
    """An exception of Bedrock's: an answer with its status, or an event in the middle of a stream.

    An engine may raise it to have it answered. ``status`` and ``message`` are Bedrock's own unless given;
    ``headers`` are added to the answer's.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.code = code
        self.message = message if message is not None else MESSAGES.get(code, "")
        self.status = status or STATUSES.get(code, 400)
        self.headers = dict(headers or {})
        self.facts = dict(facts or {})
        super().__init__(f"{code}: {self.message}")

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"message": self.message, **self.facts}

    @property
    def event_type(self) -> str:
        """Its name as an event of a stream."""
        return self.code[:1].lower() + self.code[1:]


class RawAnswer(Exception):  # noqa: N818 - an answer, not an error
    """An answer that is sent as it is, such as a proxy's page. An engine may raise it."""

    def __init__(
        self, status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"a raw answer with status {status}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


_KINDS: tuple[tuple[type[LoomError], str], ...] = (
    (AuthenticationError, "UnrecognizedClientException"),
    (PermissionDeniedError, "AccessDeniedException"),
    (NotFoundError, "ResourceNotFoundException"),
    (InvalidRequestError, "ValidationException"),
    (RateLimitError, "ThrottlingException"),
    (RequestTimeoutError, "ModelTimeoutException"),
    (ServiceUnavailableError, "ServiceUnavailableException"),
)


def as_exception(error: Exception) -> BedrockException:
    """What Bedrock would answer for the ``error`` of an engine."""
    if isinstance(error, BedrockException):
        return error
    if not isinstance(error, LoomError):
        return BedrockException("InternalServerException")
    if isinstance(error, ProviderError) and error.provider_code in STATUSES:
        code = error.provider_code
    else:
        code = next((code for kind, code in _KINDS if isinstance(error, kind)), "InternalServerException")
    if isinstance(error, ServiceUnavailableError) and error.http_status == 500:
        code = "InternalServerException"
    message = (
        "Input is too long for requested model." if isinstance(error, ContextLengthError) else error.message
    )
    headers = {} if error.retry_after is None else {"retry-after": f"{error.retry_after:g}"}
    return BedrockException(str(code), message, headers=headers)
