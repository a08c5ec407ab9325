"""What the models on Bedrock cost: on-demand list prices, as the package genai-prices 0.2.3 states them.

A price holds where the list says so and nowhere else. A cross-region profile (``us.``, ``eu.``,
``global.``) has the price of its geography; a bare model id has the price of its region. Where the list
has no price for that, the cost is not known.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from loom_bedrock.models import ModelId, parse_model_id
from loom_py.llm.prices import DeploymentType, ModelPrice, PriceRow

__all__ = ["BedrockPrices", "price_of"]

_US_REGIONS = ("us-east-", "us-west-")
_APART = ("us-gov-", "cn-", "us-iso", "eusc-", "eu-isoe-")
"""Regions of other partitions, which have prices of their own."""


class BedrockPrices:
    """The list of prices, as it holds for calls from ``region``."""

    def __init__(self, region: str = "us-east-1") -> None:
        self._region = region

    def find(
        self,
        model: str,
        type: DeploymentType = "global",
        *,
        tier: str | None = None,
        at: dt.date | dt.datetime | None = None,
    ) -> PriceRow | None:
        """The row that holds for the id ``model`` on the day of ``at`` (today); ``None`` without one.

        Only on-demand calls of the standard tier are listed.
        """
        if type == "provisioned" or tier not in (None, "default", "standard"):
            return None
        parts = parse_model_id(model)
        if parts.name is None:
            return None
        day = _day(at)
        scopes = _scopes(parts, self._region)
        for scope, row in _rows().get(parts.name, ()):
            if scope & scopes and row.covers("global", "standard", day):
                return row
        return None


def price_of(
    model: str, region: str = "us-east-1", *, at: dt.date | dt.datetime | None = None
) -> PriceRow | None:
    """The listed price of the model id or profile ``model`` in ``region``, with its source and date."""
    return BedrockPrices(region).find(model, at=at)


def _scopes(parts: ModelId, region: str) -> set[str]:
    if parts.geography:
        return {parts.geography}
    region = parts.region or region
    if region.startswith(_APART):
        return set()
    return {"region", "region-us"} if region.startswith(_US_REGIONS) else {"region"}


def _day(at: dt.date | dt.datetime | None) -> dt.date:
    if at is None:
        return dt.datetime.now(dt.UTC).date()
    if isinstance(at, dt.datetime):
        return at.date() if at.tzinfo is None else at.astimezone(dt.UTC).date()
    return at


@cache
def _rows() -> Mapping[str, tuple[tuple[frozenset[str], PriceRow], ...]]:
    data = json.loads((files("loom_bedrock") / "data" / "prices.json").read_text(encoding="utf-8"))
    found: dict[str, tuple[tuple[frozenset[str], PriceRow], ...]] = {}
    for fields in data["rows"]:
        name = fields["model"]
        found[name] = (*found.get(name, ()), (frozenset(fields["scopes"]), _row(fields, data)))
    return MappingProxyType(found)


def _row(fields: Mapping[str, Any], data: Mapping[str, Any]) -> PriceRow:
    bounds = (fields.get(name) for name in ("valid_from", "valid_to"))
    first, last = (None if day is None else dt.date.fromisoformat(day) for day in bounds)
    price = {
        name: value
        for name, value in fields.items()
        if name not in {"model", "scopes", "valid_from", "valid_to"}
    }
    return PriceRow(
        fields["model"],
        ModelPrice(**price),
        valid_from=first,
        valid_to=last,
        source=data["source"],
        date=data["date"],
    )
