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

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from loom_py.errors import CircuitOpenError, ConfigError
from loom_py.resilience.events import CircuitChanged, Emit, log_event

__all__ = ["BreakerConfig", "BreakerStats", "CircuitBreaker", "CircuitBreakers", "Permit"]

State: TypeAlias = Literal["closed", "open", "half-open"]
Cause: TypeAlias = Literal["failures", "taken out", "forced"]

MAX_SECONDS_OUT = 3600.0
"""The most that failed probes make of the time for which something is taken out."""

PROBE_SECONDS = 0.05
"""What a caller is told to wait while probes are under way. Nobody knows when they end: ask again soon."""

BUCKETS = 20
"""Parts of the sliding window. A call is forgotten with its part: up to 1/20 before its time."""

SETTLED = -1
"""The generation of a permit whose outcome is known."""


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a breaker opens and closes. Times are in seconds.

    ``failure_threshold`` failures in a row open it, or a share of ``failure_rate`` (above 0, at most
    1; ``None`` for no such rule) of the calls in the last ``window_seconds``, if those were at least
    ``minimum_calls``. It stays open for ``open_seconds``; each failed probe doubles that up to
    ``max_open_seconds``. In half-open at most ``half_open_probes`` calls are under way at a time, and
    ``success_threshold`` successes close it. Raises `ConfigError` for values that make no sense.
    """

    failure_threshold: int = 5
    success_threshold: int = 2
    open_seconds: float = 30.0
    max_open_seconds: float = 60.0
    failure_rate: float | None = 0.5
    window_seconds: float = 60.0
    minimum_calls: int = 20
    half_open_probes: int = 1

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "success_threshold", "minimum_calls", "half_open_probes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}", field=name)
        for name in ("open_seconds", "max_open_seconds", "window_seconds"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not value > 0:
                raise ConfigError(f"{name} must be a number of seconds above 0, not {value!r}", field=name)
        if not math.isfinite(self.window_seconds):
            raise ConfigError("window_seconds must be finite", field="window_seconds")
        rate = self.failure_rate
        if rate is not None and (type(rate) not in (int, float) or not 0 < rate <= 1):
            raise ConfigError(
                f"failure_rate must be a share above 0 and at most 1, or None, not {rate!r}",
                field="failure_rate",
            )


@dataclass(frozen=True, slots=True)
class BreakerStats:
    """A breaker's state at one moment.

    Attributes:
        name: what it guards.
        state: ``"open"`` also when the open time is over and nobody has called since.
        failures: failures in a row, failed probes included.
        successes: successful probes since it became half-open.
        times_opened: how often it opened since it was last closed.
        retry_after: seconds until a call is let through, 0.0 if one would be now. ``None`` where
            there is no such time: it is closed, or forced open.
        reason: why it is not closed.
        forced: a person has forced it open, and only `CircuitBreaker.force_close` or ``reset`` ends it.
        failure_rate: the share of the window's calls that failed; ``None`` if there were none.
        calls: calls in the window. Only those of the closed state are counted.
    """

    name: str
    state: State
    failures: int
    successes: int
    times_opened: int
    retry_after: float | None
    reason: str | None = None
    forced: bool = False
    failure_rate: float | None = None
    calls: int = 0


class Permit:
    """Leave to make one call. One of its four verbs is to be called when the call is over.

    Only the first one counts. ``is_probe`` says that the call tries whether all is well again.
    """

    __slots__ = ("_breaker", "_generation", "is_probe")

    def __init__(self, breaker: CircuitBreaker, generation: int, is_probe: bool) -> None:
        self._breaker = breaker
        self._generation = generation
        self.is_probe = is_probe

    def success(self) -> bool:
        """The call went well. True if it thereby brought back what was taken out."""
        return self._breaker._succeed(self)

    def failure(self) -> None:
        """The call failed by the fault of what was called."""
        self._breaker._fail(self)

    def neutral(self) -> None:
        """The call says nothing of what was called: cancelled, or the caller's own fault."""
        self._breaker._let_go(self)

    def take_out(self, seconds: float, reason: str) -> bool:
        """The call failed in a way that waiting does not mend: see `CircuitBreaker.take_out`.

        False if nothing changed, as for a call that was begun before the state changed.
        """
        return self._breaker._take_out_by(self, seconds, reason)


