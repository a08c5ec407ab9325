"""Retries: the one authority on whether, and when, a failed model call is tried again.

tenacity's strategies decide; nothing here sleeps. The wait is the server's word where it gave one,
and never less; otherwise it grows exponentially, with jitter. A budget bounds the share of retries
among recent calls, so that an outage is not answered with a storm.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast

from tenacity import RetryCallState, wait_exponential, wait_random
from tenacity.wait import wait_base

from loom_py._log import get_logger
from loom_py.errors import ConfigError, LoomError

__all__ = ["Retries", "RetryBudget", "RetryBudgetStats", "RetryConfig", "wait_as_told"]

_log = get_logger()

WaitStrategy: TypeAlias = Callable[[RetryCallState], float]


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """How often and how patiently a failed model call is tried again.

    ``max_attempts`` counts the first one: 1 means no retries. The wait before the second attempt is
    ``initial_seconds``, multiplied by ``multiplier`` each time up to ``max_seconds``, plus 0 to
    ``jitter_seconds``. A wait the server asks for is kept to, plus jitter. A call is not delayed by more than
    ``max_wait_seconds`` before any one attempt: it fails at once instead, and ``retry_after`` of the
    error says when it would have been worth it.

    Of the calls of the last ten seconds, retries may make up ``budget_ratio``; ``budget_minimum`` of them are
    always allowed. ``wait`` is a tenacity strategy (``wait_fixed(2)``, …) in place of the exponential one
    with its jitter; what the server asks for comes before it. Where it fails there is a warning, and the
    exponential one is taken.

    Raises `ConfigError` for values that make no sense.
    """

    max_attempts: int = 5
    initial_seconds: float = 1.0
    multiplier: float = 2.0
    max_seconds: float = 32.0
    jitter_seconds: float = 1.0
    max_wait_seconds: float = 60.0
    budget_ratio: float = 0.2
    budget_minimum: int = 10
    wait: WaitStrategy | None = None

    def __post_init__(self) -> None:
        for name, least in (("max_attempts", 1), ("budget_minimum", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                message = f"{name} must be a whole number of at least {least}, not {value!r}"
                raise ConfigError(message, field=name)
        for name in ("initial_seconds", "max_seconds", "jitter_seconds", "max_wait_seconds", "budget_ratio"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value < float("inf"):
                raise ConfigError(f"{name} must be a number of at least 0, not {value!r}", field=name)
        if type(self.multiplier) not in (int, float) or not 1 <= self.multiplier < float("inf"):
            raise ConfigError(
                f"multiplier must be a number of at least 1, not {self.multiplier!r}", field="multiplier"
            )
        if self.wait is not None:
            _check_strategy(self.wait)


class wait_as_told(wait_base):  # noqa: N801 - named as tenacity names its own
    """Waits as long as the error's ``retry_after`` says and ``jitter``; where it is silent, ``otherwise``."""

    def __init__(self, otherwise: WaitStrategy, jitter: WaitStrategy) -> None:
        self.otherwise = otherwise
        self.jitter = jitter

    def __call__(self, retry_state: RetryCallState) -> float:
        error = None if retry_state.outcome is None else retry_state.outcome.exception()
        told = getattr(error, "retry_after", None)
        if told is not None and told > 0:
            return float(told) + self.jitter(retry_state)
        return self.otherwise(retry_state)


@dataclass(frozen=True, slots=True)
class RetryBudgetStats:
    """Calls and retries of the last ten seconds, and how many more retries are allowed now."""

    calls: int
    retries: int
    left: int


