"""Prices the calls of one deployment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Any, Protocol, TypeAlias

from loom_py.llm.costs.bound import Bound, BoundLine
from loom_py.llm.costs.cost import Cost
from loom_py.llm.models import family_of, fine_tuned, infer_model, price_model, resolve_model
from loom_py.llm.prices.amounts import EXACT, plain, total
from loom_py.llm.prices.overrides import PriceOverride, PriceSetting, as_override
from loom_py.llm.prices.rows import (
    DEPLOYMENT_TYPES,
    SERVICE_TIERS,
    DeploymentType,
    PriceRow,
    day_of,
    market_of,
)
from loom_py.llm.prices.table import PriceTable
from loom_py.messages import TokenUsage

__all__ = ["PriceSource", "Pricing"]

ROUTER = "model-router"

_At: TypeAlias = dt.date | dt.datetime | None


class PriceSource(Protocol):
    """A list of prices: `PriceTable`, `GenAIPrices`, or one of your own."""

    def find(
        self, model: str, type: DeploymentType = "global", *, tier: str | None = None, at: _At = None
    ) -> PriceRow | None:
        """The row that holds for ``model`` in a deployment of ``type``, or ``None``."""


KEPT = 256
"""How many answers to "what is the price of this?" are kept."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What a price is looked up by."""

    served: str
    type: DeploymentType
    tier: str | None
    at: _At


@dataclass(frozen=True, slots=True)
class _Found:
    """What a call is priced by: a row, and a router's fee on top; or ``why`` there is none."""

    row: PriceRow | None
    fee: PriceRow | None
    multiplier: Decimal
    model: str
    type: DeploymentType
    tier: str
    market: str
    why: str = ""
    is_routed: bool = False

    def line(self, row: PriceRow, *, likely: bool) -> BoundLine:
        return BoundLine(row, self.multiplier, self.type, self.tier, likely)