class _Window:
    """Counts of the calls of the last ``seconds``, in `BUCKETS` parts, so that memory is bounded."""

    __slots__ = ("_older", "_past", "_slot", "_start", "_until", "_width", "calls", "failures")

    def __init__(self, seconds: float, now: float) -> None:
        self.calls = 0
        self.failures = 0
        self._width = seconds / BUCKETS
        self._start = now
        self._slot = 0
        self._until = now + self._width
        self._older = (0, 0)  # of calls and failures, those before the present part
        self._past: deque[tuple[int, int, int]] = deque()

    def add(self, now: float, failed: bool) -> None:
        if now >= self._until:
            self.move_to(now)
        self.calls += 1
        if failed:
            self.failures += 1

    def move_to(self, now: float) -> None:
        """Forget what is too old."""
        if now < self._until:
            return
        calls, failures = self._older
        if self.calls > calls:
            self._past.append((self._slot, self.calls - calls, self.failures - failures))
        # By at least one, whatever rounding does to the quotient.
        self._slot = max(self._slot + 1, int((now - self._start) / self._width))
        self._until = self._start + (self._slot + 1) * self._width
        while self._past and self._past[0][0] <= self._slot - BUCKETS:
            _, calls, failures = self._past.popleft()
            self.calls -= calls
            self.failures -= failures
        self._older = (self.calls, self.failures)


