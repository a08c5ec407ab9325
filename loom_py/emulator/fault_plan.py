"""Fault plans: seeded trouble for many requests, written down as rules.

::

    plan = FaultPlan(seed=7, rules=[
        FaultRule(error="429-2026", probability=0.1),
        FaultRule(error="503-empty", window=(30, 60), region="eastus"),
        FaultRule(latency=Latency.lognormal(median=0.8, sigma=0.5), deployment="chat"),
    ])

The same plan does the same to the n-th request of a deployment in every run.
"""

from __future__ import annotations

import json
import math
import random
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from loom_py.clock import Clock
from loom_py.emulator.catalogue import failure_names
from loom_py.emulator.faults import Cut
from loom_py.errors import ConfigError

__all__ = ["Effects", "FaultPlan", "FaultRule", "Latency", "PlanRun"]


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of delays in seconds; made with `fixed`, `uniform` or `lognormal`."""

    kind: Literal["fixed", "uniform", "lognormal"]
    first: float
    second: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in {"fixed", "uniform", "lognormal"}:
            raise ValueError(f"latency is fixed, uniform or lognormal, not {self.kind!r}")
        if not (0 <= self.first < math.inf and 0 <= self.second < math.inf):
            raise ValueError(f"a latency is 0 seconds or more, not {self.first}, {self.second}")
        if self.kind == "uniform" and self.second < self.first:
            raise ValueError(f"a uniform latency needs low <= high, not {self.first} > {self.second}")
        if self.kind == "lognormal" and self.first == 0:
            raise ValueError("a lognormal latency needs a median of more than 0 seconds")

    @classmethod
    def fixed(cls, seconds: float) -> Self:
        """Always ``seconds``."""
        return cls("fixed", seconds)

    @classmethod
    def uniform(cls, low: float, high: float) -> Self:
        """Anything from ``low`` to ``high`` seconds."""
        return cls("uniform", low, high)

    @classmethod
    def lognormal(cls, median: float, sigma: float) -> Self:
        """Half below ``median`` seconds, with a long tail above; ``sigma`` is of the logarithm."""
        return cls("lognormal", median, sigma)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """From seconds, ``{"uniform": [low, high]}`` or ``{"lognormal": [median, sigma]}``."""
        if isinstance(data, (int, float)) and not isinstance(data, bool):
            return cls.fixed(data)
        if isinstance(data, Mapping) and len(data) == 1:
            kind, numbers = next(iter(data.items()))
            numbers = numbers if isinstance(numbers, list) else [numbers]
            if len(numbers) == (1 if kind == "fixed" else 2):
                return cls(kind, *numbers)
        raise ValueError(f"latency takes seconds or {{kind: [numbers]}}, not {data!r}")

    def draw(self, chance: random.Random) -> float:
        """One delay in seconds."""
        if self.kind == "fixed":
            return self.first
        if self.kind == "uniform":
            return chance.uniform(self.first, self.second)
        return chance.lognormvariate(math.log(self.first), self.second)


@dataclass(frozen=True, slots=True)
class FaultRule:
    """What happens, and to which requests. Requests are counted per deployment, from 1.

    Args:
        error: the short name of a failure; see `loom_py.emulator.failure_names`.
        latency: a delay before anything else happens.
        bytes_per_second: how slowly the answer is sent.
        cut_after_chunks: drop the connection after so many chunks of a stream.
        cut_clean: end the stream properly instead, but without a finish reason.
        stall_after_chunks: send nothing more after so many chunks, and keep the connection open.
        hang: never answer.
        retry_after: the wait of a 429, in seconds.
        deployment: only requests to this deployment.
        region: only in an emulator of this region.
        probability: the share of requests it strikes, from 0 to 1.
        nth: only the n-th request.
        every: every n-th request.
        burst: how many requests in a row it strikes once it does.
        window: only between these two times, in seconds of the emulator's clock.
        times: strike at most so often, bursts included.

    Raises `ValueError` for a value out of range, an unknown name, or a rule that does nothing.
    """

    error: str | None = None
    latency: Latency | None = None
    bytes_per_second: float | None = None
    cut_after_chunks: int | None = None
    cut_clean: bool = False
    stall_after_chunks: int | None = None
    hang: bool = False
    retry_after: float | None = None
    deployment: str | None = None
    region: str | None = None
    probability: float = 1.0
    nth: int | None = None
    every: int | None = None
    burst: int = 1
    window: tuple[float, float] | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        if self.error is not None and self.error not in failure_names():
            raise ValueError(f"error {self.error!r} is unknown; use one of {', '.join(failure_names())}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be from 0 to 1, not {self.probability}")
        for name in ("nth", "every", "burst", "times"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name in ("cut_after_chunks", "stall_after_chunks", "retry_after"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, not {value}")
        if self.bytes_per_second is not None and self.bytes_per_second <= 0:
            raise ValueError(f"bytes_per_second must be more than 0, not {self.bytes_per_second}")
        if self.window is not None and not 0 <= self.window[0] < self.window[1]:
            raise ValueError(f"window must be (start, end) with 0 <= start < end, not {self.window}")
        effects = (self.error, self.latency, self.bytes_per_second)
        chunks = (self.cut_after_chunks, self.stall_after_chunks)
        if not self.hang and all(effect is None for effect in (*effects, *chunks)):
            raise ValueError("a rule must do something: error, latency, bytes_per_second, cut, stall or hang")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From JSON, with the arguments' names as keys."""
        known = {spec.name for spec in fields(cls)}
        unknown = sorted(data.keys() - known)
        if unknown:
            raise ValueError(f"unknown keys: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        values = dict(data)
        if values.get("latency") is not None:
            values["latency"] = Latency.from_dict(values["latency"])
        if values.get("window") is not None:
            start, end = values["window"]
            values["window"] = (start, math.inf if end is None else end)
        return cls(**values)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Rules and the ``seed`` of their chances. Delays add up; of other effects the first rule's counts."""

    rules: tuple[FaultRule, ...] = ()
    seed: int = 0

    def __init__(self, *, seed: int = 0, rules: Iterable[FaultRule] = ()) -> None:
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "rules", tuple(rules))

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """From ``{"seed": 7, "rules": [{...}]}``. Raises `ConfigError` naming the bad rule."""
        if not isinstance(data, Mapping) or not isinstance(data.get("rules"), list):
            raise ConfigError('a fault plan is {"seed": NUMBER, "rules": [...]}', field="faults")
        unknown = sorted(data.keys() - {"seed", "rules"})
        if unknown:
            raise ConfigError(f"the fault plan has unknown keys: {', '.join(unknown)}", field="faults")
        rules = []
        for index, item in enumerate(data["rules"]):
            try:
                rules.append(FaultRule.from_dict(item))
            except (TypeError, ValueError, AttributeError) as error:
                raise ConfigError(f"rule {index} of the fault plan: {error}", field="faults") from error
        return cls(seed=data.get("seed", 0), rules=rules)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """From a JSON file. Raises `ConfigError` if it cannot be read or is no plan."""
        try:
            data = json.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise ConfigError(
                f"the fault plan {path} cannot be read: {error.strerror}", field="faults"
            ) from error
        except ValueError as error:
            raise ConfigError(f"the fault plan {path} is not JSON: {error}", field="faults") from error
        return cls.from_dict(data)


