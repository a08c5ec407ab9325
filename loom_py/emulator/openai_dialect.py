"""OpenAI's own API: ``/v1``, bearer keys, its headers and the words of its errors.

From OpenAI's API reference, its guides to error codes and rate limits, and error answers that people quote in
public issues (2024–2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from loom_py.emulator.chat_surface import ChatSurface
from loom_py.emulator.dialect import error_object
from loom_py.emulator.encode import encode_json
from loom_py.emulator.faults import Answer
from loom_py.emulator.quotas import Quota, Refusal
from loom_py.emulator.responses_surface import ResponsesSurface
from loom_py.emulator.wire_errors import WireError, invalid_request

if TYPE_CHECKING:
    from loom_py.emulator.exchange import Exchange

__all__ = ["OpenAIDialect", "duration"]

ORGANIZATION = "org-emulator"
_SURFACES = {"/v1/chat/completions": ChatSurface, "/v1/responses": ResponsesSurface}
_MODELS = "/v1/models"
_KEYS_PAGE = "https://platform.openai.com/account/api-keys"

_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer"
    " auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're"
    " accessing the API from your browser and are prompted for a username and password. You can obtain an API"
    f" key from {_KEYS_PAGE}."
)
_FLAGGED = (
    "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with"
    " a different prompt: https://platform.openai.com/docs/guides/reasoning#advice-on-prompting"
)
_BROKEN = (
    "The server had an error while processing your request. Sorry about that! You can retry your request, or"
    " contact us through our help center at help.openai.com if the error persists. (Please include the"
    " request ID {request_id} in your message.)"
)
_LIMITED = (
    "Rate limit reached for {model} in organization {organization} on {kind}: Limit {limit}. Please try again"
    " in {wait}. Visit https://platform.openai.com/account/rate-limits to learn more."
)
_TYPES = {401: "invalid_request_error", 403: "invalid_request_error", 429: "requests"}
_AZURES = ("Your requests to ", "Requests to the ", "The server had an error")
"""How the words begin that are Azure's alone."""


