"""What the calls of one deployment or model cost; one warning for each reason why that is not known."""

from __future__ import annotations

import threading
import time
from typing import Any

from loom_py._log import get_logger
from loom_py.llm.azure.settings import ServiceConfig
from loom_py.llm.costs import Cost, Pricing
from loom_py.llm.costs.bound import Bound
from loom_py.llm.costs.pricing import PriceSource
from loom_py.llm.prices import PriceTable
from loom_py.messages import TokenUsage

__all__ = ["CallCosts"]

DAY = 86_400
"""Seconds for which a price holds at least."""
BOUNDS_KEPT = 32


class CallCosts:
    """Prices calls by the user's own price, explicit model, served model or the name of what is called.

    ``provider`` and ``hint`` are told in the log; ``table`` is the service's list of prices, ``second`` is
    asked for models that it does not have. With ``exact`` what is called is a model by its own name.
    ``warns`` is whether a cost that is not known is worth a warning.
    """

    def __init__(
        self,
        config: ServiceConfig,
        provider: str,
        table: PriceTable,
        second: PriceSource | None = None,
        *,
        exact: bool = False,
        hint: str = "give its price with prices=",
        warns: bool = True,
    ) -> None:
        self._warns = warns
        self._hint = hint
        self._deployment = config.target
        self._provider = provider
        self._pricing = Pricing(
            config.target,
            model_name=config.model_name,
            deployment_type=config.deployment_type,
            prices=config.prices,
            table=table,
            second=second,
            exact=exact,
        )
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._last: tuple[str, str | None] = ("", None)
        self._bounds: dict[tuple[Any, ...], Bound] = {}

    def cost(self, usage: TokenUsage | None, served: str, tier: str | None = None) -> Cost:
        """The cost of ``usage`` by the model the server says it ``served``, in its service ``tier``."""
        if served:
            self._last = served, tier if isinstance(tier, str) else self._last[1]
        cost = self._pricing.cost(usage, served, tier=tier)
        if self._warns and usage is not None and usage.total and not cost.is_known:
            self._warn(cost, served)
        return cost

    def most(self, input_tokens: int, output_tokens: int, asked: str | None = None) -> Cost:
        """The most a call can cost, by what is said of the deployment and by what its last answer told.

        ``asked`` is the service tier that the request names.
        """
        served, reported = self._last
        key = (int(time.time() // DAY), served, reported, asked)
        bound = self._bounds.get(key)
        if bound is None:
            bound = self._pricing.bound(served, asked=asked, reported=reported)
            if len(self._bounds) >= BOUNDS_KEPT:
                self._bounds.clear()
            self._bounds[key] = bound
        return bound.cost(input_tokens, output_tokens)

    def _warn(self, cost: Cost, served: str) -> None:
        reason = cost.reason or ""
        with self._lock:
            if reason in self._warned:
                return
            self._warned.add(reason)
        get_logger(provider=self._provider).warning(
            "price_unknown",
            deployment=self._deployment,
            served_model=served,
            reason=reason,
            hint=self._hint,
        )
