"""What the calls of one deployment cost, and one warning for each reason that a cost is not known."""

from __future__ import annotations

import threading
import time
from typing import Any

from loom_py._log import get_logger
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.costs import Cost, Pricing
from loom_py.llm.costs.bound import Bound
from loom_py.llm.prices import GenAIPrices
from loom_py.messages import TokenUsage

__all__ = ["DeploymentCosts"]

DAY = 86_400
"""Seconds for which a price holds at least."""
BOUNDS_KEPT = 32

_log = get_logger(provider="azure-openai")


class DeploymentCosts:
    """Prices calls by the user's own price, explicit model, served model or deployment name."""

    def __init__(self, config: AzureOpenAIConfig) -> None:
        self._deployment = config.deployment_id
        self._pricing = Pricing(
            config.deployment_id,
            model_name=config.model_name,
            deployment_type=config.deployment_type,
            prices=config.prices,
            second=GenAIPrices() if config.genai_prices else None,
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
        if usage is not None and usage.total and not cost.is_known:
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
        _log.warning(
            "price_unknown",
            deployment=self._deployment,
            served_model=served,
            reason=reason,
            hint="name the model with model_name=, or give its price with prices=",
        )
