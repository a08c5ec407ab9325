"""What a user says about the price of a deployment or a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from loom_py.llm.prices.amounts import Amount, amount_of
from loom_py.llm.prices.model_price import ModelPrice
from loom_py.llm.prices.rows import DEPLOYMENT_TYPES, DeploymentType

__all__ = ["PriceOverride", "PriceSetting", "as_override"]


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """How the calls of one deployment, or of one model, are priced.

    ``model`` names the model behind the deployment and ``type`` how it is sold; what is not given is found
    out as always. ``price`` is a price of the user's own, for every type. ``multiplier`` is what the whole
    is multiplied with: 0.9 for a negotiated discount of 10 %::

        PriceOverride(model="gpt-5.4", type="data-zone-eu", multiplier="0.9")

    Raises `ValueError` for an unknown type, an empty model, and a multiplier that is no number of 0 or more.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: str | None = None
    type: DeploymentType | None = None
    multiplier: Decimal = Decimal(1)
    price: ModelPrice | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            model: str | None = None,
            type: DeploymentType | None = None,
            multiplier: Amount = Decimal(1),
            price: ModelPrice | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "multiplier", amount_of("multiplier", self.multiplier, "a number"))
        if isinstance(self.price, Mapping):
            object.__setattr__(self, "price", ModelPrice(**self.price))
        if self.type is not None and self.type not in DEPLOYMENT_TYPES:
            raise ValueError(f"type must be one of {', '.join(DEPLOYMENT_TYPES)}, not {self.type!r}")
        if self.model is not None and not self.model.strip():
            raise ValueError("model must name a model, or be left out")


PriceSetting: TypeAlias = ModelPrice | PriceOverride | Mapping[str, Any]
"""What `prices=` takes: a price, an override, or the fields of either as a mapping."""


def as_override(name: str, setting: PriceSetting) -> PriceOverride:
    """The override a setting means. Raises `ValueError` or `TypeError`, naming the entry."""
    if isinstance(setting, PriceOverride):
        return setting
    if isinstance(setting, ModelPrice):
        return PriceOverride(price=setting)
    if not isinstance(setting, Mapping):
        raise TypeError(
            f"prices[{name!r}] must be a ModelPrice, a PriceOverride or a mapping, not {setting!r}"
        )
    known = {field.name for field in fields(PriceOverride)}
    try:
        if "input" in setting:
            return PriceOverride(price=ModelPrice(**setting))
        if not setting:
            raise ValueError(f"it is empty; give at least one of {', '.join(sorted(known))}")
        if unknown := sorted(set(setting) - known):
            raise ValueError(f"no such field: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return PriceOverride(**setting)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"prices[{name!r}]: {exc}") from None
