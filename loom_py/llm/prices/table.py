"""Price lists: which row holds for a model, a deployment's type, a service tier and a day."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Self, TypeAlias, cast

from loom_py.llm.models import family_of, resolve_model
from loom_py.llm.prices.model_price import ModelPrice
from loom_py.llm.prices.rows import DeploymentType, PriceRow, day_of, market_of

__all__ = ["PriceTable"]

_LABEL = ("model", "type", "tier", "max_input", "lacks_cached", "date")
_Layer: TypeAlias = Mapping[str, tuple[PriceRow, ...]]


class PriceTable:
    """Prices by model name, deployment type, service tier and day.

    Immutable; names are told apart without regard to case. A plain mapping gives each model one price,
    for every type and tier; ``rows`` says it in full. ``fees`` are what a model costs on top of another one's
    price, such as a router's. ``source`` says where the prices come from and ``date`` of when they are.
    """

    __slots__ = ("_fees", "_layers", "date", "source")

    def __init__(
        self,
        prices: Mapping[str, ModelPrice] | None = None,
        *,
        rows: Iterable[PriceRow] = (),
        fees: Iterable[PriceRow] = (),
        source: str = "",
        date: str = "",
    ) -> None:
        self._layers: tuple[_Layer, ...] = (_by_name((*_for_all(prices or {}, source, date), *rows)),)
        self._fees: _Layer = _by_name(fees)
        self.source = source
        self.date = date

    @classmethod
    def bundled(cls) -> PriceTable:
        """The table in this package: Azure's list prices. Read on first use, then kept."""
        return _read("azure_prices.json")

    @classmethod
    def openai(cls) -> PriceTable:
        """The table in this package of OpenAI's own list prices. Read on first use, then kept."""
        return _read("openai_prices.json")

    @property
    def models(self) -> tuple[str, ...]:
        """The names that have a price of their own, in order."""
        return tuple(sorted({name for layer in self._layers for name in layer}))

    @property
    def rows(self) -> tuple[PriceRow, ...]:
        """Every row, by model; overlaid ones first."""
        return tuple(row for layer in self._layers for name in sorted(layer) for row in layer[name])

    def get(
        self,
        model: str,
        type: DeploymentType = "global",
        *,
        tier: str | None = None,
        at: dt.date | dt.datetime | None = None,
    ) -> ModelPrice | None:
        """The price of ``model``; ``None`` where it is not known. The arguments are those of `find`."""
        row = self.find(model, type, tier=tier, at=at)
        return None if row is None else row.price

    def find(
        self,
        model: str,
        type: DeploymentType = "global",
        *,
        tier: str | None = None,
        at: dt.date | dt.datetime | None = None,
    ) -> PriceRow | None:
        """The row that holds for ``model`` in a deployment of this ``type`` on the day of ``at`` (today).

        ``tier`` is the service tier the server reports, where it does. A version's own price comes first
        (``gpt-4o-2024-05-13`` cost more than its successors), then its family's, but never where the two
        differ in any other row. Overlaid prices, the family's too, come before all those beneath. The
        latest of several rows holds. Nothing is derived from the price of another type.
        """
        zone, sold = market_of(type, tier)
        day = day_of(at)
        for layer in self._layers:
            for rows in _candidates(layer, model):
                found = [row for row in rows if row.covers(zone, sold, day)]
                if found:
                    return max(reversed(found), key=lambda row: row.valid_from or dt.date.min)
        return None

    def fee(self, model: str, *, at: dt.date | dt.datetime | None = None) -> PriceRow | None:
        """What ``model`` costs on top of the price of the model it hands a call to, if anything."""
        day = day_of(at)
        rows = self._fees.get((family_of(model) or model.strip()).lower(), ())
        return next((row for row in rows if row.covers("", "", day)), None)

    def knows(self, model: str) -> bool:
        """Whether there is a price of ``model`` at all, for whatever type and day."""
        return any(any(_candidates(layer, model)) for layer in self._layers)

    def overlaid(self, prices: Mapping[str, ModelPrice] | Iterable[PriceRow]) -> Self:
        """A table in which ``prices`` come first, and these where those say nothing."""
        by_name = cast("Mapping[str, ModelPrice]", prices)
        rows = _for_all(by_name, "", "") if isinstance(prices, Mapping) else prices
        table = type(self)(source=self.source, date=self.date)
        table._layers = (_by_name(rows), *self._layers)
        table._fees = self._fees
        return table

    def __repr__(self) -> str:
        return f"PriceTable({len(self.models)} models, source={self.source!r}, date={self.date!r})"


def _for_all(prices: Mapping[str, ModelPrice], source: str, date: str) -> tuple[PriceRow, ...]:
    return tuple(
        PriceRow(name, price, type=None, tier=None, source=source, date=date)
        for name, price in prices.items()
    )


def _by_name(rows: Iterable[PriceRow]) -> _Layer:
    """The rows of each model, in Azure's spelling of its name."""
    layer: dict[str, tuple[PriceRow, ...]] = {}
    for row in rows:
        name = row.model.strip().lower()
        name = resolve_model(name) or name
        layer[name] = (*layer.get(name, ()), row)
    return MappingProxyType(layer)


def _candidates(layer: _Layer, model: str) -> tuple[tuple[PriceRow, ...], ...]:
    """The rows of a model, and then those of its family where they are the same model's."""
    name = model.strip().lower()
    own = layer.get(name) or layer.get(resolve_model(name) or name, ())
    family = family_of(name)
    if family is None or family == name:
        return (own,)
    familys = layer.get(family, ())
    if not own:
        return (familys,)
    if not _agree(own, familys):
        return (own,)
    has = {_market(row) for row in own}
    return own, tuple(row for row in familys if _market(row) not in has)


def _agree(own: tuple[PriceRow, ...], familys: tuple[PriceRow, ...]) -> bool:
    """Whether a version costs what its family does wherever both are listed."""
    listed = {(_market(row), row.valid_from): row.price for row in familys}
    both = [(row.price, listed[key]) for row in own if (key := (_market(row), row.valid_from)) in listed]
    return bool(both) and all(mine == theirs for mine, theirs in both)


def _market(row: PriceRow) -> tuple[str | None, str | None]:
    return row.type, row.tier


@cache
def _read(name: str) -> PriceTable:
    text = (files("loom_py.llm") / "data" / name).read_text(encoding="utf-8")
    data = json.loads(text)
    return PriceTable(
        rows=[_row(fields, data) for fields in data["rows"]],
        fees=[_row(fields, data) for fields in data["fees"]],
        source=data["source"],
        date=data["date"],
    )


def _row(fields: Mapping[str, Any], data: Mapping[str, Any]) -> PriceRow:
    """A row of the file: what it does not say is global, standard, unbounded and of the file's date."""
    rest = dict(fields)
    bounds = {name: rest.pop(name, None) for name in ("valid_from", "valid_to")}
    label = {name: rest.pop(name) for name in _LABEL if name in rest}
    source = data["sources"][rest.pop("source")]
    days = {name: day and dt.date.fromisoformat(day) for name, day in bounds.items()}
    return PriceRow(price=ModelPrice(**rest), source=source, **{"date": data["date"], **label, **days})
