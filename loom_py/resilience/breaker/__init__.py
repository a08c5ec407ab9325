"""Circuit breakers: stop calling what keeps failing, and find out when it works again.

A breaker is a plain object with an injected clock. It is asked before a call and told after it;
it never sleeps and does no I/O.

::

    closed ── too many failures ──▶ open ── open time over ──▶ half-open
       ▲                             ▲                            │
       └────── enough successes ─────┼────────────────────────────┤
                                     └───────── a failure ────────┘

Too many are some in a row, or a share of the last minute's calls. In half-open a few probes are let
through. Each time one fails the open time doubles, up to a cap. A call that was begun before the
state changed is not counted after it.

What waiting does not mend (a wrong key, a deployment that is gone) is taken out: open for longer,
with the reason, until one probe succeeds. A person may also force a breaker open or closed.
"""

from __future__ import annotations

from loom_py.resilience.breaker.circuit import (
    MAX_SECONDS_OUT,
    PROBE_SECONDS,
    CircuitBreaker,
    Permit,
)
from loom_py.resilience.breaker.config import BreakerConfig, BreakerStats, Cause, State
from loom_py.resilience.breaker.group import CircuitBreakers
from loom_py.resilience.breaker.window import BUCKETS

__all__ = [
    "BUCKETS",
    "MAX_SECONDS_OUT",
    "PROBE_SECONDS",
    "BreakerConfig",
    "BreakerStats",
    "Cause",
    "CircuitBreaker",
    "CircuitBreakers",
    "Permit",
    "State",
]