class Pricing:
    """What the calls of one ``deployment`` cost.

    The price is the first of: the user's own in ``prices`` (by deployment, by ``model_name``, or by the
    model that was served); the ``table``'s row (bundled: Azure's list) for the model and the deployment's
    type; and that of the ``second`` source, for models the table does not know at all. The model is what
    the user says (``model_name``), then what the server says it served, then what the deployment's name
    suggests.

    A deployment of the model router costs its fee on top of the model it chose, whichever that was; a price
    of the user's own for the deployment is the whole price, and there is no fee beside it.

    With ``exact`` the ``deployment`` is a model's own name: nothing is inferred from it.

    Raises `ValueError` for an unknown ``deployment_type`` and for an entry of ``prices`` that is none.
    """

    def __init__(
        self,
        deployment: str = "",
        *,
        model_name: str | None = None,
        deployment_type: DeploymentType = "global",
        prices: Mapping[str, PriceSetting] | None = None,
        table: PriceTable | None = None,
        second: PriceSource | None = None,
        exact: bool = False,
    ) -> None:
        if deployment_type not in DEPLOYMENT_TYPES:
            kinds = ", ".join(DEPLOYMENT_TYPES)
            raise ValueError(f"deployment_type must be one of {kinds}, not {deployment_type!r}")
        self._deployment = deployment
        self._model_name = model_name
        self._type: DeploymentType = deployment_type
        self._overrides = {
            _spelled(name): as_override(name, setting) for name, setting in (prices or {}).items()
        }
        self._table = PriceTable.bundled() if table is None else table
        self._second = second
        self._exact = exact
        self._kept: dict[tuple[str, str | None, dt.date], _Found] = {}

    def cost(
        self,
        usage: TokenUsage | None,
        served: str = "",
        *,
        tier: str | None = None,
        at: _At = None,
    ) -> Cost:
        """The cost of one call.

        ``usage`` is what the server reported (``None`` or no token: the cost is not known), ``served`` the
        model it says it served, ``tier`` its ``service_tier``, and ``at`` the time of the call (now). Never
        raises for what a server says.
        """
        found = self._find(served, tier if isinstance(tier, str) else None, day_of(at))
        facts: dict[str, Any] = {
            "model": found.model,
            "deployment_type": found.type,
            "tier": found.tier,
            "usage": usage or TokenUsage(),
        }
        if usage is None or not usage.total:
            return Cost.unknown("the server reported no tokens", **facts)
        row = found.row
        if row is None:
            return Cost.unknown(found.why, **facts)
        if gap := row.gap(usage):
            return Cost.unknown(f"no price of {row.model} is listed for {gap} in {found.market}", **facts)
        return _priced(row, usage, found.fee, found.multiplier, facts)

    def bound(
        self, served: str = "", *, asked: str | None = None, reported: str | None = None, at: _At = None
    ) -> Bound:
        """The most a call can cost, by what is known before it.

        That is what is said of the deployment and the model that an earlier call was ``served`` by,
        whichever is dearer; before the first answer any version of the model may come. The tier is the one
        ``asked`` for (with ``"auto"`` any), the one an earlier answer ``reported``, or standard. The
        price is that of the day of ``at`` (now) or of the day after.
        """
        today = day_of(at)
        said = self._find("", None, today)
        if said.is_routed:
            return Bound(reason="the model router chooses the model of each call after it was sent")
        names = ("", served) if served else ("", *self._versions(said.model))
        likely = {None if asked in ("auto", "default") else asked, reported}
        tiers = {*likely, None, "default", *(SERVICE_TIERS if asked == "auto" else ())}
        lines = []
        for name, tier, day in product(names, tiers, (today, today + dt.timedelta(days=1))):
            found = self._find(name, tier, day)
            is_likely = name == served and tier in likely and day == today
            if found.row is not None:
                lines.append(found.line(found.row, likely=is_likely))
            elif is_likely:
                return Bound(reason=found.why, model=found.model, deployment_type=found.type, tier=found.tier)
        return Bound(lines)

    def _versions(self, model: str) -> tuple[str, ...]:
        """The listed versions of the model that the deployment's name suggests."""
        family = family_of(model)
        return tuple(name for name in self._table.models if family and family_of(name) == family)

    def _find(self, served: str, tier: str | None, day: dt.date) -> _Found:
        """What calls are priced by; the answer is kept, for it is the same all day."""
        found = self._kept.get((served, tier, day))
        if found is None:
            found = self._look_up(served, tier, day)
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[served, tier, day] = found
        return found

    def _look_up(self, served: str, tier: str | None, day: dt.date) -> _Found:
        own, is_whole = self._override(served)
        model, is_routed = self._model(own, served)
        if own is None:
            own = self._override_of(model) or _NO_OVERRIDE
        call = _Call(served, own.type or self._type, tier, day)
        row = self._row(own, model, call)
        pays_fee = is_routed and not is_whole
        return _Found(
            row,
            self._table.fee(ROUTER, at=day) if pays_fee else None,
            own.multiplier,
            row.model if row else model or self._unnamed(served),
            call.type,
            market_of(call.type, tier)[1],
            _market(call),
            "" if row else self._why(model, call, is_routed=is_routed),
            pays_fee,
        )

    # ── which model, which row ───────────────────────────────────────────────────────────

    def _override(self, served: str) -> tuple[PriceOverride | None, bool]:
        """What the user says of this deployment or model, and whether that is a price of the deployment."""
        for name in (self._deployment, self._model_name):
            if (own := self._override_of(name)) is not None:
                return own, own.price is not None
        return self._override_of(served), False

    def _override_of(self, name: str | None) -> PriceOverride | None:
        if not name:
            return None
        return self._overrides.get(_spelled(name)) or self._overrides.get(family_of(name) or "")

    def _model(self, own: PriceOverride | None, served: str) -> tuple[str | None, bool]:
        """The model a call is priced as, and whether the router chose it."""
        said = (own and own.model) or self._model_name
        if self._exact:
            return self._listed(said, served, self._deployment), False
        if _is_router(said or self._deployment):
            chosen = resolve_model(served)
            return (None if chosen is None or _is_router(chosen) else chosen), True
        return price_model(said, served, said or self._deployment) or said, False

    def _listed(self, *names: str | None) -> str | None:
        """The first of the names that the table has; else the first there is."""
        given = [_base_of(name) for name in names if name]
        return next(filter(self._table.knows, given), given[0] if given else None)

    def _row(self, own: PriceOverride, model: str | None, call: _Call) -> PriceRow | None:
        if own.price is not None:
            label = model or self._unnamed(call.served)
            return PriceRow(label, own.price, type=None, tier=None, source="the user's own price")
        if model is not None and self._table.knows(model):
            return self._table.find(model, call.type, tier=call.tier, at=call.at)
        if self._second is None:
            return None
        said = own.model or self._model_name
        for name in (None if said and _is_router(said) else said, call.served, model):
            if name and (row := self._second.find(name, call.type, tier=call.tier, at=call.at)):
                return row
        return None

    def _unnamed(self, served: str) -> str:
        return served or self._model_name or self._deployment

    def _why(self, model: str | None, call: _Call, *, is_routed: bool) -> str:
        """Why there is no price."""
        if call.type == "provisioned":
            return "provisioned throughput is paid by the hour: it has no price per token"
        if is_routed and model is None:
            return "the model that the router chose is not known"
        if model is None:
            return f"no model is known for {self._unnamed(call.served) or 'this call'}"
        if not self._table.knows(model):
            return f"no price of {model} is listed"
        other_day = self._table.find(model, call.type, tier=call.tier, at=dt.date.max)
        when = "" if other_day is None else " on the day of the call"
        return f"no price of {model} is listed for {_market(call)}{when}"


_NO_OVERRIDE = PriceOverride()


def _priced(
    row: PriceRow, usage: TokenUsage, fee: PriceRow | None, multiplier: Decimal, facts: dict[str, Any]
) -> Cost:
    parts = row.price.parts(usage)._asdict()
    parts["fee"] = Decimal(0) if fee is None else fee.price.cost(usage)
    source = row.source
    if multiplier != 1:
        parts = {name: plain(EXACT.multiply(part, multiplier)) for name, part in parts.items()}
        source = f"{source}, times {multiplier}"
    return Cost(total(parts.values()), **parts, **facts, source=source, date=row.date)


def _spelled(name: str) -> str:
    """A name as prices are kept by it."""
    name = name.strip().lower()
    return resolve_model(name) or name


def _base_of(name: str) -> str:
    """A model's name; of one that was fine-tuned (``ft:MODEL:…``) the one that has its price."""
    return fine_tuned(name) or name


def _is_router(name: str) -> bool:
    return (family_of(name) or infer_model(name)) == ROUTER


def _market(call: _Call) -> str:
    zone, tier = market_of(call.type, call.tier)
    return zone if tier == "standard" else f"{zone} {tier}"
