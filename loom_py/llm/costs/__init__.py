"""Costs: of one call, part by part, and added up by chat, session, deployment and model."""

from __future__ import annotations

from loom_py.llm.costs.cost import Cost, added
from loom_py.llm.costs.ledger import CostLedger
from loom_py.llm.costs.pricing import PriceSource, Pricing
from loom_py.llm.costs.report import CostKey, CostLine, CostReport

__all__ = ["Cost", "CostKey", "CostLedger", "CostLine", "CostReport", "PriceSource", "Pricing", "added"]
