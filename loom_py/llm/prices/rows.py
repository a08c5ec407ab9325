"""One row of a price list: whose price it is, for which deployments, when, and who says so."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from loom_py.llm.prices.model_price import ModelPrice
from loom_py.messages import TokenUsage

__all__ = [
    "DEPLOYMENT_TYPES",
    "SERVICE_TIERS",
    "DeploymentType",
    "PriceRow",
    "ServiceTier",
    "day_of",
    "market_of",
]

DeploymentType: TypeAlias = Literal[
    "global",
    "data-zone-us",
    "data-zone-eu",
    "data-zone-apac",
    "us-gov",
    "regional",
    "priority",
    "batch",
    "flex",
    "provisioned",
]
"""How a deployment is sold; ``priority``, ``batch`` and ``flex`` are global ones in that service tier."""

ServiceTier: TypeAlias = Literal["standard", "priority", "batch", "flex"]
"""How a call is served; every data zone has prices of its own for each."""

DEPLOYMENT_TYPES: tuple[DeploymentType, ...] = get_args(DeploymentType)
SERVICE_TIERS: tuple[ServiceTier, ...] = get_args(ServiceTier)


@dataclass(frozen=True, slots=True)
class PriceRow:
    """The price of a ``model`` in deployments of one ``type`` and calls of one ``tier``.

    ``None`` as ``type`` or ``tier`` means: in all of them. ``valid_from`` and ``valid_to`` are the first and
    the last day (UTC) it holds, ``None`` for no bound. ``max_input`` is the most input tokens of a call
    it holds for: beyond that the list has no price. ``lacks_cached`` says that the list leaves out what
    cached input costs below the long context. ``source`` and ``date`` say who stated the price, and when.

    A ``type`` that is a service tier is kept as global in that tier. Raises `ValueError` for an unknown type
    or tier, and where ``valid_to`` is before ``valid_from``.
    """

    model: str
    price: ModelPrice
    type: DeploymentType | None = "global"
    tier: ServiceTier | None = "standard"
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None
    max_input: int | None = None
    lacks_cached: bool = False
    source: str = ""
    date: str = ""

    def __post_init__(self) -> None:
        if self.type is not None and self.type not in DEPLOYMENT_TYPES:
            raise ValueError(f"type must be one of {', '.join(DEPLOYMENT_TYPES)}, not {self.type!r}")
        if self.type in SERVICE_TIERS:
            object.__setattr__(self, "tier", self.type)
            object.__setattr__(self, "type", "global")
        if self.tier is not None and self.tier not in SERVICE_TIERS:
            raise ValueError(f"tier must be one of {', '.join(SERVICE_TIERS)}, not {self.tier!r}")
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise ValueError(f"{self.model}: valid_to {self.valid_to} is before valid_from {self.valid_from}")

    def covers(self, zone: str, tier: str, day: dt.date) -> bool:
        """Whether it is the price of such a call on such a day."""
        return (
            self.type in (None, zone)
            and self.tier in (None, tier)
            and (self.valid_from is None or self.valid_from <= day)
            and (self.valid_to is None or day <= self.valid_to)
        )

    def gap(self, usage: TokenUsage) -> str | None:
        """What of a call with this ``usage`` the row has no price for; ``None`` where it has all."""
        if self.max_input is not None and usage.input > self.max_input:
            return f"more than {self.max_input:,} input tokens"
        long = self.price.above_tokens is not None and usage.input > self.price.above_tokens
        if self.lacks_cached and usage.cached_input > 0 and not long:
            return "cached input"
        return None


def market_of(type: DeploymentType | None, tier: str | None = None) -> tuple[str, str]:
    """Where and how a call is sold: the zone of the deployment's type, and the service tier.

    ``tier`` is what the server reports: it may serve a priority call as standard, and bills it so.
    A batch is not reported at all: it stays one. Words for no tier in particular (``default``, ``auto``)
    mean standard; a word that is not known stays as it is, and has no price.
    """
    zone: str = type or "global"
    sold = "standard"
    if zone in SERVICE_TIERS:
        zone, sold = "global", zone
    if tier is None or sold == "batch" or (tier == "auto" and sold != "standard"):
        return zone, sold
    return zone, "standard" if tier in ("default", "auto") else tier


def day_of(at: dt.date | dt.datetime | None) -> dt.date:
    """The day (UTC) of a moment; today without one. A datetime without a zone is taken as UTC."""
    if at is None:
        return dt.datetime.now(dt.UTC).date()
    if isinstance(at, dt.datetime):
        return at.date() if at.tzinfo is None else at.astimezone(dt.UTC).date()
    return at
