"""From timed rounds to figures: scaled by the speed of the core at that moment, medians, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

PLAIN = "openai"
"""The contender all others are compared with."""

Samples = Mapping[str, Sequence["Sample"]]


@dataclass(frozen=True)
class Sample:
    """One round of one contender: seconds of CPU and of wall time per unit of work.

    ``reference`` is what a fixed piece of Python took on both sides of it, in seconds of CPU; ``bytes`` the
    size of what was made, where that is measured too.
    """

    cpu: float
    wall: float
    reference: float
    bytes: float | None = None


@dataclass
class Figure:
    """One metric: a value per contender in ``unit``, and its ratio to the plain SDK's, if there is one."""

    title: str
    unit: str
    values: dict[str, float]
    ratios: dict[str, float] = field(default_factory=dict)
    more_is_better: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def usual_reference(samples: Samples) -> float:
    """What the reference takes on this machine: the median over all rounds, in seconds."""
    return statistics.median(sample.reference for rounds in samples.values() for sample in rounds)


def scaled_medians(samples: Samples) -> dict[str, float]:
    """Seconds of CPU per unit, as if the core always ran at its usual speed."""
    usual = usual_reference(samples)
    return {
        name: statistics.median(sample.cpu / sample.reference for sample in rounds) * usual
        for name, rounds in samples.items()
    }


def ratios(samples: Samples, base: str = PLAIN) -> dict[str, float]:
    """The median over the rounds of each contender's scaled CPU over that of ``base`` in the same round."""
    if base not in samples:
        return {}
    plain = [sample.cpu / sample.reference for sample in samples[base]]
    return {
        name: statistics.median(
            sample.cpu / sample.reference / other for sample, other in zip(rounds, plain, strict=True)
        )
        for name, rounds in samples.items()
    }


def spread(samples: Samples) -> dict[str, float]:
    """How far the middle half of a contender's rounds lies apart, as a share of the median."""
    found = {}
    for name, rounds in samples.items():
        scaled = sorted(sample.cpu / sample.reference for sample in rounds)
        middle = scaled[len(scaled) // 4 : len(scaled) - len(scaled) // 4]
        found[name] = (middle[-1] - middle[0]) / statistics.median(scaled)
    return found


def cpu_figure(title: str, samples: Samples, unit: str = "µs") -> Figure:
    """CPU per unit of work, in ``unit`` (``µs`` or ``ms``)."""
    factor = {"µs": 1e6, "ms": 1e3}[unit]
    return Figure(
        title,
        f"{unit} of CPU",
        {name: value * factor for name, value in scaled_medians(samples).items()},
        ratios(samples),
        details={
            "spread": spread(samples),
            "rounds": {n: [asdict(s) for s in r] for n, r in samples.items()},
        },
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through ``points`` that leaves the least squares."""
    x_mean = statistics.fmean(x for x, _ in points)
    y_mean = statistics.fmean(y for _, y in points)
    over = sum((x - x_mean) * (y - y_mean) for x, y in points)
    return over / sum((x - x_mean) ** 2 for x, _ in points)
