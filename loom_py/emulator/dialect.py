"""What is a service's own in the emulator: paths, credentials, headers, and the words of its errors.

The rest, from the decoding of a request to the faults, is the same for every service with this wire.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol

from loom_py.emulator.chat_surface import ChatSurface
from loom_py.emulator.quotas import Quota, Refusal
from loom_py.emulator.responses_surface import ResponsesSurface
from loom_py.emulator.throttling import throttled
from loom_py.emulator.wire_errors import (
    WireError,
    deployment_not_found,
    invalid_request,
    method_not_allowed,
    resource_not_found,
)

if TYPE_CHECKING:
    from loom_py.emulator.exchange import Exchange
    from loom_py.emulator.faults import Answer

__all__ = ["AzureDialect", "Dialect"]

_CLASSIC = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
_MODEL_IN_BODY = {
    "/openai/v1/chat/completions": (ChatSurface, True),
    "/openai/v1/responses": (ResponsesSurface, True),
    "/openai/responses": (ResponsesSurface, False),
}
"""Path -> its surface, and whether it is of the v1 API, which knows no api-version."""


class Dialect(Protocol):
    """One service's ways. It has no state: everything is asked of the exchange."""

    def locate(self, exchange: Exchange) -> None:
        """Note which deployment is meant, as far as the request tells."""
        ...

    def route(self, exchange: Exchange) -> Answer | None:
        """Find the surface. Raises `WireError` where there is none; an answer of its own comes at once."""
        ...

    def authenticate(self, exchange: Exchange) -> None:
        """Raises `WireError` (401) unless the request holds an accepted credential."""
        ...

    def headers(self, exchange: Exchange, *, from_model: bool, region: bool) -> dict[str, str]:
        """The headers of every answer, and the model's if it was reached."""
        ...

    def refusal_headers(self, error: WireError) -> dict[str, str]:
        """What an error of the model has beside them."""
        ...

    def worded(self, error: WireError, exchange: Exchange) -> WireError:
        """``error`` in the service's own words."""
        ...

    def throttled(self, exchange: Exchange, quota: Quota, refusal: Refusal) -> WireError:
        """The 429 of a quota that is used up."""
        ...

    def not_found(self, exchange: Exchange) -> WireError:
        """404 for a deployment or model that there is not."""
        ...

    def shaped(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any] | None:
        """An answer or a chunk as the service writes it; ``None`` where it writes none."""
        ...


class AzureDialect:
    """Azure OpenAI: the classic API and v1."""

    def locate(self, exchange: Exchange) -> None:
        """The deployment stands in the path of the classic API, and else in the body."""
        record, path = exchange.reply.record, exchange.request.scope["path"]
        classic = _CLASSIC.fullmatch(path)
        _, exchange.v1 = _MODEL_IN_BODY.get(path, (ChatSurface, False))
        if classic:
            record.deployment = classic[1]
        elif isinstance(record.body, dict) and isinstance(record.body.get("model"), str):
            record.deployment = record.body["model"]
        exchange.deployment = record.deployment or ""

    def route(self, exchange: Exchange) -> Answer | None:
        """The surface that the path names."""
        request = exchange.request
        path = request.scope["path"]
        known = _CLASSIC.fullmatch(path) or path in _MODEL_IN_BODY
        if not known or request.method in {"GET", "HEAD"}:
            raise resource_not_found()
        if not exchange.v1 and not request.query_params.get("api-version"):
            raise resource_not_found()
        if request.method != "POST":
            raise method_not_allowed()
        surface, _ = _MODEL_IN_BODY.get(path, (ChatSurface, False))
        exchange.use(surface)
        return None

    def authenticate(self, exchange: Exchange) -> None:
        """A key or a token; the v1 API also takes a key as bearer token."""
        exchange.resource.authenticate(exchange.request.headers, keys_as_bearer=exchange.v1)

    def headers(self, exchange: Exchange, *, from_model: bool, region: bool) -> dict[str, str]:
        """The gateway's headers, and the model's."""
        headers = {
            "date": formatdate(exchange.resource.clock.time(), usegmt=True),
            "apim-request-id": exchange.apim_id,
            "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
            "x-content-type-options": "nosniff",
        }
        if region:
            headers["x-ms-region"] = exchange.resource.region
        if from_model:
            headers["x-request-id"] = exchange.request_id
            headers["azureml-model-session"] = "d20260526124601-421ae15f"
            headers["x-ms-deployment-name"] = exchange.deployment
            headers["x-ms-served-model"] = exchange.model
            headers["x-ms-rai-invoked"] = "true"
            headers["x-ms-is-spilled-over"] = "false"
            headers["x-ratelimit-abusepenalty-active"] = "False"
            headers["x-ratelimit-key"] = exchange.deployment
            headers.update(exchange.grant.headers if exchange.grant else {})
        return headers

    def refusal_headers(self, error: WireError) -> dict[str, str]:
        """What the gateway says of an error of the model."""
        return {
            "ms-azureml-model-error-reason": "model_error",
            "ms-azureml-model-error-statuscode": str(error.status),
        }

    def worded(self, error: WireError, exchange: Exchange) -> WireError:
        """As it is: the emulator's errors are written in Azure's words."""
        return error

    def throttled(self, exchange: Exchange, quota: Quota, refusal: Refusal) -> WireError:
        """The 429 in the quota's style."""
        situation = exchange.situation
        return throttled(
            quota.style,
            situation.deployment,
            situation.region,
            refusal.wait,
            kind="requests" if refusal.kind == "requests" else "tokens",
            api_version=situation.api_version,
            operation=situation.operation,
            zero_retry_after_ms=quota.zero_retry_after_ms and situation.quirks,
        )

    def not_found(self, exchange: Exchange) -> WireError:
        """404 for a deployment, 400 where the body names none."""
        if not exchange.deployment:
            return invalid_request("you must provide a model parameter")
        return deployment_not_found(exchange.resource.quirks)

    def shaped(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any] | None:
        """As it is."""
        return body


def error_object(error: WireError) -> Mapping[str, Any]:
    """The object in an error's body that has its code and message; empty where it is raw."""
    inside = error.body.get("error", error.body) if isinstance(error.body, Mapping) else {}
    return inside if isinstance(inside, Mapping) else {}
