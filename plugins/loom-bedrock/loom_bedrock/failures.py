"""What boto3 and Bedrock raise, as errors of loom_py's tree."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3.exceptions as urllib3_errors
from botocore import exceptions as aws  # type: ignore[import-untyped]
from botocore.eventstream import ParserError  # type: ignore[import-untyped]
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

from loom_py.errors import (
    AuthenticationError,
    ConfigError,
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
    UnsupportedParameterError,
)

__all__ = ["error_from_answer", "failure_of", "retry_after"]

_CREDENTIALS = "Check that the access key, secret key and session token belong together and have not expired."
_ACCESS = (
    "Allow bedrock:InvokeModel and bedrock:InvokeModelWithResponseStream for this model,"
    " and request access to it in the Bedrock console."
)
_QUOTA = "See the account's quotas for this model in AWS Service Quotas."


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code of AWS's means: the error, and its fixed facts."""

    kind: type[ProviderError]
    facts: Mapping[str, Any] = field(default_factory=dict)


def _refused(hint: str = _CREDENTIALS) -> Meaning:
    """A credential that was refused: 403 at AWS, but it stands for what others say with 401."""
    return Meaning(AuthenticationError, {"hint": hint, "http_status": 401})


_EXPIRED = _refused("Renew the session token, for example with aws sso login.")

MEANINGS: dict[str, Meaning] = {
    "accessdenied": Meaning(PermissionDeniedError, {"hint": _ACCESS}),
    "expiredtoken": _EXPIRED,
    "expired": _EXPIRED,
    "requestexpired": _refused("Set this machine's clock: the signature's time is too far off."),
    "unrecognizedclient": _refused(),
    "invalidclienttokenid": _refused(),
    "invalidsignature": _refused("Check the secret access key and this machine's clock."),
    "signaturedoesnotmatch": _refused("Check the secret access key and this machine's clock."),
    "incompletesignature": _refused(),
    "missingauthenticationtoken": _refused(),
    "notauthorized": _refused(),
    "resourcenotfound": Meaning(DeploymentNotFoundError, {"hint": "Check the model id and the region."}),
    "unknownoperation": Meaning(NotFoundError, {"hint": "Check endpoint_url: it is not Bedrock's runtime."}),
    "validation": Meaning(InvalidRequestError),
    "serialization": Meaning(InvalidRequestError),
    "conflict": Meaning(InvalidRequestError),
    "requestentitytoolarge": Meaning(InvalidRequestError, {"hint": "A request may have 20 MB at most."}),
    "throttling": Meaning(RateLimitError),
    "toomanyrequests": Meaning(RateLimitError),
    "servicequotaexceeded": Meaning(RateLimitError, {"hint": _QUOTA, "retryable": False}),
    "modelnotready": Meaning(ServiceUnavailableError, {"hint": "The model is being loaded: try again soon."}),
    "modeltimeout": Meaning(RequestTimeoutError, {"hint": "Ask for less at once, or stream the answer."}),
    "modelerror": Meaning(ServiceUnavailableError),
    "modelstreamerror": Meaning(ServiceUnavailableError),
    "internalserver": Meaning(ServiceUnavailableError),
    "internalfailure": Meaning(ServiceUnavailableError),
    "serviceunavailable": Meaning(ServiceUnavailableError),
}
"""What each exception of AWS's means, by its name without ``Exception`` and in small letters."""

_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    424: ServiceUnavailableError,
    429: RateLimitError,
    504: RequestTimeoutError,
}

_LONG = re.compile(
    r"input is too long|prompt is too long|too many (input )?tokens|maximum context length"
    r"|exceeds? (the )?(model'?s )?(maximum )?context|input length and `?max_tokens`? exceed"
    r"|input (tokens|length).{0,40}exceed",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"(?P<used>[\d,]+) tokens? ?> ?(?P<limit>[\d,]+)")
_FILTERED = re.compile(r"content filter|blocked by|violat\w+ .{0,40}polic", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"(?:this model )?doesn[’']t support (?:the )?(?P<what>[^.]*[^. ])"
    r"|(?P<name>`?\w+`?) (?:is|are) (?:deprecated|not supported) ",
    re.IGNORECASE,
)
_ON_DEMAND = re.compile(r"on-demand throughput isn[’']t supported", re.IGNORECASE)
_BAD_MODEL = re.compile(
    r"model identifier is invalid|model.{0,40}(not found|does ?n[o’']t exist)", re.IGNORECASE
)
_ENDPOINT_POLICY = re.compile(r"vpc endpoint", re.IGNORECASE)


