"""One breaker: its states, and the leave it gives to each call."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from loom_py.errors import CircuitOpenError
from loom_py.resilience.breaker.config import BreakerConfig, BreakerStats, Cause, State
from loom_py.resilience.breaker.window import Window
from loom_py.resilience.events import CircuitChanged, Emit, log_event

__all__ = ["MAX_SECONDS_OUT", "PROBE_SECONDS", "CircuitBreaker", "Permit"]

MAX_SECONDS_OUT = 3600.0
"""The most that failed probes make of the time for which something is taken out."""

PROBE_SECONDS = 0.05
"""What a caller is told to wait while probes are under way. Nobody knows when they end: ask again soon."""

SETTLED = -1
"""The generation of a permit whose outcome is known."""


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


class CircuitBreaker:
    """One breaker, for one deployment or one tool. Safe for threads and tasks.

    ``emit`` is told of every change of state, after it and outside the breaker's lock: it may ask
    the breaker. ``clock`` gives seconds and never runs backwards.
    """

    __slots__ = (
        "_cause",
        "_changes",
        "_clock",
        "_emit",
        "_failures",
        "_generation",
        "_lock",
        "_open_seconds",
        "_opens",
        "_probes",
        "_reason",
        "_state",
        "_successes",
        "_until",
        "_window",
        "config",
        "name",
    )

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
        self._window = Window(self.config.window_seconds, clock())
        self._changes: list[CircuitChanged] = []  # that nobody was told of yet

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
        self._window = Window(self.config.window_seconds, self._clock())
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
                change = self._changes.pop(0)
            except IndexError:
                return
            self._emit(change)


def _check_seconds(seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"something is taken out for a finite number of seconds above 0, not {seconds!r}")
