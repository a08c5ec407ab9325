"""What can be known of a provider without making one: its variables, its settings, its configuration.

A provider's package tells by custom: its module ``config`` holds ``ENVIRONMENT``, the variables by setting,
and one pydantic model whose name ends in ``Config``; the return type of its factory is the provider's class.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import BaseModel

from loom_py.agent_file.sections import AZURE
from loom_py.llm.azure.config import ENVIRONMENT
from loom_py.llm.registry import load_provider

__all__ = ["config_of", "environment_of", "setting_names"]

_KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "anthropic": {"api_key": ("ANTHROPIC_API_KEY",), "base_url": ("ANTHROPIC_BASE_URL",)},
    "bedrock": {"region": ("AWS_REGION", "AWS_DEFAULT_REGION"), "profile": ("AWS_PROFILE",)},
}
"""The variables that the makers' own SDKs read, for providers that do not name theirs."""


def environment_of(name: str) -> Mapping[str, tuple[str, ...]]:
    """The variables that the provider ``name`` reads, by setting, first found first taken."""
    if name == AZURE:
        return ENVIRONMENT
    for module in _modules(load_provider(name)):
        told = getattr(module, "ENVIRONMENT", None)
        if isinstance(told, Mapping):
            return {key: (each,) if isinstance(each, str) else tuple(each) for key, each in told.items()}
    return _KNOWN.get(name, {})


def setting_names(name: str) -> list[str] | None:
    """The settings that the provider ``name`` takes; ``None`` where it does not say."""
    factory = load_provider(name)
    names, is_open = _parameters(factory)
    if is_open:
        made = _made_by(factory)
        more, is_open = ([], True) if made is None else _parameters(made)
        names += [each for each in more if each not in names]
    return None if is_open else names


def config_of(name: str) -> type[BaseModel] | None:
    """The pydantic model of the settings of the provider ``name``, where its package has one."""
    for module in _modules(load_provider(name)):
        for thing in vars(module).values():
            is_model = isinstance(thing, type) and issubclass(thing, BaseModel)
            if is_model and thing.__module__ == module.__name__ and thing.__name__.endswith("Config"):
                return thing  # type: ignore[no-any-return]
    return None


def _modules(factory: Callable[..., Any]) -> Iterator[ModuleType]:
    """The factory's module, and the module ``config`` in it or beside it, as far as they are imported."""
    home = str(getattr(factory, "__module__", ""))
    for name in (home, f"{home}.config", f"{home.rpartition('.')[0]}.config"):
        if (module := sys.modules.get(name)) is not None:
            yield module


def _made_by(factory: Callable[..., Any]) -> type | None:
    try:
        made = get_type_hints(factory).get("return")
    except Exception:  # noqa: BLE001 - an annotation that cannot be read is as good as none
        return None
    return made if isinstance(made, type) and made.__init__ is not object.__init__ else None  # type: ignore[misc]


def _parameters(taker: Callable[..., Any]) -> tuple[list[str], bool]:
    """The names of the parameters, and whether any other is taken, too."""
    try:
        parameters = inspect.signature(taker).parameters.values()
    except (TypeError, ValueError):  # something callable that says nothing of its parameters
        return [], True
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    is_open = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return [each.name for each in parameters if each.kind in named], is_open