class OpenAIDialect:
    """OpenAI's own API, of one organization."""

    def locate(self, exchange: Exchange) -> None:
        """The model stands in the body."""
        record = exchange.reply.record
        if isinstance(record.body, dict) and isinstance(record.body.get("model"), str):
            record.deployment = record.body["model"]
        exchange.deployment = record.deployment or ""
        exchange.v1 = True

    def route(self, exchange: Exchange) -> Answer | None:
        """The surface that the path names; the list of models is an answer already."""
        request = exchange.request
        path, method = request.scope["path"], request.method
        if path == _MODELS or path.startswith(f"{_MODELS}/"):
            if method != "GET":
                raise _not_allowed(method, path)
            self.authenticate(exchange)
            return _models(exchange, path.removeprefix(_MODELS).strip("/"))
        surface = _SURFACES.get(path)
        if surface is None:
            raise invalid_request(f"Invalid URL ({method} {path})", status=404)
        if method != "POST":
            raise _not_allowed(method, path)
        exchange.use(surface)
        return None

    def authenticate(self, exchange: Exchange) -> None:
        """A key, as bearer token."""
        scheme, _, key = exchange.request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise invalid_request(_NO_KEY, status=401)
        if key.strip() not in exchange.resource.api_keys:
            raise _bad_key(key.strip())

    def headers(self, exchange: Exchange, *, from_model: bool, region: bool) -> dict[str, str]:
        """Those of every answer; organization, time and limits where the model was reached."""
        headers = {
            "date": formatdate(exchange.resource.clock.time(), usegmt=True),
            "x-request-id": f"req_{exchange.request_id.replace('-', '')}",
            "x-content-type-options": "nosniff",
            "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
        }
        if from_model:
            headers["openai-organization"] = ORGANIZATION
            headers["openai-processing-ms"] = "12"
            headers["openai-version"] = "2020-10-01"
            headers.update(_limits(exchange.grant.headers if exchange.grant else {}))
        return headers

    def refusal_headers(self, error: WireError) -> dict[str, str]:
        """None."""
        return {}

    def worded(self, error: WireError, exchange: Exchange) -> WireError:
        """``error`` as ``{"error": {message, type, param, code}}``."""
        found = error_object(error)
        if not found or error.is_verbatim:
            return error
        status, code = error.status, found.get("code")
        if status == 401 and found.get("type") is None:
            return _bad_key(exchange.request.headers.get("authorization", "").partition(" ")[2])
        if status == 404 and code == "DeploymentNotFound":
            return self.not_found(exchange)
        if code == "content_filter":
            return invalid_request(_FLAGGED, None, "invalid_prompt")
        message = str(found.get("message") or "")
        if status == 429:
            code = {"RateLimitReached": "rate_limit_exceeded", "429": "rate_limit_exceeded"}.get(
                str(code), code
            )
        elif isinstance(code, str) and code.isdigit():
            code = None
        body = {
            "message": self._said(status, message, error, exchange),
            "type": _type(status, code, found),
            "param": found.get("param"),
            "code": code,
        }
        headers = {name: value for name, value in error.headers.items() if value != "0"}
        return WireError(status, {"error": body}, headers=headers, from_model=error.from_model)

    def _said(self, status: int, message: str, error: WireError, exchange: Exchange) -> str:
        if message and not message.startswith(_AZURES):
            return message
        if status == 429:
            wait = duration(float(error.headers.get("retry-after", "1")))
            return _limited(exchange.deployment, "requests per min (RPM)", "500", wait)
        return _BROKEN.format(request_id=f"req_{exchange.request_id.replace('-', '')}")

    def throttled(self, exchange: Exchange, quota: Quota, refusal: Refusal) -> WireError:
        """The 429 of a quota that is used up; the wait is told in the text and in both headers."""
        by_requests = refusal.kind == "requests"
        limit = quota.requests_per_minute if by_requests else quota.tokens_per_minute
        kind = "requests per min (RPM)" if by_requests else "tokens per min (TPM)"
        error = {
            "message": _limited(exchange.deployment, kind, str(limit), duration(refusal.wait)),
            "type": "requests" if by_requests else "tokens",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        headers = {
            "retry-after": str(max(1, -int(-refusal.wait // 1))),
            "retry-after-ms": str(max(1, -int(-refusal.wait * 1000 // 1))),
        }
        return WireError(429, {"error": error}, headers=headers, from_model=True)

    def not_found(self, exchange: Exchange) -> WireError:
        """404 for a model, 400 where the body names none."""
        if not exchange.deployment:
            return invalid_request("you must provide a model parameter")
        return _no_model(exchange.deployment)

    def shaped(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any] | None:
        """Without the content filter's annotations, and with the tier that served."""
        if "choices" in body:
            if body.pop("prompt_filter_results", None) is not None and body.get("object") == "":
                return None  # the chunk before the first, which is Azure's alone
            if any("delta" not in choice and "message" not in choice for choice in body["choices"]):
                return None  # the asynchronous filter's verdict
            for choice in body["choices"]:
                choice.pop("content_filter_results", None)
                choice.pop("content_filter_offsets", None)
            body["system_fingerprint"] = "fp_emulator"
            body["service_tier"] = _tier(exchange)
        response = body.get("response") if "type" in body else body
        if isinstance(response, dict) and response.get("object") == "response":
            response.pop("content_filters", None)
            response["model"] = exchange.model
            response["service_tier"] = _tier(exchange)
        return body


def duration(seconds: float) -> str:
    """Seconds as OpenAI's headers have them: ``6m0s``, ``1.2s``, ``120ms``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return "".join([f"{hours}h" if hours else "", f"{minutes}m" if hours or minutes else "", f"{text}s"])


def _limits(headers: Mapping[str, str]) -> dict[str, str]:
    """A quota's headers; the reset is the time until all of it is there again."""
    told = {}
    for kind in ("requests", "tokens"):
        limit, left = (headers.get(f"x-ratelimit-{name}-{kind}") for name in ("limit", "remaining"))
        if limit is not None and left is not None:
            used = (int(limit) - int(left)) / max(1, int(limit))
            told[f"x-ratelimit-limit-{kind}"] = limit
            told[f"x-ratelimit-remaining-{kind}"] = left
            told[f"x-ratelimit-reset-{kind}"] = duration(60 * used)
    return told


def _limited(model: str, kind: str, limit: str, wait: str) -> str:
    return _LIMITED.format(model=model, organization=ORGANIZATION, kind=kind, limit=limit, wait=wait)


def _type(status: int, code: Any, found: Mapping[str, Any]) -> str:
    if code == "insufficient_quota":
        return "insufficient_quota"
    return str(found.get("type") or _TYPES.get(status) or ("server_error" if status >= 500 else _REFUSED))


_REFUSED = "invalid_request_error"


def _tier(exchange: Exchange) -> str:
    """The tier that was asked for; ``auto`` and none at all are served as the default."""
    body = exchange.reply.record.body
    asked = body.get("service_tier") if isinstance(body, Mapping) else None
    return asked if asked in {"flex", "priority", "scale"} else "default"


def _bad_key(key: str) -> WireError:
    shown = f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 10 else "*" * len(key)
    message = f"Incorrect API key provided: {shown}. You can find your API key at {_KEYS_PAGE}."
    return invalid_request(message, None, "invalid_api_key", status=401)


def _no_model(name: str) -> WireError:
    message = f"The model `{name}` does not exist or you do not have access to it."
    return invalid_request(message, None, "model_not_found", status=404)


def _not_allowed(method: str, path: str) -> WireError:
    message = f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)"
    return invalid_request(message, None, "method_not_supported", status=405)


def _models(exchange: Exchange, name: str) -> Answer:
    """The list of models, or one of them."""
    created = int(exchange.resource.clock.time())
    found = [
        {"id": model, "object": "model", "created": created, "owned_by": "openai"}
        for model in exchange.resource.deployments
    ]
    body: Any = {"object": "list", "data": found}
    if name:
        body = next((model for model in found if model["id"] == name), None)
        if body is None:
            raise _no_model(name)
    return Answer(200, {"content-type": "application/json"}, encode_json(body))
