"""What the models can do, and what they cost."""

from __future__ import annotations

from decimal import Decimal

from loom_py.llm.costs import Cost
from loom_py.llm.prices import ModelPrice
from loom_py.llm.profiles import UNKNOWN_PROFILE, ModelProfile
from loom_py.messages import TokenUsage

__all__ = ["cost_of", "profile_of"]

PROFILES = {
    "acme-1": ModelProfile(context_window=128_000, max_output=16_000, vision=True, structured_output=True)
}

PRICES = {"acme-1": ModelPrice(input="2.50", output="10", cached_input="1.25")}
"""USD per million tokens; say here where they are from, and of when."""

SOURCE = "loom-acme"


def profile_of(model: str) -> ModelProfile:
    """What ``model`` can do."""
    return PROFILES.get(model, UNKNOWN_PROFILE)


def cost_of(model: str, usage: TokenUsage) -> Cost:
    """What ``usage`` costs; unknown where no price is listed: never 0, never a guess."""
    price = PRICES.get(model)
    if price is None:
        return Cost.unknown(f"no price of {model} is listed", model=model, usage=usage)
    parts = price.parts(usage)._asdict()
    usd = sum(parts.values(), Decimal(0))
    return Cost(usd, **parts, model=model, usage=usage, source=SOURCE)
