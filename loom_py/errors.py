"""Every error loom_py raises, in one tree.

::

    LoomError
    ├── ConfigError                  invalid_config           a setting is wrong or missing
    │   ├── InvalidEndpointError     invalid_endpoint
    │   ├── InvalidDeploymentError   invalid_deployment
    │   ├── MissingAuthError         missing_auth
    │   ├── BuilderError             builder_error            every problem of a build at once
    │   ├── ToolDefinitionError      invalid_tool             a function cannot become a tool
    │   ├── MissingDependencyError   missing_dependency       an extra is not installed
    │   ├── ProviderNotFoundError    provider_not_found       no provider of that name
    │   ├── ProviderLoadError        provider_load_failed     a plugin is installed but broken
    │   └── KeyStoreError            key_store                keys cannot be read or written
    ├── ProviderError                provider_error           a model call failed
    │   ├── AuthenticationError      unauthorized             401
    │   ├── PermissionDeniedError    permission_denied        403
    │   │   └── NetworkAccessError   network_access_denied    403 from a firewall or private network
    │   ├── NotFoundError            not_found                404, wrong path or API version
    │   │   └── DeploymentNotFoundError  DeploymentNotFound   404, no such deployment
    │   ├── InvalidRequestError      invalid_request_error    400
    │   │   ├── UnsupportedParameterError  unsupported_parameter
    │   │   └── ContextLengthError   context_length_exceeded
    │   ├── ContentFilterError       content_filter           prompt or answer was blocked
    │   ├── RateLimitError           rate_limit_exceeded      429
    │   ├── ServiceUnavailableError  service_unavailable      5xx
    │   │   └── ConnectionFailedError  connection_failed      no answer at all
    │   ├── RequestTimeoutError      timeout                  408, or the client's own clock
    │   ├── MalformedResponseError   malformed_response       an answer that is not an answer
    │   ├── IncompleteResponseError  incomplete_response      the token limit left no text
    │   ├── RefusalError             refusal                  the model declined to answer
    │   ├── StreamInterruptedError   stream_interrupted       a stream broke off
    │   └── RetriesExhausted         retries_exhausted        every attempt failed; it holds them all
    ├── CircuitOpenError             circuit_open             a breaker refused the call
    │   └── NoDeploymentError        no_deployment            every deployment of a pool is out
    ├── QueueError                   queue_error              the agent's own rate limit
    │   ├── QueueFullError           queue_full               too many calls wait already
    │   └── QueueTimeoutError        queue_timeout            the call waited too long for its turn
    ├── DeadlineExceededError        deadline_exceeded        the time for the whole run is over
    ├── BudgetError                  budget_error             the agent's own money
    │   ├── BudgetExceededError      budget_exceeded          the next call could overspend
    │   └── PriceUnknownError        price_unknown            a budget, and no price to count with
    ├── ToolError                    tool_error               a tool failed
    │   ├── ToolArgumentsError       invalid_arguments
    │   ├── UnknownToolError         unknown_tool
    │   └── ToolTimeoutError         tool_timeout
    ├── OutputValidationError        invalid_output           the answer does not fit the type asked for
    ├── LimitExceededError           limit_exceeded           an agent's own limit, if so configured
    ├── AgentClosedError             agent_closed
    ├── BackendError                 backend_error            a data source failed
    │   ├── BackendConnectionError   backend_unavailable
    │   ├── QueryRefusedError        query_refused            not a read-only query
    │   ├── QueryError               query_failed
    │   └── GuardrailError           guardrail                a check before the query found a mistake
    └── ScriptError                  script_error             a scripted provider was misused

Catch `LoomError` for all of them, or test ``error.retryable``. No error ever holds a credential.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from loom_py.messages import TokenUsage, ToolCall

__all__ = [
    "AgentClosedError",
    "AuthenticationError",
    "BackendConnectionError",
    "BackendError",
    "BudgetError",
    "BudgetExceededError",
    "BuilderError",
    "CircuitOpenError",
    "ConfigError",
    "ConnectionFailedError",
    "ContentFilterError",
    "ContextLengthError",
    "DeadlineExceededError",
    "DeploymentNotFoundError",
    "FailedAttempt",
    "GuardrailError",
    "IncompleteResponseError",
    "InvalidDeploymentError",
    "InvalidEndpointError",
    "InvalidRequestError",
    "KeyStoreError",
    "LimitExceededError",
    "LoomError",
    "MalformedResponseError",
    "MissingAuthError",
    "MissingDependencyError",
    "NetworkAccessError",
    "NoDeploymentError",
    "NotFoundError",
    "OutputValidationError",
    "PermissionDeniedError",
    "PriceUnknownError",
    "Problem",
    "ProviderError",
    "ProviderLoadError",
    "ProviderNotFoundError",
    "QueryError",
    "QueryRefusedError",
    "QueueError",
    "QueueFullError",
    "QueueTimeoutError",
    "RateLimitError",
    "RefusalError",
    "RequestTimeoutError",
    "RetriesExhausted",
    "ScriptError",
    "ServiceUnavailableError",
    "StreamInterruptedError",
    "ToolArgumentsError",
    "ToolDefinitionError",
    "ToolError",
    "ToolTimeoutError",
    "UnknownToolError",
    "UnsupportedParameterError",
]


def _restore(cls: type[LoomError], args: tuple[Any, ...], state: dict[str, Any]) -> LoomError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class LoomError(Exception):
    """The root of the tree.

    Attributes:
        message: what was wrong, in a sentence.
        code: a stable machine-readable name.
        http_status: the HTTP status that was received, or the one this error stands for.
        grpc_code: the canonical gRPC status name.
        retryable: whether the same call may succeed later.
        retry_after: seconds to wait before that, where known.
        request_id: the server's id of the request, for support.
        deployment: the deployment (or model) that was called.
        hint: what to do about it.
        tokens_used: tokens spent until the failure, where known. Out of an agent: by the whole chat.
        cost_usd: what those tokens cost, where known.
    """

    code: str = "loom_error"
    http_status: int | None = None
    grpc_code: str = "UNKNOWN"
    retryable: bool = False
    default_hint: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        deployment: str | None = None,
        hint: str | None = None,
        tokens_used: TokenUsage | None = None,
        cost_usd: Decimal | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if http_status is not None:
            self.http_status = http_status
        if retryable is not None:
            self.retryable = retryable
        self.retry_after = retry_after
        self.request_id = request_id
        self.deployment = deployment
        self.hint = hint if hint is not None else self.default_hint
        self.tokens_used = tokens_used
        self.cost_usd = cost_usd

    def __str__(self) -> str:
        facts = []
        if self.deployment:
            facts.append(f"deployment {self.deployment}")
        if self.request_id:
            facts.append(f"request id {self.request_id}")
        if self.retry_after is not None:
            facts.append(f"retry after {self.retry_after:g} s")
        text = f"{self.message} ({', '.join(facts)})" if facts else self.message
        return f"{text} Hint: {self.hint}" if self.hint else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)

    def to_dict(self) -> dict[str, Any]:
        """The fields every error has, JSON-compatible, for logs and API answers."""
        return {
            "type": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "http_status": self.http_status,
            "grpc_code": self.grpc_code,
            "retryable": self.retryable,
            "retry_after": self.retry_after,
            "request_id": self.request_id,
            "deployment": self.deployment,
            "hint": self.hint,
        }


# ── configuration ────────────────────────────────────────────────────────────────────────


class ConfigError(LoomError):
    """A setting is missing or wrong. ``field`` names it."""

    code = "invalid_config"
    grpc_code = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, field: str | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.field = field


class InvalidEndpointError(ConfigError):
    """The endpoint is missing or is not an https URL."""

    code = "invalid_endpoint"


class InvalidDeploymentError(ConfigError):
    """The deployment id is missing."""

    code = "invalid_deployment"


class MissingAuthError(ConfigError):
    """No credential was given."""

    code = "missing_auth"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a build: the ``field``, what is wrong, and the remedy."""

    field: str
    message: str
    remedy: str | None = None
    error: LoomError | None = None

    def __str__(self) -> str:
        is_told = self.message.startswith((f"{self.field}: ", f"{self.field} "))
        where = "" if is_told else f"{self.field}: "
        return f"{where}{self.message}" + (f" → {self.remedy}" if self.remedy else "")


