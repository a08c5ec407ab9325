"""How much a loopback server takes on, and whether what it needs is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from loom_py.errors import MissingDependencyError

__all__ = ["Limits", "check_installed", "missing"]

NEEDED = ("starlette", "uvicorn")


def check_installed() -> None:
    """Raise `MissingDependencyError` where a package is missing that an emulator needs."""
    for name in NEEDED:
        if find_spec(name) is None:
            raise missing(name)


def missing(name: str | None) -> MissingDependencyError:
    """The error for a package that is not installed."""
    return MissingDependencyError(
        f"the emulator needs the package {name!r}, which is not installed",
        hint="pip install 'loom-py[emulator]'",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Open connections, and bytes of a request's head. Raises `ValueError` below 1."""

    connections: int
    header: int

    def __post_init__(self) -> None:
        if self.connections < 1 or self.header < 1:
            raise ValueError("max_connections and max_header must be at least 1")
