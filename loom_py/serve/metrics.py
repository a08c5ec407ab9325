"""Figures for Prometheus: what was served, and how the agents stand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from loom_py.messages import TokenUsage, ToolResult
from loom_py.resilience.health import Health

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Where workers keep their figures, so that whichever is asked knows those of all."""

_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)

States = Callable[[], Mapping[str, Health]]


class Metrics:
    """The figures of one server. ``states`` says how each model's agent stands, when it is asked."""

    def __init__(self, states: States) -> None:
        self._registry = registry = CollectorRegistry()
        self._states = _States(states)
        by_model = ["model"]
        self.requests = Counter(
            "loom_requests", "Chats answered, by status.", ["model", "key", "status"], registry=registry
        )
        self.seconds = Histogram(
            "loom_request_seconds", "Time of a whole chat.", by_model, registry=registry, buckets=_BUCKETS
        )
        self.first_byte = Histogram(
            "loom_first_byte_seconds",
            "Time until a stream began.",
            by_model,
            registry=registry,
            buckets=_BUCKETS,
        )
        self.tokens = Counter("loom_tokens", "Tokens used.", ["model", "key", "direction"], registry=registry)
        self.cost = Counter("loom_cost_usd", "Money spent.", ["model", "key"], registry=registry)
        self.unpriced = Counter(
            "loom_unpriced_requests", "Chats whose cost is not known.", by_model, registry=registry
        )
        self.tool_calls = Counter(
            "loom_tool_calls", "Tools the agents ran.", ["model", "tool", "outcome"], registry=registry
        )
        self.refused = Counter("loom_refused", "Requests refused at the door.", ["code"], registry=registry)
        self.in_flight = Gauge(
            "loom_in_flight", "Chats under way.", registry=registry, multiprocess_mode="livesum"
        )

    def spent(self, model: str, key: str, usage: TokenUsage, cost: Decimal | None) -> None:
        """A chat used so much."""
        self.tokens.labels(model, key, "input").inc(usage.input)
        self.tokens.labels(model, key, "output").inc(usage.output)
        if cost is not None:
            self.cost.labels(model, key).inc(float(cost))
        elif usage.total:
            self.unpriced.labels(model).inc()

    def used_tools(self, model: str, results: Iterable[ToolResult]) -> None:
        """The agent ran these tools. A name that the model made up is no label."""
        for result in results:
            name = "unknown" if result.error_code == "unknown_tool" else result.name
            self.tool_calls.labels(model, name, result.error_code or "ok").inc()

    def text(self) -> bytes:
        """Everything in Prometheus' text format. How agents stand is this process' view of them."""
        registry = self._registry
        if os.environ.get(MULTIPROCESS):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        states = CollectorRegistry()
        states.register(self._states)
        return generate_latest(registry) + generate_latest(states)


_STATES = ("closed", "half-open", "open")


class _States:
    """Reads the agents' health when Prometheus asks."""

    def __init__(self, states: States) -> None:
        self._states = states

    def collect(self) -> Iterator[Any]:
        """The gauges."""
        where = ["model", "deployment"]
        up = GaugeMetricFamily("loom_deployment_available", "1 if a call would be sent now.", labels=where)
        in_flight = GaugeMetricFamily("loom_deployment_in_flight", "Calls under way.", labels=where)
        breaker = GaugeMetricFamily(
            "loom_breaker_state", "1 for the state the breaker is in.", labels=[*where, "state"]
        )
        left = GaugeMetricFamily(
            "loom_quota_remaining_ratio", "Free share of the scarcest quota.", labels=where
        )
        queued = GaugeMetricFamily("loom_queue_waiting", "Calls waiting for the quota.", labels=where)
        budget = GaugeMetricFamily(
            "loom_budget_remaining", "What a budget has left.", labels=["model", "per", "key", "unit"]
        )
        for model, health in self._states().items():
            for name, lane in health.deployments.items():
                up.add_metric([model, name], float(lane.is_available))
                in_flight.add_metric([model, name], lane.in_flight)
                if lane.breaker is not None:
                    for state in _STATES:
                        breaker.add_metric([model, name, state], float(lane.breaker.state == state))
                if lane.rate_limit is not None:
                    left.add_metric([model, name], lane.rate_limit.remaining_share)
                    queued.add_metric([model, name], lane.rate_limit.queued)
            for status in health.budgets:
                if status.per in ("agent", "day"):  # chats and sessions come without end
                    for unit in ("usd", "tokens"):
                        remaining = getattr(status, unit).remaining
                        if remaining is not None:
                            labels = [model, status.per, status.key, unit]
                            budget.add_metric(labels, float(remaining))
        yield from (up, in_flight, breaker, left, queued, budget)
