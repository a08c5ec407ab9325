"""How an agent stands: its deployments, tools, budgets and shared state at one moment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from loom_py.resilience.breaker import BreakerStats
from loom_py.resilience.lanes import DeploymentHealth
from loom_py.resilience.retry import RetryBudgetStats

if TYPE_CHECKING:
    from loom_py.resilience.budget import BudgetStatus
    from loom_py.resilience.shared import SharedHealth

__all__ = ["Health"]


@dataclass(frozen=True, slots=True)
class Health:
    """The state of every policy of an agent. Times are in seconds, money in USD.

    ``deployments`` and ``tools`` are by name; a tool is there once its breaker was needed.
    """

    deployments: Mapping[str, DeploymentHealth] = field(default_factory=dict)
    tools: Mapping[str, BreakerStats] = field(default_factory=dict)
    budgets: tuple[BudgetStatus, ...] = ()
    retries: RetryBudgetStats | None = None
    shared: SharedHealth | None = None

    @property
    def status(self) -> Literal["ok", "degraded", "down"]:
        """``"down"`` if no deployment may be called now, ``"degraded"`` if anything is amiss."""
        available = [each.is_available for each in self.deployments.values()]
        if not any(available):
            return "down"
        is_whole = all(available) and all(stats.state == "closed" for stats in self.tools.values())
        is_shared = self.shared is None or self.shared.connected
        return "ok" if is_whole and is_shared else "degraded"

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-compatible: money as text, what is endless or unknown as ``None``."""
        return {"status": self.status, **_plain(self)}


def _plain(thing: Any) -> Any:
    if is_dataclass(thing):
        return {each.name: _plain(getattr(thing, each.name)) for each in fields(thing)}
    if isinstance(thing, Mapping):
        return {str(key): _plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_plain(each) for each in thing]
    if isinstance(thing, Decimal):
        return f"{thing:f}"
    if isinstance(thing, float) and not math.isfinite(thing):
        return None
    return thing
