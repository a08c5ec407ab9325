"""What one model call cost, part by part, and how that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from loom_py.errors import LoomError
from loom_py.llm.prices.amounts import EXACT, total
from loom_py.llm.prices.rows import DeploymentType
from loom_py.messages import JSONForm, JSONObject, Response, TokenUsage

__all__ = ["PARTS", "Cost", "added"]

PARTS = ("uncached_input", "cached_input", "cache_writes", "output", "fee", "other")
"""The parts of a cost, which add up to the whole."""

_ZERO = Decimal(0)
_NO_COST = "the provider did not say what the call cost"


@dataclass(frozen=True, slots=True)
class Cost(JSONForm):
    """The cost of one model call, in USD.

    ``usd`` is exactly the sum of its parts: uncached input, cached input, cache writes, output, the ``fee``
    of a router, and ``other``, which a provider did not break down. Where the price is not known ``usd``
    is ``None``, ``reason`` says why, and the parts are all 0: that is no statement that the call was free.

    ``model`` is the model it was priced as, ``tier`` the service tier; ``source`` and ``date`` say whose
    price it is and of when.

    Raises `ValueError` where the parts are not the whole, or where not exactly one of ``usd`` and ``reason``
    is given.
    """

    usd: Decimal | None
    uncached_input: Decimal = _ZERO
    cached_input: Decimal = _ZERO
    cache_writes: Decimal = _ZERO
    output: Decimal = _ZERO
    fee: Decimal = _ZERO
    other: Decimal = _ZERO
    model: str = ""
    deployment_type: DeploymentType = "global"
    tier: str = "standard"
    usage: TokenUsage = field(default_factory=TokenUsage)
    source: str = ""
    date: str = ""
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.usd is None) == (self.reason is None):
            raise ValueError("a cost has either usd or the reason why it is not known")
        parts = self._parts()
        if self.other is self.usd and not any(parts[:-1]):
            return  # one sum, as most providers tell it
        if total(parts) != (self.usd or _ZERO):
            raise ValueError(f"the parts of a cost must add up to usd = {self.usd}: {self.parts}")

    def _parts(self) -> tuple[Decimal, ...]:
        return (
            self.uncached_input,
            self.cached_input,
            self.cache_writes,
            self.output,
            self.fee,
            self.other,
        )

    @property
    def is_known(self) -> bool:
        """Whether the call has a price."""
        return self.usd is not None

    @property
    def parts(self) -> dict[str, Decimal]:
        """Every part by its name, in USD."""
        return dict(zip(PARTS, self._parts(), strict=True))

    @classmethod
    def unknown(cls, reason: str, **facts: Any) -> Self:
        """A cost that is not known, and why; ``facts`` are further fields."""
        return cls(None, reason=reason, **facts)

    @classmethod
    def of_response(cls, response: Response) -> Self:
        """The cost a provider put on a response: in full from ``metadata["cost"]``, else as one sum."""
        told = response.metadata.get("cost")
        if told is not None and isinstance(told, Mapping):
            return cls.from_dict(told)
        return cls._of_sum(response.cost_usd, response.model, response.tokens_used)

    @classmethod
    def of_error(cls, error: LoomError) -> Self:
        """The cost of a call that failed after it was billed, from what the error says."""
        return cls._of_sum(error.cost_usd, "", error.tokens_used or TokenUsage())

    @classmethod
    def _of_sum(cls, usd: Decimal | None, model: str, usage: TokenUsage) -> Self:
        if usd is None:
            return cls.unknown(_NO_COST, model=model, usage=usage)
        return cls(usd, other=usd, model=model, usage=usage, source="the provider")

    def to_dict(self) -> JSONObject:
        return {
            "usd": None if self.usd is None else f"{self.usd:f}",
            **{name: f"{part:f}" for name, part in self.parts.items()},
            "model": self.model,
            "deployment_type": self.deployment_type,
            "tier": self.tier,
            "usage": self.usage.to_dict(),
            "source": self.source,
            "date": self.date,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        usd = data["usd"]
        return cls(
            **{
                **data,
                **{name: _ZERO if data[name] == "0" else Decimal(data[name]) for name in PARTS},
                "usd": None if usd is None else Decimal(usd),
                "usage": TokenUsage.from_dict(data["usage"]),
            }
        )


def added(usd: Decimal | None, more: Decimal | None) -> Decimal | None:
    """The exact sum of two costs in USD; ``None`` where one of them is not known."""
    return None if usd is None or more is None else EXACT.add(usd, more)