class BuilderError(ConfigError):
    """`AgentBuilder.build` (or a client) failed; ``problems`` holds everything that is wrong."""

    code = "builder_error"

    def __init__(self, problems: Iterable[Problem], *, what: str = "the agent", **facts: Any) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{what} cannot be built, {count}:\n{lines}", **facts)


class ToolDefinitionError(ConfigError):
    """A function cannot become a tool: an annotation is missing, a name is illegal, …"""

    code = "invalid_tool"


class MissingDependencyError(ConfigError):
    """An optional package is not installed; the hint names the extra."""

    code = "missing_dependency"
    grpc_code = "FAILED_PRECONDITION"


class ProviderNotFoundError(ConfigError):
    """No installed package offers a provider of that name."""

    code = "provider_not_found"
    grpc_code = "NOT_FOUND"


class ProviderLoadError(ConfigError):
    """A provider plugin is installed but cannot be imported."""

    code = "provider_load_failed"
    grpc_code = "FAILED_PRECONDITION"


class KeyStoreError(ConfigError):
    """API keys cannot be read or written: there is no keyring, it is locked, a file is open to others, …"""

    code = "key_store"


# ── model calls ──────────────────────────────────────────────────────────────────────────


class ProviderError(LoomError):
    """A model call failed in a way no subclass describes.

    ``provider_code`` is the code the server sent, where it sent one. ``sent`` is ``False`` where the request
    surely never reached the model, so that it cannot have been billed.
    """

    code = "provider_error"

    def __init__(
        self, message: str, *, provider_code: str | None = None, sent: bool = True, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.provider_code = provider_code
        self.sent = sent


class AuthenticationError(ProviderError):
    """The server refused the credential (401)."""

    code = "unauthorized"
    http_status = 401
    grpc_code = "UNAUTHENTICATED"


class PermissionDeniedError(ProviderError):
    """The credential is known but may not do this (403)."""

    code = "permission_denied"
    http_status = 403
    grpc_code = "PERMISSION_DENIED"


class NetworkAccessError(PermissionDeniedError):
    """A firewall, virtual network or private endpoint stands in between (403)."""

    code = "network_access_denied"


class NotFoundError(ProviderError):
    """The URL does not exist on the server (404): a wrong path or API version."""

    code = "not_found"
    http_status = 404
    grpc_code = "NOT_FOUND"


class DeploymentNotFoundError(NotFoundError):
    """The resource has no deployment of that name (404)."""

    code = "DeploymentNotFound"


class InvalidRequestError(ProviderError):
    """The server refused the request as sent (400). ``param`` names the part it disliked."""

    code = "invalid_request_error"
    http_status = 400
    grpc_code = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, param: str | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.param = param


class UnsupportedParameterError(InvalidRequestError):
    """The model does not take this parameter, or not this value of it."""

    code = "unsupported_parameter"


class ContextLengthError(InvalidRequestError):
    """The conversation is longer than the model's context window.

    ``limit`` and ``used`` are in tokens, where the server said them.
    """

    code = "context_length_exceeded"
    default_hint = "Shorten the conversation or the tool results, or lower max_tokens."

    def __init__(
        self, message: str, *, limit: int | None = None, used: int | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.limit = limit
        self.used = used


def is_filtered(verdict: Any) -> bool:
    """Whether a content filter's verdict blocked: an object that says so, or a list with one."""
    if isinstance(verdict, (list, tuple)):
        return any(map(is_filtered, verdict))
    return isinstance(verdict, Mapping) and verdict.get("filtered") is True


def _severity(verdict: Any) -> str:
    found = verdict.get("severity") if isinstance(verdict, Mapping) else None
    return found if isinstance(found, str) else ""


def _blocklist_ids(verdict: Any) -> Iterable[str]:
    """The ids in either shape of the verdict: an object with details, or the list of them itself."""
    details = verdict.get("details") if isinstance(verdict, Mapping) else verdict
    for entry in details if isinstance(details, (list, tuple)) else ():
        if is_filtered(entry) and isinstance(entry.get("id"), str):
            yield entry["id"]


class ContentFilterError(ProviderError):
    """The content filter blocked the prompt or the answer.

    Attributes:
        side: ``"prompt"`` or ``"completion"``.
        categories: the filter's verdicts as sent: ``{"hate": {"filtered": True, "severity": "high"}}``.
        filtered: names of the categories that blocked, possibly empty (the server may not say).
        severities: how severe each category was found, where the server said: ``{"hate": "high"}``.
        blocklists: ids of the custom blocklists that matched.
        offsets: where in the text the verdict holds, as sent by the asynchronous filter.
        partial_text: what the model had said before it was stopped.
    """

    code = "content_filter"
    http_status = 400
    grpc_code = "INVALID_ARGUMENT"
    default_hint = "Rephrase the content, or adjust the deployment's content filter."

    def __init__(
        self,
        message: str,
        *,
        side: str = "prompt",
        categories: Mapping[str, Any] | None = None,
        partial_text: str = "",
        offsets: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.side = side
        self.categories = dict(categories or {})
        self.partial_text = partial_text
        self.offsets = dict(offsets or {})

    @property
    def severities(self) -> dict[str, str]:
        found = {name: _severity(verdict) for name, verdict in self.categories.items()}
        return {name: severity for name, severity in found.items() if severity}

    @property
    def blocklists(self) -> tuple[str, ...]:
        return tuple(_blocklist_ids(self.categories.get("custom_blocklists")))

    @property
    def filtered(self) -> tuple[str, ...]:
        return tuple(name for name, verdict in self.categories.items() if is_filtered(verdict))


class RateLimitError(ProviderError):
    """Too many requests or tokens (429). ``retry_after`` is in seconds.

    ``kind`` is ``"tokens"``, ``"requests"``, ``"capacity"``, ``"daily"``, or ``"credit"`` where the account's
    money is used up and no waiting helps; ``None`` where the server did not say which limit it was.
    """

    code = "rate_limit_exceeded"
    http_status = 429
    grpc_code = "RESOURCE_EXHAUSTED"
    retryable = True

    def __init__(self, message: str, *, kind: str | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.kind = kind


class ServiceUnavailableError(ProviderError):
    """The service failed (5xx)."""

    code = "service_unavailable"
    http_status: int | None = 503
    grpc_code = "UNAVAILABLE"
    retryable = True


class ConnectionFailedError(ServiceUnavailableError):
    """The server could not be reached, or hung up without an answer."""

    code = "connection_failed"
    http_status = None


class RequestTimeoutError(ProviderError):
    """No answer in time (408, or the client's own clock)."""

    code = "timeout"
    http_status = 408
    grpc_code = "DEADLINE_EXCEEDED"
    retryable = True


class MalformedResponseError(ProviderError):
    """The server said 200 and sent something that is not an answer."""

    code = "malformed_response"
    grpc_code = "INTERNAL"
    retryable = True


class IncompleteResponseError(ProviderError):
    """The token limit was used up before there was any text, as reasoning models do."""

    code = "incomplete_response"
    grpc_code = "OUT_OF_RANGE"
    default_hint = "Raise max_tokens: reasoning tokens count against it."


class RefusalError(ProviderError):
    """The model declined to give the structured answer; the message holds its words."""

    code = "refusal"
    grpc_code = "FAILED_PRECONDITION"


class StreamInterruptedError(ProviderError):
    """A stream ended before the answer was whole.

    ``partial_text`` and ``partial_tool_calls`` are what had arrived.
    """

    code = "stream_interrupted"
    grpc_code = "UNAVAILABLE"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        partial_text: str = "",
        partial_tool_calls: Iterable[ToolCall] = (),
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.partial_text = partial_text
        self.partial_tool_calls = tuple(partial_tool_calls)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One try of a model call that failed: where, with what ``error``, and when.

    ``at`` and ``seconds`` are in seconds: since the call began, and how long the try took. ``waited`` is
    how long the call had waited before it.
    """

    deployment: str
    error: LoomError
    at: float
    seconds: float
    waited: float

    def __str__(self) -> str:
        return f"at {self.at:.1f} s, {self.deployment}: {self.error.code}"


class RetriesExhausted(ProviderError):  # noqa: N818 - the field's own name for it
    """Every attempt failed. ``attempts`` holds them all, ``last`` is the last one's error.

    Status, request id, deployment and ``retry_after`` are those of the last attempt.
    """

    code = "retries_exhausted"
    retryable = True

    def __init__(self, message: str, *, attempts: Iterable[FailedAttempt] = (), **facts: Any) -> None:
        super().__init__(message, **facts)
        self.attempts = tuple(attempts)
        if self.attempts:
            last = self.attempts[-1].error
            self.grpc_code = last.grpc_code
            self.http_status = last.http_status
            self.retryable = last.retryable
            self.retry_after = last.retry_after
            self.request_id = last.request_id
            self.deployment = last.deployment
            self.hint = self.hint or last.hint

    @property
    def last(self) -> LoomError | None:
        return self.attempts[-1].error if self.attempts else None


class CircuitOpenError(LoomError):
    """A circuit breaker is open; ``retry_after`` says when it will let a call through."""

    code = "circuit_open"
    http_status = 503
    grpc_code = "UNAVAILABLE"
    retryable = True


class NoDeploymentError(CircuitOpenError):
    """No deployment of a pool may be called now.

    ``reasons`` says of each why, and ``retry_after`` when the first may be called again, in seconds.
    """

    code = "no_deployment"

    def __init__(self, message: str, *, reasons: Mapping[str, str] | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.reasons = dict(reasons or {})


# ── the agent's own limits ───────────────────────────────────────────────────────────────


class QueueError(LoomError):
    """The agent's own rate limit would not let the call through in time. Nothing was sent."""

    code = "queue_error"
    http_status = 429
    grpc_code = "RESOURCE_EXHAUSTED"
    retryable = True


class QueueFullError(QueueError):
    """As many calls as may wait for the rate limit wait already."""

    code = "queue_full"


class QueueTimeoutError(QueueError):
    """The call waited as long as it may for its turn in the rate limit."""

    code = "queue_timeout"


class DeadlineExceededError(LoomError):
    """The time for the whole run is over."""

    code = "deadline_exceeded"
    http_status = 504
    grpc_code = "DEADLINE_EXCEEDED"


class BudgetError(LoomError):
    """A budget would not let the call through. Nothing was sent."""

    code = "budget_error"
    http_status = 402
    grpc_code = "RESOURCE_EXHAUSTED"


class BudgetExceededError(BudgetError):
    """The next call might spend more than the budget has left.

    Attributes:
        scope: whose budget it is: ``"chat"``, ``"session"``, ``"agent"`` or ``"day"``.
        unit: ``"usd"`` or ``"tokens"``; the four amounts are in it.
        limit: what the budget may spend.
        spent: what was spent so far.
        reserved: what calls under way may still spend.
        needed: the most that the refused call could have cost.
        ledger: the costs so far, call by call summed: a `CostReport`, where the agent has one.
    """

    code = "budget_exceeded"

    def __init__(
        self,
        message: str,
        *,
        scope: str = "agent",
        unit: str = "usd",
        limit: Decimal = Decimal(0),
        spent: Decimal = Decimal(0),
        reserved: Decimal = Decimal(0),
        needed: Decimal = Decimal(0),
        ledger: Any = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.scope = scope
        self.unit = unit
        self.limit = limit
        self.spent = spent
        self.reserved = reserved
        self.needed = needed
        self.ledger = ledger


class PriceUnknownError(BudgetError):
    """A budget in USD was set, and nobody knows what a call to this model costs."""

    code = "price_unknown"
    grpc_code = "FAILED_PRECONDITION"


# ── tools and the agent ──────────────────────────────────────────────────────────────────


class ToolError(LoomError):
    """A tool failed. Raise it in a tool to tell the model what went wrong and what to try.

    ``raise ToolError("no such city", hint="use the city's English name")``
    """

    code = "tool_error"


class ToolArgumentsError(ToolError):
    """The arguments do not fit the tool's signature."""

    code = "invalid_arguments"
    grpc_code = "INVALID_ARGUMENT"


class UnknownToolError(ToolError):
    """There is no tool of that name."""

    code = "unknown_tool"
    grpc_code = "NOT_FOUND"


class ToolTimeoutError(ToolError):
    """The tool did not finish in its time."""

    code = "tool_timeout"
    grpc_code = "DEADLINE_EXCEEDED"


class OutputValidationError(LoomError):
    """The answer did not fit the type asked for, also not after it was corrected.

    ``text`` is the model's last attempt.
    """

    code = "invalid_output"
    grpc_code = "INTERNAL"
    default_hint = "Make the type more forgiving or its descriptions clearer, or use a stronger model."

    def __init__(self, message: str, *, text: str = "", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.text = text


class LimitExceededError(LoomError):
    """The agent reached one of its limits and was told to raise rather than answer."""

    code = "limit_exceeded"
    grpc_code = "RESOURCE_EXHAUSTED"


class AgentClosedError(LoomError):
    """The agent was used after it was closed."""

    code = "agent_closed"
    grpc_code = "FAILED_PRECONDITION"


# ── backends ─────────────────────────────────────────────────────────────────────────────


class BackendError(LoomError):
    """A data source failed."""

    code = "backend_error"


class BackendConnectionError(BackendError):
    """The data source cannot be reached."""

    code = "backend_unavailable"
    grpc_code = "UNAVAILABLE"


class QueryRefusedError(BackendError):
    """The query is not allowed: it could change something, or is more than one statement."""

    code = "query_refused"
    grpc_code = "PERMISSION_DENIED"


class QueryError(BackendError):
    """The data source could not run the query."""

    code = "query_failed"
    grpc_code = "INVALID_ARGUMENT"


class GuardrailError(BackendError):
    """A check before the query found a mistake in it. Nothing was run."""

    code = "guardrail"
    grpc_code = "INVALID_ARGUMENT"


class ScriptError(LoomError):
    """A scripted provider was asked for more than its script, or left with steps unused."""

    code = "script_error"
    grpc_code = "FAILED_PRECONDITION"
