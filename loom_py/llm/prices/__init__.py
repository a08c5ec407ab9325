"""What model calls cost: exact, in US dollars, and only where a price is known."""

from __future__ import annotations

from loom_py.llm.prices.amounts import Amount
from loom_py.llm.prices.genai import GenAIPrices
from loom_py.llm.prices.model_price import ModelPrice, TokenCosts
from loom_py.llm.prices.overrides import PriceOverride, PriceSetting
from loom_py.llm.prices.rows import DEPLOYMENT_TYPES, SERVICE_TIERS, DeploymentType, PriceRow, ServiceTier
from loom_py.llm.prices.table import PriceTable

__all__ = [
    "DEPLOYMENT_TYPES",
    "SERVICE_TIERS",
    "Amount",
    "DeploymentType",
    "GenAIPrices",
    "ModelPrice",
    "PriceOverride",
    "PriceRow",
    "PriceSetting",
    "PriceTable",
    "ServiceTier",
    "TokenCosts",
]
