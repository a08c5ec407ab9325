"""What the calls of one deployment cost."""

from __future__ import annotations

import threading
from decimal import Decimal

from loom_py._log import get_logger
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.models import price_model
from loom_py.llm.prices import ModelPrice, PriceTable
from loom_py.messages import TokenUsage

__all__ = ["DeploymentCosts"]

_log = get_logger(provider="azure-openai")


class DeploymentCosts:
    """Prices calls by the user's own price, explicit model, served model or deployment name."""

    def __init__(self, config: AzureOpenAIConfig) -> None:
        self._deployment = config.deployment_id
        self._model_name = config.model_name
        self._own = PriceTable(config.prices)
        bundled = PriceTable.bundled()
        self._prices = bundled.overlaid(config.prices) if config.prices else bundled
        self._lock = threading.Lock()
        self._unpriced: set[str] = set()

    def cost(self, usage: TokenUsage | None, served: str) -> Decimal | None:
        """USD for ``usage`` by the model the server says it ``served``.

        ``None`` where no usage or no price is known; an unknown price is warned of once per model.
        """
        if usage is None or not usage.total:
            return None
        price = self._price(served)
        if price is None:
            self._warn(served)
            return None
        return price.cost(usage)

    def _price(self, served: str) -> ModelPrice | None:
        for name in (self._deployment, self._model_name, served):
            if name and (own := self._own.get(name)) is not None:
                return own
        name = price_model(self._model_name, served, self._deployment)
        return None if name is None else self._prices.get(name)

    def _warn(self, served: str) -> None:
        with self._lock:
            if served in self._unpriced:
                return
            self._unpriced.add(served)
        _log.warning(
            "price_unknown",
            deployment=self._deployment,
            served_model=served,
            hint="name the model with model_name=, or give its price with prices=",
        )
