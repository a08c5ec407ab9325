"""What is kept of every attempt: its log event, and its cost in the agent's ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loom_py._log import get_logger
from loom_py.errors import LoomError
from loom_py.llm.costs import Cost, CostLedger
from loom_py.messages import Response
from loom_py.resilience.attempt import Attempt, was_billed

__all__ = ["CallLog"]

_log = get_logger()

_PERHAPS = Cost.unknown("the call broke off: it may have been billed")


class CallLog:
    """Writes one log event per attempt, and books what was billed."""

    __slots__ = ("ledger",)

    def __init__(self, ledger: CostLedger | None = None) -> None:
        self.ledger = ledger

    def answered(
        self, attempt: Attempt, response: Response, cost: Cost, fields: Mapping[str, Any], seconds: float
    ) -> None:
        """An attempt gave a response, which cost so much."""
        self._book(cost, attempt, fields)
        if _log.is_on:
            usage = response.tokens_used
            _log.info(
                "model_call",
                **{**fields, **attempt.fields()},
                model=response.model,
                input_tokens=usage.input,
                output_tokens=usage.output,
                cached_tokens=usage.cached_input,
                cost_usd=None if response.cost_usd is None else str(response.cost_usd),
                finish_reason=response.finish_reason,
                tool_calls=len(response.tool_calls),
                request_id=response.metadata.get("request_id"),
                latency_ms=_milliseconds(seconds),
            )

    def failed(self, attempt: Attempt, error: LoomError, fields: Mapping[str, Any], seconds: float) -> None:
        """An attempt failed; it may have been billed all the same."""
        if error.tokens_used:
            self._book(Cost.of_error(error), attempt, fields, failed=True)
        elif was_billed(error) is None:
            self._book(_PERHAPS, attempt, fields, failed=True)
        _log.warning(
            "model_call_failed",
            **{**fields, **attempt.fields(), **_error_fields(error)},
            latency_ms=_milliseconds(seconds),
        )

    def cancelled(self, attempt: Attempt, fields: Mapping[str, Any], seconds: float) -> None:
        """The caller went away during an attempt, which may be billed all the same."""
        self._book(_PERHAPS, attempt, fields, failed=True)
        _log.info("model_call_cancelled", **{**fields, **attempt.fields()}, latency_ms=_milliseconds(seconds))

    def refused(self, error: LoomError, fields: Mapping[str, Any]) -> None:
        """A policy did not let the call through: nothing was sent."""
        _log.warning("model_call_refused", **{**fields, **_error_fields(error)})

    def _book(self, cost: Cost, attempt: Attempt, fields: Mapping[str, Any], *, failed: bool = False) -> None:
        if self.ledger is not None:
            chat, session = fields.get("chat_id"), fields.get("session_id")
            deployment = attempt.lane.provider.model
            self.ledger.add(cost, deployment=deployment, chat=chat, session=session, failed=failed)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _error_fields(error: LoomError) -> dict[str, Any]:
    found = {
        "deployment": error.deployment,
        "error": error.code,
        "http_status": error.http_status,
        "message": error.message,
        "retryable": error.retryable,
        "retry_after": error.retry_after,
        "request_id": error.request_id,
    }
    return found if error.deployment else {name: found[name] for name in found if name != "deployment"}
