"""How the cost of a call grows with the history: per message, from 100 to 10,000 of them.

The encoder alone, given the same messages as plain dicts, is the least that any client must spend.
"""

from __future__ import annotations

import math
from functools import partial
from importlib.util import find_spec

from benchmarks.figures import PLAIN, Figure, Sample, scaled_medians, slope
from benchmarks.race import Race

NAME = "growth"
LENGTHS = (100, 300, 1000, 3000, 10_000)
ENCODERS = {"json.dumps alone": "json", "orjson.dumps alone": "orjson"}


def measure(race: Race, *, lengths: tuple[int, ...] = LENGTHS, rounds: int | None = None) -> Figure:
    """CPU per message of history: the slope of the least squares, and the exponent in the details.

    An exponent of 1 is linear growth, 2 quadratic; it is taken from the two longest histories, where what
    does not grow weighs least. Peers call the SDK's `create` and grow as it does: they are left out.
    """
    rounds = max(1, race.rounds // 2) if rounds is None else rounds
    entries = [each for each in race.entries if each.is_ours or each.name == PLAIN]
    points: dict[str, list[tuple[float, float]]] = {}
    for length in lengths:
        samples = race.interleaved(
            "run",
            entries,
            rounds=rounds,
            verb="ask",
            endpoint=race.endpoint("plain"),
            history=length,
            count=1,
        )
        for name, value in {**scaled_medians(samples), **_encoders(race, length, rounds)}.items():
            points.setdefault(name, []).append((length, value))
    whole = {name: found for name, found in points.items() if len(found) == len(lengths)}
    slopes = {name: slope(found) for name, found in whole.items()}
    return Figure(
        f"one more message of history, {lengths[0]:,} to {lengths[-1]:,}",
        "µs of CPU",
        {name: value * 1e6 for name, value in slopes.items()},
        {name: value / slopes[PLAIN] for name, value in slopes.items()} if PLAIN in slopes else {},
        details={
            "exponent": {name: _exponent(found) for name, found in whole.items()},
            "milliseconds": {name: {n: t * 1e3 for n, t in found} for name, found in whole.items()},
        },
    )


def _encoders(race: Race, length: int, rounds: int) -> dict[str, float]:
    """Each encoder in the first contender's process."""
    samples: dict[str, list[Sample]] = {}
    for name, module in ENCODERS.items():
        if find_spec(module) is not None:
            encode = partial(race.interleaved, "encode", race.entries[:1], rounds=rounds)
            found = encode(history=length, encoder=module, count=5)
            samples.update((name, each) for each in found.values())
    return scaled_medians(samples)


def _exponent(points: list[tuple[float, float]]) -> float:
    (x0, y0), (x1, y1) = points[-2:]
    return math.log(y1 / y0) / math.log(x1 / x0)
