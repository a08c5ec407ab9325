"""The one gate between an agent and its model: policies are asked and told here, calls are logged.

Every model call of an agent goes through a `ModelGateway`, whichever verb it uses. It asks the
circuit breaker before, tells it after, writes one log event per call and makes sure that nothing
but a `LoomError` comes out of a provider.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from loom_py._log import get_logger
from loom_py.errors import (
    CircuitOpenError,
    ConnectionFailedError,
    LoomError,
    MalformedResponseError,
    ProviderError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.events import StreamEvent
from loom_py.llm.costs import Cost, CostLedger
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions
from loom_py.resilience.breaker import CircuitBreakers

__all__ = ["ModelGateway", "counts_as_failure"]

FAILURES = (ServiceUnavailableError, RequestTimeoutError, StreamInterruptedError, MalformedResponseError)
"""What says that a deployment is sick. Throttling, refusals and the caller's mistakes do not."""


def counts_as_failure(error: BaseException) -> bool:
    """Whether ``error`` counts against the deployment's circuit breaker.

    A `ProviderError` of no particular kind does: nothing says that it was the caller's fault.
    """
    return isinstance(error, FAILURES) or type(error) is ProviderError


FOREIGN: tuple[tuple[type[Exception], type[ProviderError]], ...] = (
    (TimeoutError, RequestTimeoutError),
    (ConnectionError, ConnectionFailedError),
)
"""What a provider's stray exceptions stand for; all others are a plain `ProviderError`."""


class _Call:
    """One model call on its way."""

    __slots__ = ("response",)

    def __init__(self) -> None:
        self.response: Response | None = None


class ModelGateway:
    """Model calls of one agent: guarded by a breaker, logged, with errors of one tree."""

    def __init__(
        self,
        provider: LLMProvider,
        *,
        breakers: CircuitBreakers | None = None,
        ledger: CostLedger | None = None,
    ) -> None:
        self.provider = provider
        self.ledger = ledger
        self.breakers = breakers
        self._log = get_logger()

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        fields: Mapping[str, Any],
    ) -> Response:
        """One reply. ``fields`` go into the log event."""
        with self._watched(fields) as call:
            call.response = _checked(self.provider.chat(messages, tools, options=options), self.provider)
        return call.response

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        fields: Mapping[str, Any],
    ) -> Response:
        """One reply, async."""
        with self._watched(fields) as call:
            reply = await self.provider.achat(messages, tools, options=options)
            call.response = _checked(reply, self.provider)
        return call.response

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        fields: Mapping[str, Any],
    ) -> Generator[StreamEvent, None, None]:
        """One reply as events."""
        with self._watched(fields) as call:
            events = self.provider.stream_chat(messages, tools, options=options)
            try:
                for event in events:
                    call.response = event.response
                    yield event
            finally:
                if (close := getattr(events, "close", None)) is not None:
                    close()
            self._check_whole(call)

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        fields: Mapping[str, Any],
    ) -> AsyncGenerator[StreamEvent, None]:
        """One reply as events, async."""
        with self._watched(fields) as call:
            events = self.provider.astream_chat(messages, tools, options=options)
            try:
                async for event in events:
                    call.response = event.response
                    yield event
            finally:
                if (aclose := getattr(events, "aclose", None)) is not None:
                    await aclose()
            self._check_whole(call)

    def _check_whole(self, call: _Call) -> None:
        if call.response is None:
            raise StreamInterruptedError(
                f"the stream of provider {self.provider.name!r} ended without a final response",
                deployment=self.provider.model,
            )
        _checked(call.response, self.provider)

    def _book(self, cost: Cost, fields: Mapping[str, Any], *, failed: bool = False) -> None:
        """Put what a call cost into the ledger; a failed one may have been billed too."""
        if self.ledger is not None:
            chat, session = fields.get("chat_id"), fields.get("session_id")
            self.ledger.add(cost, deployment=self.provider.model, chat=chat, session=session, failed=failed)

    @contextmanager
    def _watched(self, fields: Mapping[str, Any]) -> Iterator[_Call]:
        """Around one call: leave of the breaker before, its outcome, cost and log event after."""
        log = self._log.bind(**fields)
        deployment = self.provider.model
        permit = None
        if self.breakers is not None:
            try:
                permit = self.breakers.enter(f"{self.provider.name}/{deployment}")
            except CircuitOpenError as refusal:
                refusal.deployment = deployment
                log.warning("model_call_refused", **_error_fields(refusal, deployment))
                raise
        call = _Call()
        started = time.perf_counter()
        try:
            yield call
        except Exception as exc:
            error = exc if isinstance(exc, LoomError) else _foreign(exc, self.provider)
            if permit is not None:
                permit.failure() if counts_as_failure(error) else permit.neutral()
            if error.tokens_used:
                self._book(Cost.of_error(error), fields, failed=True)
            log.warning("model_call_failed", **_error_fields(error, deployment), latency_ms=_since(started))
            if error is exc:
                raise
            raise error from exc
        except BaseException:  # cancelled, or the reader of a stream went away
            if permit is not None:
                permit.neutral()
            log.info("model_call_cancelled", deployment=deployment, latency_ms=_since(started))
            raise
        if permit is not None:
            permit.success()
        if call.response is not None:
            self._book(Cost.of_response(call.response), fields)
            log.info("model_call", **_response_fields(call.response, deployment), latency_ms=_since(started))


def _checked(reply: object, provider: LLMProvider) -> Response:
    """``reply`` if it is what a provider should give. Raises `MalformedResponseError` if not."""
    if isinstance(reply, Response) and isinstance(reply.message, str):
        return reply
    what = "a Response without text" if isinstance(reply, Response) else type(reply).__name__
    raise MalformedResponseError(
        f"provider {provider.name!r} gave {what}, not a Response with text",
        deployment=provider.model,
        hint="Report this to the provider's author.",
    )


def _foreign(exc: Exception, provider: LLMProvider) -> ProviderError:
    kind = next((ours for theirs, ours in FOREIGN if isinstance(exc, theirs)), ProviderError)
    return kind(
        f"provider {provider.name!r} raised {type(exc).__name__}: {exc}",
        deployment=provider.model,
        hint="A provider should raise errors of loom_py.errors only; report this to its author.",
    )


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)


def _response_fields(response: Response, deployment: str) -> dict[str, Any]:
    usage = response.tokens_used
    return {
        "deployment": deployment,
        "model": response.model,
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cached_tokens": usage.cached_input,
        "cost_usd": None if response.cost_usd is None else str(response.cost_usd),
        "finish_reason": response.finish_reason,
        "tool_calls": len(response.tool_calls),
        "request_id": response.metadata.get("request_id"),
    }


def _error_fields(error: LoomError, deployment: str) -> dict[str, Any]:
    return {
        "deployment": error.deployment or deployment,
        "error": error.code,
        "http_status": error.http_status,
        "message": error.message,
        "retryable": error.retryable,
        "retry_after": error.retry_after,
        "request_id": error.request_id,
    }