class RetryBudget:
    """Bounds the share of retries among the calls of the last ten seconds. Safe for threads."""

    WINDOW = 10.0
    SLICES = 10

    def __init__(self, ratio: float, minimum: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ratio = ratio
        self._minimum = minimum
        self._clock = clock
        self._lock = threading.Lock()
        self._slices: dict[int, list[int]] = {}

    def call(self) -> None:
        """A call begins."""
        with self._lock:
            self._now()[0] += 1

    def spend(self) -> bool:
        """Whether one more retry is within the budget; it is counted then."""
        with self._lock:
            current = self._now()
            if self._left() < 1:
                return False
            current[1] += 1
            return True

    def stats(self) -> RetryBudgetStats:
        """The last ten seconds."""
        with self._lock:
            self._now()
            return RetryBudgetStats(*self._sums(), max(0, self._left()))

    def _now(self) -> list[int]:
        """The counts of the current second; what is too old is dropped."""
        number = int(self._clock() * self.SLICES / self.WINDOW)
        current = self._slices.get(number)
        if current is None:
            self._slices = {
                slice_: counts for slice_, counts in self._slices.items() if slice_ > number - self.SLICES
            }
            current = self._slices[number] = [0, 0]
        return current

    def _sums(self) -> tuple[int, int]:
        """The calls and the retries that are not too old."""
        every = self._slices.values()
        return sum(counts[0] for counts in every), sum(counts[1] for counts in every)

    def _left(self) -> int:
        calls, retries = self._sums()
        return max(self._minimum, int(self._ratio * calls)) - retries


class Retries:
    """The retry policy of an agent, shared by its calls."""

    def __init__(self, config: RetryConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock

    @cached_property
    def budget(self) -> RetryBudget:
        """What bounds the share of retries among the calls."""
        return RetryBudget(self.config.budget_ratio, self.config.budget_minimum, clock=self._clock)

    @cached_property
    def _jitter(self) -> WaitStrategy:
        return wait_random(0, self.config.jitter_seconds)

    @cached_property
    def _backoff(self) -> WaitStrategy:
        config = self.config
        backoff = wait_exponential(
            multiplier=config.initial_seconds, exp_base=config.multiplier, max=config.max_seconds
        )
        return backoff + wait_random(0, config.jitter_seconds)

    @cached_property
    def _wait(self) -> WaitStrategy:
        """Made when something first fails, as most agents never need it."""
        config = self.config
        if config.wait is not None:
            return wait_as_told(_or_else(config.wait, self._backoff), self._jitter)
        return wait_as_told(self._backoff, self._jitter)

    def is_over(self, attempts: int) -> bool:
        """Whether ``attempts`` are all there may be."""
        return attempts >= self.config.max_attempts

    def wait(self, attempts: int, error: LoomError | None) -> float:
        """Seconds to wait after attempt number ``attempts`` failed with ``error``.

        ``None`` where nothing that a server said is to be kept to.
        """
        return self._wait(_state(attempts, error))

    def jitter(self, pause: float) -> float:
        """A random part of the tenth of a ``pause``, to part those who waited for the same moment."""
        return wait_random(0, min(self.config.jitter_seconds, pause / 10))(_state(1, None))


def _check_strategy(wait: object) -> None:
    """Raise `ConfigError` for what cannot be asked how long to wait."""
    if not callable(wait) or isinstance(wait, type):
        what = f"the class {wait.__name__}" if isinstance(wait, type) else type(wait).__name__
        raise ConfigError(
            f"wait must be a tenacity wait strategy, not {what}",
            field="wait",
            hint="Give an object, such as tenacity.wait_fixed(2).",
        )
    try:
        signature = inspect.signature(wait)
    except (TypeError, ValueError):
        return  # some built-in functions do not tell
    try:
        signature.bind(None)
    except TypeError as exc:
        raise ConfigError(
            f"wait must be a function of one argument, tenacity's state, that gives seconds: {exc}",
            field="wait",
        ) from None


def _or_else(theirs: WaitStrategy, usual: WaitStrategy) -> WaitStrategy:
    """The user's own strategy, and the usual one where it fails: no retry is to be lost by it."""

    def wait(state: RetryCallState) -> float:
        try:
            seconds: object = theirs(state)
        except Exception as exc:  # noqa: BLE001 - the user's own code
            problem = f"it raised {type(exc).__name__}: {exc}"
        else:
            if isinstance(seconds, (int, float)) and type(seconds) is not bool and seconds >= 0:
                return float(seconds)
            problem = f"it gave {seconds!r}, not seconds of at least 0"
        _log.warning("wait_strategy_failed", error=problem, used="the exponential wait")
        return usual(state)

    return wait


def _state(attempts: int, error: LoomError | None) -> RetryCallState:
    """What tenacity's strategies are asked with."""
    state = RetryCallState(retry_object=cast("Any", None), fn=None, args=(), kwargs={})
    state.attempt_number = attempts
    if error is not None:
        state.set_exception((type(error), error, error.__traceback__))
    return state
