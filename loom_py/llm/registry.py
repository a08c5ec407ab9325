"""Providers by name: those that installed packages offer, and those registered in the process.

A package offers a provider through the entry-point group ``loom_py.providers``::

    [project.entry-points."loom_py.providers"]
    echo = "my_package:create_provider"

The object it names is a factory: called with settings as keyword arguments, it returns an
`LLMProvider`. The built-in providers are offered in the same way.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias, cast

from loom_py import _entry_points
from loom_py._entry_points import reason
from loom_py.errors import ConfigError, LoomError, ProviderLoadError, ProviderNotFoundError
from loom_py.llm.provider import BaseProvider, LLMProvider

__all__ = [
    "GROUP",
    "ProviderFactory",
    "ProviderInfo",
    "available_providers",
    "create_provider",
    "load_provider",
    "register_provider",
    "unregister_provider",
]

GROUP = "loom_py.providers"
"""The entry-point group in which packages offer providers."""

PACKAGES = ("anthropic", "bedrock", "needle", "ollama", "openai-compatible")
"""The providers whose packages the project keeps beside its own; each is called ``loom-NAME``."""

ProviderFactory: TypeAlias = Callable[..., LLMProvider]


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """A provider that can be asked for by ``name``, and where it comes from.

    ``distribution`` and ``version`` are those of the package that offers it, ``None`` for one that was
    registered in the process. ``error`` says why it cannot be used. ``ignored`` names further packages
    that offer the same name and are passed over.
    """

    name: str
    distribution: str | None = None
    version: str | None = None
    error: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The package and its version, or "this process"."""
        if self.distribution is None:
            return "this process"
        return " ".join(filter(None, (self.distribution, self.version)))


_registered: dict[str, ProviderFactory] = {}


def register_provider(name: str, factory: ProviderFactory) -> None:
    """Offer ``factory`` under ``name`` in this process, in place of whatever had that name.

    Raises `ConfigError` where the name is empty or has a colon, or the factory cannot be called.
    """
    if not callable(factory):
        raise ConfigError(f"the factory of provider {name!r} must be callable, not {factory!r}")
    if ":" in name:
        raise ConfigError(f"a provider's name has no colon: {name!r}")
    _registered[_normalised(name)] = factory


def unregister_provider(name: str) -> None:
    """Take back `register_provider`. Raises `ProviderNotFoundError` where nothing was registered."""
    if _registered.pop(_normalised(name), None) is None:
        raise ProviderNotFoundError(f"no provider {name!r} was registered in this process")


def available_providers(*, load: bool = False) -> dict[str, ProviderInfo]:
    """Every provider that can be asked for, by name.

    No provider is imported, unless ``load`` is true: then each is, and what fails is told in its
    ``error``. A broken one never raises here.
    """
    found = {name: offer.info for name, offer in _offers().items()}
    if load:
        found = {name: _tried(info) for name, info in found.items()}
    return found


def load_provider(name: str) -> ProviderFactory:
    """The factory of the provider ``name``.

    Raises `ProviderNotFoundError` where nothing offers it, and `ProviderLoadError` where what does is
    broken.
    """
    return _load(name)[0]


def create_provider(spec: str, /, **settings: Any) -> LLMProvider:
    """The provider that ``spec`` names, made with ``settings``.

    ``spec`` is a name such as ``"azure-openai"``, or a name and a model, ``"azure-openai:gpt-4o"``; what
    stands after the first colon is passed as ``model=``.

    Raises `ConfigError` for settings the provider does not take, and as `load_provider` does.
    """
    name, colon, model = spec.partition(":")
    if colon:
        if not model.strip():
            raise ConfigError(f"no model after the colon in {spec!r}", field="model")
        if "model" in settings:
            raise ConfigError(f"the model is given twice: in {spec!r} and as model=", field="model")
        settings["model"] = model.strip()
    factory, info = _load(name)
    try:
        provider = factory(**settings)
    except LoomError:
        raise
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"provider {info.name!r} refuses its settings: {_reason(exc)}") from _shown(exc)
    except Exception as exc:
        message = f"provider {info.name!r} ({info.origin}) cannot be made: {reason(exc)}"
        raise ProviderLoadError(message) from exc
    _check(provider, info)
    return provider


