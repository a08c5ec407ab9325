"""The scenarios, a module for each group."""

from __future__ import annotations

from importlib import import_module

__all__ = ["MODULES", "load"]

MODULES = (
    "chat",
    "tools",
    "streaming",
    "usage",
    "errors",
    "equivalence",
    "cancellation",
    "concurrency",
    "lifecycle",
    "json_form",
)
"""The groups' modules, in the order of a scorecard."""


def load() -> None:
    """Register every scenario."""
    for module in MODULES:
        import_module(f"{__name__}.{module}")
