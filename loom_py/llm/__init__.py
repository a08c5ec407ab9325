"""Models: the provider protocol, installed providers, what models can do and what they cost.

Everything is imported on first use, so that ``import loom_py.llm`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loom_py.llm.costs import Cost, CostLedger, CostReport, Pricing
    from loom_py.llm.models import infer_model, price_model, resolve_model
    from loom_py.llm.prices import DeploymentType, GenAIPrices, ModelPrice, PriceOverride, PriceTable
    from loom_py.llm.profiles import UNKNOWN_PROFILE, ModelProfile, profile_for
    from loom_py.llm.provider import BaseProvider, LLMProvider
    from loom_py.llm.registry import (
        ProviderInfo,
        available_providers,
        create_provider,
        load_provider,
        register_provider,
        unregister_provider,
    )
    from loom_py.llm.scripted import ScriptedProvider

__all__ = [
    "UNKNOWN_PROFILE",
    "BaseProvider",
    "Cost",
    "CostLedger",
    "CostReport",
    "DeploymentType",
    "GenAIPrices",
    "LLMProvider",
    "ModelPrice",
    "ModelProfile",
    "PriceOverride",
    "PriceTable",
    "Pricing",
    "ProviderInfo",
    "ScriptedProvider",
    "available_providers",
    "create_provider",
    "infer_model",
    "load_provider",
    "price_model",
    "profile_for",
    "register_provider",
    "resolve_model",
    "unregister_provider",
]

_HOMES = {
    "costs": ("Cost", "CostLedger", "CostReport", "Pricing"),
    "models": ("infer_model", "price_model", "resolve_model"),
    "prices": ("DeploymentType", "GenAIPrices", "ModelPrice", "PriceOverride", "PriceTable"),
    "profiles": ("UNKNOWN_PROFILE", "ModelProfile", "profile_for"),
    "provider": ("BaseProvider", "LLMProvider"),
    "registry": (
        "ProviderInfo",
        "available_providers",
        "create_provider",
        "load_provider",
        "register_provider",
        "unregister_provider",
    ),
    "scripted": ("ScriptedProvider",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
