"""Backends by kind: the built-in ``sql``, and those that installed packages offer.

A package offers a kind through the entry-point group ``loom_py.backends``::

    [project.entry-points."loom_py.backends"]
    notes = "loom_notes:NotesBackend"

The object it names is a factory: called with settings as keyword arguments, it returns a `Backend`.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from loom_py import _entry_points
from loom_py._entry_points import Offer, reason
from loom_py.errors import ConfigError, LoomError

if TYPE_CHECKING:
    from loom_py.backends.protocol import Backend

__all__ = ["GROUP", "BackendFactory", "available_backends", "create_backend", "load_backend"]

GROUP = "loom_py.backends"
"""The entry-point group in which packages offer backends."""

BUILT_IN = {"sql": "loom_py.backends.sql:SQLBackend"}

BackendFactory: TypeAlias = "Callable[..., Backend]"


def available_backends() -> dict[str, Offer]:
    """Every kind of backend that can be asked for, by name. None is imported."""
    return _entry_points.offers(GROUP, built_in=BUILT_IN)


def load_backend(kind: str) -> BackendFactory:
    """The factory of the backends of this ``kind``.

    Raises `ConfigError` where nothing offers it, or what does cannot be imported.
    """
    return _load(kind)[0]


def create_backend(kind: str, /, **settings: Any) -> Backend:
    """A backend of this ``kind``, made with ``settings``.

    Raises `ConfigError` for settings it does not take, and as `load_backend` does; what the backend
    raises of loom_py's own errors, such as `MissingDependencyError`, comes through.
    """
    from loom_py.backends.protocol import Backend

    factory, offer = _load(kind)
    try:
        backend: object = factory(**settings)
    except LoomError:
        raise
    except Exception as exc:
        message = f"backend {offer.name!r} refuses its settings: {reason(exc)}"
        raise ConfigError(message, field="backend") from exc
    if isinstance(backend, type) or not isinstance(backend, Backend):
        message = f"the factory of backend {offer.name!r} ({offer.origin}) returned no backend"
        raise ConfigError(f"{message} but {type(backend).__name__}", field="backend")
    return backend


def _load(kind: str) -> tuple[BackendFactory, Offer]:
    known = available_backends()
    name = _entry_points.normalised(kind)
    if (offer := known.get(name)) is None:
        raise _not_found(kind, name, list(known))
    if offer.error is not None:
        raise ConfigError(f"backend {name!r} cannot be used: {offer.error}", field="kind")
    try:
        factory = offer.load()
    except (Exception, SystemExit) as exc:
        message = f"backend {name!r} ({offer.origin}) cannot be loaded: {reason(exc)}"
        hint = exc.hint if isinstance(exc, LoomError) else None
        raise ConfigError(message, field="kind", hint=hint or f"Reinstall or remove {offer.origin}.") from exc
    if not callable(factory):
        message = f"backend {name!r} ({offer.origin}) names no factory but {type(factory).__name__}"
        raise ConfigError(message, field="kind")
    return cast("BackendFactory", factory), offer


def _not_found(kind: str, name: str, known: list[str]) -> ConfigError:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    package = f"Install the package that offers it; by custom it is called loom-{name}."
    hint = f"Did you mean {close[0]!r}?" if close else package
    return ConfigError(f"no backend of kind {kind!r}; installed: {', '.join(known)}", field="kind", hint=hint)
