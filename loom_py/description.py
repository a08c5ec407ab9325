"""What an agent or provider is set to, and where each setting came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["Description", "Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One resolved setting. ``source`` is ``argument``, ``default`` or the environment's variable.

    A secret's ``value`` is masked: its first and last four characters, or ``***`` if it is short.
    """

    name: str
    value: Any
    source: str


class Description(tuple[Setting, ...]):
    """All settings, in order; printed, it is a table."""

    __slots__ = ()

    def __new__(cls, settings: Iterable[Setting] = ()) -> Self:
        return super().__new__(cls, settings)

    def __str__(self) -> str:
        width = max((len(setting.name) for setting in self), default=0)
        rows = [(setting.name.ljust(width), str(setting.value), setting.source) for setting in self]
        middle = max((len(value) for _, value, _ in rows), default=0)
        return "\n".join(f"{name}  {value.ljust(middle)}  {source}" for name, value, source in rows)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Each setting's value and source, by name."""
        return {setting.name: {"value": setting.value, "source": setting.source} for setting in self}


def masked(secret: str) -> str:
    """``secret`` so that its owner knows which it is and nobody else can use it."""
    return f"{secret[:4]}...{secret[-4:]}" if len(secret) > 16 else "***"