@dataclass(slots=True)
class Effects:
    """What a plan does to one request; ``delay`` in seconds."""

    delay: float = 0.0
    error: str | None = None
    retry_after: float | None = None
    bytes_per_second: float | None = None
    cut: Cut | None = None
    stall_after_chunks: int | None = None
    hang: bool = False

    def __str__(self) -> str:
        """What is done, in words; empty where nothing is."""
        told = [self.error] if self.error else []
        told += ["hang"] if self.hang else []
        told += [f"delay {self.delay:.2g} s"] if self.delay else []
        told += ["cut"] if self.cut is not None else []
        told += [f"{self.bytes_per_second:g} bytes/s"] if self.bytes_per_second is not None else []
        return ", ".join(told)

    def add(self, rule: FaultRule, chance: random.Random) -> None:
        """Let ``rule`` strike too."""
        if rule.latency is not None:
            self.delay += rule.latency.draw(chance)
        if rule.error is not None and self.error is None:
            self.error, self.retry_after = rule.error, rule.retry_after
        if rule.cut_after_chunks is not None and self.cut is None:
            self.cut = Cut(rule.cut_after_chunks, rule.cut_clean)
        if self.stall_after_chunks is None:
            self.stall_after_chunks = rule.stall_after_chunks
        if self.bytes_per_second is None:
            self.bytes_per_second = rule.bytes_per_second
        self.hang = self.hang or rule.hang


@dataclass(slots=True)
class PlanRun:
    """A plan being carried out by one emulator. Safe for threads."""

    plan: FaultPlan
    clock: Clock
    region: str
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _requests: Counter[str] = field(default_factory=Counter)
    _struck: Counter[int] = field(default_factory=Counter)
    _bursts: Counter[tuple[int, str]] = field(default_factory=Counter)

    def next(self, deployment: str) -> Effects:
        """What happens to the next request to ``deployment``."""
        effects = Effects()
        with self._lock:
            self._requests[deployment] += 1
            number = self._requests[deployment]
            for index, rule in enumerate(self.plan.rules):
                chance = random.Random(f"{self.plan.seed}:{index}:{deployment}:{number}")  # noqa: S311
                if self._strikes(index, rule, deployment, number, chance):
                    effects.add(rule, chance)
        return effects

    def restart(self) -> None:
        """Count from the beginning again."""
        with self._lock:
            self._requests.clear()
            self._struck.clear()
            self._bursts.clear()

    def _strikes(
        self, index: int, rule: FaultRule, deployment: str, number: int, chance: random.Random
    ) -> bool:
        if rule.deployment not in {None, deployment} or rule.region not in {None, self.region}:
            return False
        if rule.window is not None and not rule.window[0] <= self.clock.now() < rule.window[1]:
            return False
        if rule.times is not None and self._struck[index] >= rule.times:
            return False
        if self._bursts[index, deployment] > 0:
            self._bursts[index, deployment] -= 1
        elif not _chosen(rule, number, chance):
            return False
        else:
            self._bursts[index, deployment] = rule.burst - 1
        self._struck[index] += 1
        return True


def _chosen(rule: FaultRule, number: int, chance: random.Random) -> bool:
    lucky = chance.random() < rule.probability
    return lucky and rule.nth in {None, number} and (rule.every is None or number % rule.every == 0)
