"""What calls cost, and one warning for each reason that a cost is not known."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from typing import Any

from loom_bedrock.config import BedrockConfig
from loom_bedrock.models import parse_model_id
from loom_bedrock.prices import BedrockPrices
from loom_py._log import get_logger
from loom_py.llm.costs import Cost, Pricing
from loom_py.llm.costs.bound import Bound
from loom_py.llm.prices import PriceTable
from loom_py.messages import TokenUsage

__all__ = ["BedrockCosts"]

_log = get_logger(provider="bedrock")
_EMPTY = PriceTable({})


class BedrockCosts:
    """Prices calls by the user's own price, else by the list for the model, its geography and region."""

    def __init__(self, config: BedrockConfig) -> None:
        self._name = config.named_model
        is_provisioned = parse_model_id(config.model).is_provisioned
        self._pricing = Pricing(
            config.model,
            model_name=config.named_model,
            deployment_type="provisioned" if is_provisioned else "global",
            prices=config.prices,
            table=_EMPTY,
            second=BedrockPrices(config.region),
        )
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._bound: tuple[dt.date, Bound] | None = None

    def cost(self, usage: TokenUsage | None, metadata: Mapping[str, Any] | None = None) -> Cost:
        """The cost of ``usage``, by what the answer's ``metadata`` tells of it."""
        told = metadata or {}
        served = str(told.get("routed_to") or self._name)
        cost = self._pricing.cost(usage, served, tier=told.get("service_tier"))
        if cost.is_known and any(part.get("ttl") != "5m" for part in told.get("cache_details") or ()):
            reason = f"no price of {cost.model} is listed for what is cached longer than 5 minutes"
            cost = Cost.unknown(reason, model=cost.model, usage=cost.usage, tier=cost.tier)
        if usage is not None and usage.total and not cost.is_known:
            self._warn(cost.reason or "")
        return cost

    def most(self, input_tokens: int, output_tokens: int) -> Cost:
        """The most a call of so many tokens can cost."""
        today = dt.datetime.now(dt.UTC).date()
        kept = self._bound
        if kept is None or kept[0] != today:
            kept = self._bound = (today, self._pricing.bound(self._name))
        return kept[1].cost(input_tokens, output_tokens)

    def _warn(self, reason: str) -> None:
        with self._lock:
            if reason in self._warned:
                return
            self._warned.add(reason)
        _log.warning(
            "price_unknown",
            deployment=self._name,
            reason=reason,
            hint="name the model behind an ARN with model_name=, or give its price with prices=",
        )
