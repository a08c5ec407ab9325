"""Several breakers, by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from loom_py.resilience.breaker.circuit import CircuitBreaker, Permit
from loom_py.resilience.breaker.config import BreakerConfig, BreakerStats
from loom_py.resilience.events import Emit, log_event

__all__ = ["CircuitBreakers"]


class CircuitBreakers(Mapping[str, CircuitBreaker]):
    """Breakers by name, each made when it is first needed. As a guard it serves the tools.

    As a mapping it holds those that were needed so far; ``breakers[name]`` makes a new one, ``get``
    and ``in`` do not.
    """

    __slots__ = ("_breakers", "_clock", "_config", "_emit", "_kind", "_lock")

    def __init__(
        self,
        kind: str,
        config: BreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        emit: Emit = log_event,
    ) -> None:
        self._kind = kind
        self._config = config or BreakerConfig()
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._breakers: dict[str, CircuitBreaker] = {}

    def __repr__(self) -> str:
        return f"CircuitBreakers({self._kind!r}, {len(self)} in use)"

    def __getitem__(self, name: str) -> CircuitBreaker:
        breaker = self._breakers.get(name)
        return self._made(name) if breaker is None else breaker

    def _made(self, name: str) -> CircuitBreaker:
        with self._lock:
            breaker = self._breakers.get(name)
            if breaker is None:
                full_name = f"{self._kind} {name}"
                breaker = CircuitBreaker(full_name, self._config, clock=self._clock, emit=self._emit)
                self._breakers[name] = breaker
            return breaker

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(tuple(self._breakers))

    def __len__(self) -> int:
        return len(self._breakers)

    def __contains__(self, name: object) -> bool:
        return name in self._breakers

    def get(self, name: str, default: Any = None, /) -> Any:
        """The breaker of ``name`` if it was ever needed, else ``default``."""
        return self._breakers.get(name, default)

    def available(self, name: str) -> bool:
        """Whether a call to ``name`` would be let through now."""
        breaker = self._breakers.get(name)
        return breaker is None or breaker.is_available

    def enter(self, name: str) -> Permit:
        """Leave to call ``name``. Raises `CircuitOpenError` while its breaker refuses."""
        return self[name].enter()

    def stats(self) -> dict[str, BreakerStats]:
        """The state of every breaker that was ever needed."""
        return {name: breaker.stats() for name, breaker in self.items()}

    def reset(self) -> None:
        """Close all of them."""
        for breaker in self.values():
            breaker.reset()
