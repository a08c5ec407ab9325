"""What installed packages offer by entry points, found so that one damaged package stops no other.

Providers, backends and commands of the command line are all found in this way. Nothing is imported
before `Offer.load` is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

from loom_py._version import __version__

__all__ = ["OWN_DISTRIBUTION", "Offer", "normalised", "offers", "reason"]

OWN_DISTRIBUTION = "loom-py"
"""The package whose offer of a name comes before those of all others."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that a package offers under ``name``; names are in lower case, with hyphens.

    ``distribution`` and ``version`` are those of the package. ``error`` says why it cannot be used, and
    is ``None`` where nothing is known to be wrong. ``ignored`` names further packages that offer the
    same name and are passed over.
    """

    name: str
    distribution: str | None = None
    version: str | None = None
    error: str | None = None
    ignored: tuple[str, ...] = ()
    point: metadata.EntryPoint | None = field(default=None, repr=False, compare=False)

    @property
    def origin(self) -> str:
        """The package and its version, or "this process"."""
        if self.distribution is None:
            return "this process"
        return " ".join(filter(None, (self.distribution, self.version)))

    def load(self) -> Any:
        """Import the object. Raises what the import raises, and `LookupError` where there is an ``error``."""
        if self.error is not None or self.point is None:
            raise LookupError(self.error or f"{self.name} names nothing to import")
        return self.point.load()


def offers(group: str, *, built_in: Mapping[str, str] | None = None) -> dict[str, Offer]:
    """Everything that is offered in the entry-point group ``group``, by name.

    ``built_in`` is what loom_py itself offers, ``{"sql": "package.module:object"}``; it comes before
    what others offer under the same name. Where several other packages offer a name, none of them is
    chosen: its `Offer` has an ``error``. A name of white space alone is passed over.
    """
    by_name: dict[str, list[Offer]] = {}
    for offer in (*_own(group, built_in or {}), *_installed(group)):
        if offer.name:
            by_name.setdefault(offer.name, []).append(offer)
    return {name: _chosen(by_name[name]) for name in sorted(by_name)}


def normalised(name: str) -> str:
    """``name`` as it is looked for: without white space around it, in lower case, with hyphens."""
    return name.strip().lower().replace("_", "-")


def reason(exc: BaseException) -> str:
    """The kind and the words of an error, on one line of a message."""
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def _own(group: str, built_in: Mapping[str, str]) -> Iterator[Offer]:
    for name, place in built_in.items():
        point = metadata.EntryPoint(name, place, group)
        yield Offer(normalised(name), OWN_DISTRIBUTION, __version__, point=point)


def _installed(group: str) -> Iterator[Offer]:
    """Everything installed packages offer; a package whose metadata cannot be read stops no other."""
    try:
        points = list(metadata.entry_points(group=group))
    except Exception:  # noqa: BLE001 - one package with a malformed entry_points.txt fails the whole call
        yield from _installed_one_by_one(group)
    else:
        yield from map(_offer, points)


def _installed_one_by_one(group: str) -> Iterator[Offer]:
    seen = set()
    for distribution in metadata.distributions():
        name, version = _identity(distribution)
        if name in seen:
            continue
        seen.add(name)
        try:
            points = list(distribution.entry_points.select(group=group))
        except Exception as exc:  # noqa: BLE001 - told in the offer
            if group in (distribution.read_text("entry_points.txt") or ""):
                error = f"its entry_points.txt cannot be read: {reason(exc)}"
                yield Offer(normalised(name), name, version, error)
        else:
            yield from map(_offer, points)


def _offer(point: metadata.EntryPoint) -> Offer:
    name, version = _identity(point.dist)
    return Offer(normalised(point.name), name, version, point=point)


def _identity(distribution: metadata.Distribution | None) -> tuple[str, str | None]:
    """Name and version of a distribution; its metadata may be damaged."""
    try:
        assert distribution is not None
        return str(distribution.metadata["Name"]), distribution.version
    except Exception:  # noqa: BLE001 - a name for the listing is all that is wanted here
        return "an unknown package", None


def _chosen(found: list[Offer]) -> Offer:
    """One of several offers of a name: the built-in one, else none of them."""
    origins = {offer.origin for offer in found}
    if len(origins) == 1:
        return found[0]
    for offer in found:
        if offer.distribution == OWN_DISTRIBUTION:
            others = (each.origin for each in found if each.distribution != OWN_DISTRIBUTION)
            return replace(offer, ignored=tuple(sorted(set(others))))
    error = f"several packages offer it: {', '.join(sorted(origins))}; uninstall all but one"
    return replace(found[0], error=error, point=None)
