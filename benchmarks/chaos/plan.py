"""What goes wrong, and what is asked: the same for everybody who takes part."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal, TypeAlias

from loom_py.emulator import FaultPlan, FaultRule, Latency

__all__ = ["OUTAGE", "REGIONS", "REQUESTS_PER_MINUTE", "TOKENS_PER_MINUTE", "Scenario", "Verb"]

Verb: TypeAlias = Literal["achat", "astream_chat", "chat", "stream_chat"]

REGIONS = ("eastus", "westus")
TOKENS_PER_MINUTE, REQUESTS_PER_MINUTE = 2_000_000, 3_000
"""The quota of each region, which it enforces and announces: more than one region alone needs."""

OUTAGE = 60.0
"""Seconds for which the first region answers nothing but 503."""

_VERBS: tuple[Verb, ...] = (
    *(("achat",) * 6),
    *(("astream_chat",) * 3),
    "chat",
    *(("achat",) * 5),
    *(("astream_chat",) * 4),
    "stream_chat",
)
"""Twenty runs in a row: 11 of 20 whole answers, 7 streams, and 2 in threads."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A soak: ``runs`` that begin at even distances, so many a second, whatever became of those before.

    ``cuts`` and ``hangs`` are the shares of streams that break off and of requests never answered.
    ``impatient`` is the share of async runs whose askers cancel them after up to 6 s.
    """

    runs: int = 5000
    seed: int = 7
    runs_per_second: float = 8.0
    cuts: float = 0.02
    hangs: float = 0.01
    impatient: float = 0.0

    @property
    def span(self) -> float:
        """Seconds in which the runs begin."""
        return self.runs / self.runs_per_second

    @property
    def outage(self) -> tuple[float, float]:
        """When the first region is away."""
        start = self.span / 3
        return start, start + OUTAGE

    def starts_at(self, run: int) -> float:
        """When a run begins, in seconds."""
        return run / self.runs_per_second

    def verb(self, run: int) -> Verb:
        """How a run asks."""
        return _VERBS[run % len(_VERBS)]

    def patience(self, run: int) -> float | None:
        """After how many seconds a run is cancelled, if it is."""
        chance = random.Random(f"{self.seed}:{run}")
        if self.verb(run) not in {"achat", "astream_chat"} or chance.random() >= self.impatient:
            return None
        return chance.uniform(0.0, 6.0)

    def secret(self, run: int) -> str:
        """What the tool finds for a run, and its answer must contain."""
        return hashlib.sha256(f"{self.seed}:{run}".encode()).hexdigest()[:12]

    @staticmethod
    def deployment(region: str) -> str:
        """The deployment of a region: named apart, or both would draw the same chances."""
        return f"gpt-4o-{region}"

    def faults(self, region: str) -> FaultPlan:
        """10 % 429, 5 % 5xx, cut streams, hangs, an outage of the first region; answers in 0.8 s.

        The rules draw one after the other, and the first that strikes counts: what is left for each is why
        the later shares are divided.
        """
        return FaultPlan(
            seed=self.seed,
            rules=[
                FaultRule(latency=Latency.lognormal(median=0.8, sigma=0.4)),
                FaultRule(error="503", window=self.outage, region=REGIONS[0]),
                FaultRule(hang=True, probability=self.hangs),
                FaultRule(error="429-2026", retry_after=1, probability=0.05),
                FaultRule(error="429-2025", retry_after=1, probability=0.05 / 0.95),
                FaultRule(error="500", probability=0.025 / 0.90),
                FaultRule(error="502-html", probability=0.025 / 0.875),
                FaultRule(cut_after_chunks=3, probability=self.cuts),
            ],
        )