def error_from_answer(
    code: str, message: str, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> ProviderError:
    """The error for an exception of AWS's: its ``code`` (with or without ``Exception``) and message."""
    name = re.sub(r"(exception|error)$", "", code.lower()) or code.lower()
    meaning = MEANINGS.get(name) or MEANINGS.get(code.lower())
    if meaning is None:
        kind = _kind_of(status)
        meaning = Meaning(kind)
    facts: dict[str, Any] = {
        "http_status": status,
        **meaning.facts,
        "provider_code": code,
        "retry_after": retry_after(headers or {}),
    }
    text = message.strip() or f"Bedrock answered {code or status} without a word"
    if meaning.kind is RateLimitError:
        facts["kind"] = _limit(text)
    if meaning.kind is PermissionDeniedError and _ENDPOINT_POLICY.search(text):
        return NetworkAccessError(text, **{**facts, "hint": "Check the policies of the VPC endpoint."})
    if meaning.kind is InvalidRequestError:
        return _invalid(text, facts)
    return meaning.kind(text, **facts)


def _kind_of(status: int | None) -> type[ProviderError]:
    """The error of a status alone, where a proxy answers or AWS says something new."""
    if status is None:
        return ProviderError
    return _BY_STATUS.get(status) or (ServiceUnavailableError if status >= 500 else InvalidRequestError)


def _invalid(text: str, facts: dict[str, Any]) -> ProviderError:
    """What a refused request was refused for, as far as the message tells."""
    if _LONG.search(text):
        counted = _COUNTED.search(text)
        said = {} if counted is None else counted.groupdict()
        numbers = {name: int(value.replace(",", "")) for name, value in said.items()}
        return ContextLengthError(text, **facts, **numbers)
    if _ON_DEMAND.search(text):
        hint = "Use the id of an inference profile: us., eu., apac. or global. before the model id."
        return InvalidRequestError(text, param="model", **{**facts, "hint": hint})
    if _BAD_MODEL.search(text):
        return DeploymentNotFoundError(text, **{**facts, "hint": "Check the model id and the region."})
    if (unsupported := _UNSUPPORTED.search(text)) is not None:
        param = (unsupported["what"] or unsupported["name"]).strip("` ")
        return UnsupportedParameterError(text, param=param, **facts)
    if _FILTERED.search(text):
        return ContentFilterError(text, **facts)
    return InvalidRequestError(text, **facts)


def _limit(text: str) -> str | None:
    lowered = text.lower()
    if "per day" in lowered or "daily" in lowered:
        return "daily"
    if "token" in lowered:
        return "tokens"
    return "requests" if "request" in lowered else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from the header ``retry-after``: a number or a date; ``None`` without one."""
    value = {name.lower(): text for name, text in headers.items()}.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return seconds if 0 < seconds < 86_400 * 7 else None


# ── what boto3 and the network raise ─────────────────────────────────────────────────────

_NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.NoAuthTokenError,
    aws.SSOError,
    aws.MetadataRetrievalError,
)
_NOT_CONNECTED = (aws.EndpointConnectionError, aws.ProxyConnectionError, aws.ConnectTimeoutError)
_TIMED_OUT = (aws.ReadTimeoutError, urllib3_errors.ReadTimeoutError, TimeoutError)
_UNREADABLE = (ResponseParserError, ParserError)
_UNEXPECTED = (AttributeError, LookupError, TypeError)
"""What botocore's parser stumbles with over JSON of another shape."""
_BROKEN = (aws.HTTPClientError, aws.ConnectionError, urllib3_errors.HTTPError, OSError)


def failure_of(exc: Exception, *, endpoint: str, sent: bool) -> LoomError:
    """The error for whatever a call raised. ``sent`` says whether the request had gone out."""
    if isinstance(exc, LoomError):
        return exc
    if isinstance(exc, aws.ClientError):
        return _refusal(exc)
    if isinstance(exc, _NO_CREDENTIALS):
        hint = "Pass keys, a profile or a session, set AWS's variables, or run aws configure (aws sso login)."
        return AuthenticationError(f"no usable AWS credentials: {exc}", hint=hint, sent=False)
    if isinstance(exc, aws.ParamValidationError):
        return InvalidRequestError(str(exc), hint="Check the messages, tools and extra fields.", sent=False)
    if isinstance(exc, UnicodeEncodeError):
        hint = "Look for half surrogates in the messages."
        return InvalidRequestError(f"the request is no Unicode text: {exc}", hint=hint, sent=False)
    if isinstance(exc, _UNREADABLE) or (sent and isinstance(exc, _UNEXPECTED)):
        return MalformedResponseError(f"the answer cannot be read: {_said(exc)}")
    return _of_transport(exc, endpoint, sent)


def _of_transport(exc: Exception, endpoint: str, sent: bool) -> LoomError:
    if isinstance(exc, aws.ConnectTimeoutError):
        hint = "Check that the endpoint can be reached from this machine."
        return RequestTimeoutError(f"timed out connecting to {endpoint}", hint=hint, sent=False)
    if isinstance(exc, _TIMED_OUT):
        return RequestTimeoutError("timed out waiting for an answer", sent=sent)
    if isinstance(exc, aws.SSLError):
        hint = "Check the certificates (AWS_CA_BUNDLE) and proxies between here and AWS."
        return ConnectionFailedError(
            f"no trusted connection to {endpoint}: {_said(exc)}", hint=hint, sent=False, retryable=False
        )
    if isinstance(exc, _BROKEN):
        return ConnectionFailedError(
            f"the connection to {endpoint} failed: {_said(exc)}",
            hint="Check the region, the endpoint and this machine's network.",
            sent=sent and not isinstance(exc, _NOT_CONNECTED),
        )
    if isinstance(exc, (aws.BotoCoreError, ValueError)):
        return ConfigError(f"boto3 refuses the call: {_said(exc)}")
    return ProviderError(f"the call failed: {_said(exc)}", sent=sent)


def _said(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def _refusal(exc: aws.ClientError) -> ProviderError:
    """The error for an exception in an answer, or in the middle of a stream."""
    answer = exc.response
    error, facts = answer.get("Error") or {}, answer.get("ResponseMetadata") or {}
    status = facts.get("HTTPStatusCode")
    failure = error_from_answer(
        str(error.get("Code") or ""),
        str(error.get("Message") or answer.get("message") or ""),
        status=status if isinstance(status, int) and status >= 400 else None,
        headers=facts.get("HTTPHeaders"),
    )
    failure.request_id = facts.get("RequestId")
    return failure