class CircuitBreaker:
    """One breaker, for one deployment or one tool. Safe for threads and tasks.

    ``emit`` is told of every change of state, after it and outside the breaker's lock: it may ask
    the breaker. ``clock`` gives seconds and never runs backwards.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        emit: Emit = log_event,
    ) -> None:
        self.name = name
        self.config = config or BreakerConfig()
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._cause: Cause | None = None
        self._reason: str | None = None
        self._generation = 0
        self._failures = 0
        self._successes = 0
        self._opens = 0
        self._open_seconds = float(self.config.open_seconds)
        self._until = 0.0
        self._probes = 0
        self._window = _Window(self.config.window_seconds, clock())
        self._changes: deque[CircuitChanged] = deque()

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.name!r}, state={self.state!r})"

    @property
    def state(self) -> State:
        """``"closed"``, ``"open"`` or ``"half-open"``; an open one stays so until it is asked."""
        return self._state

    @property
    def is_available(self) -> bool:
        """Whether a call would be let through now."""
        if self._state == "closed":
            return True
        with self._lock:
            return self._wait() == 0

    def stats(self) -> BreakerStats:
        """The state at this moment."""
        with self._lock:
            window = self._window
            window.move_to(self._clock())
            return BreakerStats(
                name=self.name,
                state=self._state,
                failures=self._failures,
                successes=self._successes,
                times_opened=self._opens,
                retry_after=None if self._state == "closed" else self._wait(),
                reason=self._reason,
                forced=self._cause == "forced",
                failure_rate=window.failures / window.calls if window.calls else None,
                calls=window.calls,
            )

    def open_time(self) -> float:
        """Seconds the breaker was last opened for, or will be if it is closed; infinite if forced."""
        return self._open_seconds

    # ── before a call ────────────────────────────────────────────────────────────────────

    def enter(self) -> Permit:
        """Leave to call. Raises `CircuitOpenError` with ``retry_after`` while the breaker refuses."""
        # Without the lock, as almost every call comes by here. The generation is read first and
        # written last: a change in between leaves a permit of an earlier generation, never of a later.
        generation = self._generation
        if self._state == "closed":
            return Permit(self, generation, False)
        return self._enter_as_probe()

    def _enter_as_probe(self) -> Permit:
        with self._lock:
            wait = self._wait()
            if wait != 0:
                raise self._refusal(wait)
            if self._state == "open":
                self._change("half-open", self._cause)
            is_probe = self._state == "half-open"
            if is_probe:
                self._probes += 1
            permit = Permit(self, self._generation, is_probe)
        try:
            self._announce()
        except BaseException:  # a log that fails must not keep the probe's place
            permit.neutral()
            raise
        return permit

    def _wait(self) -> float | None:
        """Seconds until a call is let through, 0 for now; ``None`` if no time ends it."""
        if self._state == "closed":
            return 0.0
        if self._cause == "forced":
            return None
        if self._state == "open":
            return max(0.0, self._until - self._clock())
        places = 1 if self._cause == "taken out" else self.config.half_open_probes
        return 0.0 if self._probes < places else PROBE_SECONDS

    def _refusal(self, wait: float | None) -> CircuitOpenError:
        about = f"the circuit breaker of {self.name} is {self._state}"
        if wait is None:
            return CircuitOpenError(
                f"{about}: {self._reason}; it stays so until it is closed by hand",
                retryable=False,
                hint="Call force_close() or reset() on the breaker, or call something else.",
            )
        hint = "Wait, or call something else meanwhile."
        if self._cause == "taken out":
            again = f"tried again in {math.ceil(wait)} s" if self._state == "open" else "being tried again"
            about = f"{about}: taken out ({self._reason}); it is {again}"
            hint = "Mend the cause, or call something else meanwhile."
        elif self._state == "open":
            about = f"{about} after {self._reason}"
        else:
            about = f"{about} after {self._reason}: as many probes as it allows are under way"
        # Rounded up: whoever waits that long must not come too early.
        return CircuitOpenError(about, retry_after=math.ceil(wait * 1000) / 1000, hint=hint)

    # ── after a call ─────────────────────────────────────────────────────────────────────

    def _succeed(self, permit: Permit) -> bool:
        restored = False
        with self._lock:
            if permit._generation != self._generation:
                return False  # settled already, or begun before the state changed: of another time
            permit._generation = SETTLED
            if self._state == "closed":
                self._failures = 0
                self._window.add(self._clock(), False)
                if self._window.failures:
                    self._check_rate()
            else:
                self._probes -= 1
                self._successes += 1
                restored = self._cause == "taken out"
                if restored or self._successes >= self.config.success_threshold:
                    self._close()
        if self._changes:
            self._announce()
        return restored

    def _fail(self, permit: Permit) -> None:
        with self._lock:
            if permit._generation != self._generation:
                return
            permit._generation = SETTLED
            self._failures += 1
            if self._cause == "taken out":
                self._open("taken out", self._doubled_out(), self._reason or "")
            elif self._state == "half-open":
                self._trip("a failed probe")
            else:
                self._window.add(self._clock(), True)
                if self._failures >= self.config.failure_threshold:
                    self._trip("1 failure" if self._failures == 1 else f"{self._failures} failures in a row")
                else:
                    self._check_rate()
        if self._changes:
            self._announce()

    def _let_go(self, permit: Permit) -> None:
        with self._lock:
            if permit._generation != self._generation:
                return
            permit._generation = SETTLED
            if self._state == "half-open":
                self._probes -= 1

    def _take_out_by(self, permit: Permit, seconds: float, reason: str) -> bool:
        _check_seconds(seconds)
        with self._lock:
            if permit._generation != self._generation:
                return False
            permit._generation = SETTLED
            taken = self._take_out(seconds, reason)
        self._announce()
        return taken

    def _check_rate(self) -> None:
        """Open if too many of the calls in the window have failed."""
        calls, failures, config = self._window.calls, self._window.failures, self.config
        if config.failure_rate is None or calls < config.minimum_calls:
            return
        if failures / calls >= config.failure_rate:
            self._trip(f"{failures} of {calls} calls within {config.window_seconds:g} s failed")

    # ── by hand ──────────────────────────────────────────────────────────────────────────

    def take_out(self, seconds: float, reason: str) -> bool:
        """Open for ``seconds`` for a cause that waiting does not mend, such as a wrong key.

        When the time is over one probe is let through. If it succeeds the breaker closes at once; if it
        fails, or takes out again, the time doubles, up to an hour or ``seconds`` if that is more. Said
        again meanwhile, the time may become longer, never shorter. A breaker that is forced open stays
        so. Returns whether the breaker was taken out now; False if it was already. Raises `ValueError`
        for seconds that are no finite number above 0.
        """
        _check_seconds(seconds)
        with self._lock:
            taken = self._take_out(seconds, reason)
        self._announce()
        return taken

    def force_open(self, reason: str = "forced open") -> None:
        """Refuse every call until `force_close` or `reset`; ``reason`` is told to whoever calls."""
        with self._lock:
            self._open("forced", math.inf, reason)
        self._announce()

    def force_close(self) -> None:
        """Close the breaker, whatever its state, and let it count anew."""
        with self._lock:
            self._close()
        self._announce()

    def reset(self) -> None:
        """Close the breaker and forget its history."""
        self.force_close()

    # ── the states, under the lock ───────────────────────────────────────────────────────

    def _take_out(self, seconds: float, reason: str) -> bool:
        if self._cause == "forced":
            return False
        if self._cause == "taken out" and self._state == "open":
            self._until = max(self._until, self._clock() + seconds)
            self._open_seconds = max(self._open_seconds, seconds)
            self._reason = reason
            return False
        if self._cause == "taken out":
            seconds = min(max(seconds, 2 * self._open_seconds), max(seconds, MAX_SECONDS_OUT))
        self._open("taken out", seconds, reason)
        return True

    def _doubled_out(self) -> float:
        return min(2 * self._open_seconds, max(self._open_seconds, MAX_SECONDS_OUT))

    def _trip(self, reason: str) -> None:
        config = self.config
        doubled = config.open_seconds * 2.0 ** min(self._opens, 60)
        self._open("failures", min(doubled, max(config.max_open_seconds, config.open_seconds)), reason)

    def _open(self, cause: Cause, seconds: float, reason: str) -> None:
        if cause != "forced":
            self._opens += 1
        self._open_seconds = float(seconds)
        self._until = self._clock() + seconds
        self._reason = reason
        self._change("open", cause)

    def _close(self) -> None:
        self._failures = self._opens = 0
        self._open_seconds = float(self.config.open_seconds)
        self._reason = None
        self._window = _Window(self.config.window_seconds, self._clock())
        self._change("closed", None)

    def _change(self, state: State, cause: Cause | None) -> None:
        before, changed = self._state, (self._state, self._cause) != (state, cause)
        self._state = state
        self._cause = cause
        self._successes = self._probes = 0
        self._generation += 1  # last: see `enter`
        if changed:
            lasts = state == "open" and math.isfinite(self._open_seconds)
            self._changes.append(
                CircuitChanged(
                    breaker=self.name,
                    before=before,
                    after=state,
                    failures=self._failures,
                    open_seconds=self._open_seconds if lasts else None,
                    reason=self._reason,
                )
            )

    def _announce(self) -> None:
        """Tell what changed. Not under the lock: whoever handles the event may ask the breaker."""
        while True:
            try:
                change = self._changes.popleft()
            except IndexError:
                return
            self._emit(change)


def _check_seconds(seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"something is taken out for a finite number of seconds above 0, not {seconds!r}")


class CircuitBreakers(Mapping[str, CircuitBreaker]):
    """Breakers by name, each made when it is first needed. As a guard it serves the tools.

    As a mapping it holds those that were needed so far; ``breakers[name]`` makes a new one, ``get``
    and ``in`` do not.
    """

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
