"""Models: the provider protocol, installed providers, what models can do and what they cost.

Everything is imported on first use, so that ``import loom_py.llm`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loom_py.llm.models import infer_model, price_model, resolve_model
    from loom_py.llm.prices import ModelPrice, PriceTable
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
    "LLMProvider",
    "ModelPrice",
    "ModelProfile",
    "PriceTable",
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
    "models": ("infer_model", "price_model", "resolve_model"),
    "prices": ("ModelPrice", "PriceTable"),
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
