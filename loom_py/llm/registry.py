"""Providers by name: those that installed packages offer, and those registered in the process.

A package offers a provider through the entry-point group ``loom_py.providers``::

    [project.entry-points."loom_py.providers"]
    echo = "my_package:create_provider"

The object it names is a factory: called with settings as keyword arguments, it returns an
`LLMProvider`. The built-in providers are offered in the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import metadata
from typing import Any, TypeAlias, cast

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

OWN_DISTRIBUTION = "loom-py"

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
        message = f"provider {info.name!r} ({info.origin}) cannot be made: {_described(exc)}"
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
    by_name: dict[str, list[_Offer]] = {}
    for offer in _installed():
        by_name.setdefault(offer.info.name, []).append(offer)
    chosen = {name: _chosen(offers) for name, offers in by_name.items()}
    for name, factory in _registered.items():
        passed_over = (chosen[name].info.origin,) if name in chosen else ()
        info = ProviderInfo(name, ignored=passed_over)
        chosen[name] = _Offer(info, lambda factory=factory: factory)  # type: ignore[misc]
    return dict(sorted(chosen.items()))


def _installed() -> Iterator[_Offer]:
    """Everything installed packages offer; a package whose metadata cannot be read stops no other."""
    try:
        points = list(metadata.entry_points(group=GROUP))
    except Exception:  # noqa: BLE001 - one package with a malformed entry_points.txt fails the whole call
        yield from _installed_one_by_one()
    else:
        yield from map(_offer, points)


def _installed_one_by_one() -> Iterator[_Offer]:
    seen = set()
    for distribution in metadata.distributions():
        name, version = _identity(distribution)
        if name in seen:
            continue
        seen.add(name)
        try:
            points = list(distribution.entry_points.select(group=GROUP))
        except Exception as exc:  # noqa: BLE001 - told in the info
            if GROUP in (distribution.read_text("entry_points.txt") or ""):
                error = f"its entry_points.txt cannot be read: {_described(exc)}"
                yield _broken(ProviderInfo(_normalised(name), name, version, error))
        else:
            yield from map(_offer, points)


def _offer(point: metadata.EntryPoint) -> _Offer:
    name, version = _identity(point.dist)
    return _Offer(ProviderInfo(_normalised(point.name), name, version), point.load)


def _broken(info: ProviderInfo) -> _Offer:
    def load() -> Any:
        raise ProviderLoadError(f"provider {info.name!r} cannot be used: {info.error}")

    return _Offer(info, load)


def _identity(distribution: metadata.Distribution | None) -> tuple[str, str | None]:
    """Name and version of a distribution; its metadata may be damaged."""
    try:
        assert distribution is not None
        return str(distribution.metadata["Name"]), distribution.version
    except Exception:  # noqa: BLE001 - a name for the listing is all that is wanted here
        return "an unknown package", None


def _chosen(offers: list[_Offer]) -> _Offer:
    """One of several offers of a name: the built-in one, else none of them."""
    first = offers[0]
    origins = {offer.info.origin: offer for offer in offers}
    if len(origins) == 1:
        return first
    for offer in offers:
        if offer.info.distribution == OWN_DISTRIBUTION:
            others = tuple(sorted(set(origins) - {offer.info.origin}))
            info = offer.info
            return _Offer(
                ProviderInfo(info.name, info.distribution, info.version, ignored=others), offer.load
            )
    error = f"several packages offer it: {', '.join(sorted(origins))}; uninstall all but one"
    return _broken(ProviderInfo(first.info.name, first.info.distribution, first.info.version, error))


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
        message = f"provider {offer.info.name!r} ({offer.info.origin}) cannot be loaded: {_described(exc)}"
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
    text = name.strip().lower().replace("_", "-")
    if not text:
        raise ConfigError("a provider needs a name", field="provider")
    return text


def _described(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def _reason(exc: Exception) -> str:
    """What was wrong with the settings; never their values, which may be secret."""
    problems: Any = getattr(exc, "errors", None)
    if not callable(problems):
        return str(exc) or type(exc).__name__
    found: Any = problems(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)


def _shown(exc: Exception) -> Exception | None:
    """The cause to chain: a validation error of pydantic prints the values it was given."""
    return None if callable(getattr(exc, "errors", None)) else exc