# ── finding ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Offer:
    """A provider, and how to get at its factory."""

    info: ProviderInfo
    load: Callable[[], Any]


def _offers() -> dict[str, _Offer]:
    chosen = {name: _installed(offer) for name, offer in _entry_points.offers(GROUP).items()}
    for name, factory in _registered.items():
        passed_over = (chosen[name].info.origin,) if name in chosen else ()
        info = ProviderInfo(name, ignored=passed_over)
        chosen[name] = _Offer(info, lambda factory=factory: factory)  # type: ignore[misc]
    return dict(sorted(chosen.items()))


def _installed(offer: _entry_points.Offer) -> _Offer:
    info = ProviderInfo(offer.name, offer.distribution, offer.version, offer.error, offer.ignored)

    def load() -> Any:
        if info.error is not None:
            raise ProviderLoadError(f"provider {info.name!r} cannot be used: {info.error}")
        return offer.load()

    return _Offer(info, load)


# ── loading ──────────────────────────────────────────────────────────────────────────────


def _load(name: str) -> tuple[ProviderFactory, ProviderInfo]:
    offers = _offers()
    offer = offers.get(_normalised(name))
    if offer is None:
        raise _not_found(name, list(offers))
    try:
        factory = offer.load()
    except ProviderLoadError:
        raise
    except (Exception, SystemExit) as exc:
        message = f"provider {offer.info.name!r} ({offer.info.origin}) cannot be loaded: {reason(exc)}"
        hint = exc.hint if isinstance(exc, LoomError) else None
        raise ProviderLoadError(message, hint=hint or f"Reinstall or remove {offer.info.origin}.") from exc
    if not callable(factory):
        message = f"provider {offer.info.name!r} ({offer.info.origin}) names no factory but {factory!r}"
        raise ProviderLoadError(message)
    return cast("ProviderFactory", factory), offer.info


def _tried(info: ProviderInfo) -> ProviderInfo:
    try:
        _load(info.name)
    except ProviderLoadError as exc:
        error = info.error or exc.message
        return ProviderInfo(info.name, info.distribution, info.version, error, info.ignored)
    return info


def _not_found(name: str, known: list[str]) -> ProviderNotFoundError:
    wanted = _normalised(name)
    close = get_close_matches(wanted, [*known, *PACKAGES], n=1, cutoff=0.5)
    if close and close[0] not in known:
        other = "" if close[0] == wanted else f"Did you mean {close[0]!r}? "
        hint = f"{other}Install its package: pip install loom-{close[0]}"
    elif close:
        hint = f"Did you mean {close[0]!r}?"
    else:
        hint = f"Install the package that offers it; by custom it is called loom-{wanted}."
    installed = ", ".join(known) or "none"
    return ProviderNotFoundError(f"no provider {name!r}; installed: {installed}", hint=hint)


def _check(provider: object, info: ProviderInfo) -> None:
    if isinstance(provider, LLMProvider):
        return
    if inspect.iscoroutine(provider):
        provider.close()
    members = ("name", "model", *BaseProvider.VERBS)
    missing = ", ".join(member for member in members if not hasattr(provider, member))
    raise ProviderLoadError(
        f"the factory of provider {info.name!r} ({info.origin}) returned {type(provider).__name__}, "
        f"which is no LLMProvider: it lacks {missing}"
    )


def _normalised(name: str) -> str:
    text = _entry_points.normalised(name)
    if not text:
        raise ConfigError("a provider needs a name", field="provider")
    return text


_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")


def _reason(exc: Exception) -> str:
    """What was wrong with the settings; never their values, which may be secret."""
    problems: Any = getattr(exc, "errors", None)
    if not callable(problems):
        unknown = _UNKNOWN.search(str(exc))
        return f"there is no setting {unknown[1]!r}" if unknown else str(exc) or type(exc).__name__
    found: Any = problems(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)


def _shown(exc: Exception) -> Exception | None:
    """The cause to chain: a validation error of pydantic prints the values it was given."""
    return None if callable(getattr(exc, "errors", None)) else exc
