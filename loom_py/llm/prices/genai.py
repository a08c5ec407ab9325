"""A second list of prices: the package ``genai-prices``, an optional dependency."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from loom_py.errors import MissingDependencyError
from loom_py.llm.prices.model_price import ModelPrice
from loom_py.llm.prices.rows import DeploymentType, PriceRow, day_of, market_of

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

__all__ = ["GenAIPrices"]

_FIELDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
}
_NO_TOKENS = {"cache_write_1h_mtok", "web_searches_kcount", "storage_searches_kcount"}
"""Prices of what no chat of ours asks for; they do not make the price of the tokens incomplete."""


_VERSION = re.compile(r"-(?:\d{4}-?\d{2}-?\d{2}|\d{4}|latest|preview)\Z")


class GenAIPrices:
    """The price list inside the installed ``genai-prices`` package; it never goes to the network.

    It has the makers' list prices as Azure's global standard deployments have them, and so answers for that
    type alone. ``provider`` is whose list is asked, in the package's words. Names are matched whole, but for
    a version; models that see, hear or speak for another price have none. Raises `MissingDependencyError`
    where the package is missing.
    """

    name: ClassVar[str] = "genai-prices"

    def __init__(self, provider: str = "azure") -> None:
        self._provider = provider
        if not _is_installed():
            raise MissingDependencyError(
                "genai-prices is not installed",
                hint="pip install 'loom-py[prices]'",
            )

    @classmethod
    def if_installed(cls) -> GenAIPrices | None:
        """The list where its package is installed, else ``None``. Nothing is imported yet."""
        return cls() if _is_installed() else None

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
        """The price of ``model`` on the day of ``at`` (today), as a row that names its source."""
        if market_of(type, tier) != ("global", "standard"):
            return None
        name = model.strip().lower()
        found = self._lookup(name)
        if found is None or found[1].id not in (name, _VERSION.sub("", name)):
            return None
        moment = dt.datetime.combine(day_of(at), dt.time(12), dt.UTC)
        price = _price(found[1], moment)
        if price is None:
            return None
        from importlib.metadata import version

        source = f"{self.name} {version(self.name)}, its prices of {found[0].name}"
        return PriceRow(name, price, source=source)

    def _lookup(self, name: str) -> tuple[Provider, ModelInfo] | None:
        """The model of that name, and the provider whose list has it."""
        try:
            _, model = self._snapshot.find_provider_model(name, None, self._provider, None)
        except LookupError:
            return None
        owner = next(one for one in self._snapshot.providers if any(model is its for its in one.models))
        return owner, model

    @cached_property
    def _snapshot(self) -> Any:
        from genai_prices.data import providers
        from genai_prices.data_snapshot import DataSnapshot

        return DataSnapshot(providers=providers, from_auto_update=False)


def _is_installed() -> bool:
    return find_spec("genai_prices") is not None


def _price(model: ModelInfo, moment: dt.datetime) -> ModelPrice | None:
    """Their price as ours; ``None`` where ours cannot say it."""
    stated = {name: value for name, value in vars(model.get_prices(moment)).items() if value is not None}
    if stated.keys() - _FIELDS.keys() - _NO_TOKENS or "input_mtok" not in stated:
        return None
    if "output_mtok" not in stated and "embedding" not in model.id:
        return None
    prices: dict[str, Any] = {"output": 0, "above_output": 0}
    starts = set()
    for theirs, ours in _FIELDS.items():
        value = stated.get(theirs)
        if isinstance(value, Decimal):
            prices[ours] = prices[f"above_{ours}"] = value
        elif value is not None:
            prices[ours], prices[f"above_{ours}"] = value.base, value.tiers[-1].price
            starts.add(tuple(tier.start for tier in value.tiers))
    if not starts:
        return ModelPrice(**{name: value for name, value in prices.items() if not name.startswith("above_")})
    if len(starts) > 1 or len(*starts) != 1:
        return None
    return ModelPrice(above_tokens=starts.pop()[0], **prices)
