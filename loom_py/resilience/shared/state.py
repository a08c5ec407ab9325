"""The state that processes share, as each of them sees it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from loom_py._log import get_logger
from loom_py.errors import ConfigError
from loom_py.resilience.breaker import BreakerConfig, BreakerStats
from loom_py.resilience.events import Emit, PolicyEvent, SharedStateLost, SharedStateRestored, log_event
from loom_py.resilience.shared.requests import (
    LARGEST,
    BudgetSums,
    EnterReply,
    EnterRequest,
    LeaveReport,
    SharedHealth,
    Unit,
    circuit_changes,
    config_fields,
    decode_reply,
    decode_stats,
    decode_sums,
    encode_report,
    encode_request,
)
from loom_py.resilience.shared.scripts import Scripts, Unreachable, check_prefix
from loom_py.resilience.shared.worker import Worker

__all__ = ["SharedState"]

T = TypeVar("T")

RETRY_SECONDS = 1.0
"""How often Redis is looked for while it is away. No call waits for that."""

THREADS = 4
"""Threads in which async code talks to Redis."""

MAX_LATE = 100_000
"""Reports of attempts without a reservation that are kept while Redis is away."""

_log = get_logger()
_states: weakref.WeakSet[SharedState] = weakref.WeakSet()


class SharedState:
    """Breakers, throttling, rate limits and budgets that all processes with this Redis share.

    Ask `enter` before an attempt and tell `leave` after it: one round trip each, decided atomically in
    Redis, by Redis' clock. While Redis is away `enter` answers ``None`` at once, a thread looks for it
    every second, and reports are kept for it. A process that says nothing for ``lease`` seconds is
    taken for dead: its probes and tokens are free again, its reserved money counts as spent.

    Redis need not be up when this is made. Safe for threads, tasks of any event loop, and forks.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; it may hold user and password.
        prefix: what all keys begin with; whoever has another shares nothing.
        timeout: seconds that one call may wait for Redis before it is taken for away.
        heartbeat: seconds between signs of life.
        lease: seconds without one until a process is taken for dead; at least two heartbeats.
        emit: is told of every change.
        clock: seconds, for how long Redis has been away.
        server_time: seconds, for the scripts instead of Redis' clock; for tests.
        client: further arguments of ``redis.Redis.from_url``, such as certificates.

    Raises `ConfigError`, and `MissingDependencyError` without the extra ``redis``.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "loom_py",
        timeout: float = 0.25,
        heartbeat: float = 2.0,
        lease: float = 10.0,
        emit: Emit = log_event,
        clock: Callable[[], float] = time.monotonic,
        server_time: Callable[[], float] | None = None,
        **client: Any,
    ) -> None:
        check_prefix(prefix)
        for name, seconds in (("timeout", timeout), ("heartbeat", heartbeat), ("lease", lease)):
            if type(seconds) not in (int, float) or not 0 < seconds < 1e6:
                raise ConfigError(f"{name} must be seconds above 0, not {seconds!r}", field=name)
        if lease < 2 * heartbeat:
            raise ConfigError("lease must be at least two heartbeats", field="lease")
        self.prefix = prefix
        self._scripts = Scripts(url, prefix=prefix, timeout=timeout, client=client)
        self._timeout = timeout
        self._heartbeat = heartbeat
        self._lease = lease
        self._emit = emit
        self._clock = clock
        self._server_time = server_time
        self._processes = 1
        self._closed = False
        self._begin()
        _states.add(self)

    def _begin(self) -> None:
        """What belongs to this process alone; a forked child has none of its parent's."""
        self._process = f"{socket.gethostname()[:60]}/{os.getpid()}/{uuid.uuid4().hex[:12]}"
        self._lock = threading.Lock()
        self._late: deque[LeaveReport] = deque()
        self._worker: Worker | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._away_since: float | None = None
        self._next_beat = 0.0
        self._next_try = 0.0
        self._dropped = 0

    def __repr__(self) -> str:
        state = "connected" if self._away_since is None else "away"
        return f"SharedState({self._scripts.address}, prefix={self.prefix!r}, {state})"

    # ── before an attempt ────────────────────────────────────────────────────────────────

    def enter(self, request: EnterRequest) -> EnterReply | None:
        """Leave to send, or why not. ``None`` while Redis is away: then the local policies decide."""
        if self._away_since is not None or self._closed:
            return None
        try:
            reply = self._ask("enter", encode_request(request))
        except BaseException:  # it may have been granted, and nobody will use it
            self._withdraw(request)
            raise
        if reply is None:
            self._withdraw(request)
            return None
        return decode_reply(reply)

    async def aenter(self, request: EnterRequest) -> EnterReply | None:
        """Leave to send, async."""
        if self._away_since is not None or self._closed:
            return None
        future = self._in_thread(lambda: self.enter(request))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(lambda _: self._withdraw(request))
            raise

    def _withdraw(self, request: EnterRequest) -> None:
        self.leave_later(LeaveReport(request.permit, request.deployment, release=True))

    # ── after it ─────────────────────────────────────────────────────────────────────────

    def leave(self, report: LeaveReport) -> None:
        """Tell how it went. While Redis is away the report is kept for it."""
        if self._away_since is not None:
            self.leave_later(report)
            return
        try:
            reply = self._ask("leave", encode_report(report))
        except BaseException:  # said twice, it counts once
            self.leave_later(report)
            raise
        if reply is None:
            self.leave_later(report)

    async def aleave(self, report: LeaveReport) -> None:
        """Tell how it went, async."""
        if self._away_since is not None:
            self.leave_later(report)
            return
        if self._closed:
            await asyncio.to_thread(self.leave, report)
            return
        future = self._in_thread(lambda: self.leave(report))
        try:
            await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future.cancelled():
                self.leave_later(report)
            raise

    def leave_later(self, report: LeaveReport) -> None:
        """Tell how it went, without waiting: from where nothing may block."""
        if not report.entered and len(self._late) >= MAX_LATE:
            self._dropped += 1
            return
        self._late.append(report)
        if not self._closed:
            self._started().wake()

    # ── by hand ──────────────────────────────────────────────────────────────────────────

    def control(
        self, deployment: str, command: Literal["open", "close", "reset"], *, reason: str = "forced open"
    ) -> bool:
        """Force the breaker of a deployment open, or close it, everywhere; whether Redis was reached.

        ``"reset"`` ends its throttling too.
        """
        return self._command(command=command, deployment=deployment, reason=reason) is not None

    async def acontrol(
        self, deployment: str, command: Literal["open", "close", "reset"], *, reason: str = "forced open"
    ) -> bool:
        """Force a breaker, async."""
        return await self._awaited(lambda: self.control(deployment, command, reason=reason))

    def extend(self, account: str, unit: Unit, amount: int) -> BudgetSums | None:
        """Allow an account so much more, for good; its sums after it. ``None`` while Redis is away.

        Raises `ValueError` for an amount that is negative.
        """
        if not 0 <= amount <= LARGEST:
            raise ValueError(f"a budget is extended by a whole amount of at least 0, not by {amount!r}")
        return self._sums(command="extend", account=account, unit=unit, amount=str(amount))

    async def aextend(self, account: str, unit: Unit, amount: int) -> BudgetSums | None:
        """Allow an account so much more, async."""
        return await self._awaited(lambda: self.extend(account, unit, amount))

    def balance(self, account: str, unit: Unit) -> BudgetSums | None:
        """The sums of an account; ``limit`` is what was approved on top. ``None`` while Redis is away."""
        return self._sums(command="balance", account=account, unit=unit)

    async def abalance(self, account: str, unit: Unit) -> BudgetSums | None:
        """The sums of an account, async."""
        return await self._awaited(lambda: self.balance(account, unit))

    def stats(self, deployment: str, config: BreakerConfig | None = None) -> BreakerStats | None:
        """The breaker of a deployment; ``config`` is what it is used with. ``None`` while Redis is away."""
        asked = config_fields(config or BreakerConfig())
        reply = self._command(command="look", deployment=deployment, breaker=asked)
        return None if reply is None else decode_stats(deployment, reply)

    def _sums(self, **asked: Any) -> BudgetSums | None:
        reply = self._command(**asked)
        return None if reply is None else decode_sums(reply["budget"])

    def _command(self, **asked: Any) -> dict[str, Any] | None:
        if self._away_since is not None or self._closed:
            return None
        return self._ask("control", asked)

    # ── how it stands ────────────────────────────────────────────────────────────────────

    def share(self) -> float:
        """What this process may use of every limit while Redis is away: 1 / the processes last seen."""
        return 1 / self._processes

    def health(self) -> SharedHealth:
        """How it stands now, as far as this process knows."""
        away = self._away_since
        return SharedHealth(away is None, self._processes, 0.0 if away is None else self._clock() - away)

    def close(self) -> None:
        """Send what is still to be told, say good-bye and close the connections."""
        with self._lock:
            was_closed, self._closed = self._closed, True
            worker, self._worker = self._worker, None
            executor, self._executor = self._executor, None
        if was_closed:
            return
        if executor is not None:
            executor.shutdown(wait=True)
        if worker is not None:
            worker.stop(2 * self._timeout)
        if worker is not None and self._away_since is None and self._tell_late():
            self._ask("beat", {"leaving": True})
        self._scripts.close()

    async def aclose(self) -> None:
        """Close, async."""
        await asyncio.to_thread(self.close)

    # ── talking to Redis ─────────────────────────────────────────────────────────────────

    def _ask(self, script: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """Run a script and announce what it changed; ``None`` if Redis is away."""
        if not self._closed:
            self._started()
        try:
            reply = self._run(script, asked)
        except Unreachable as exc:
            self._lose(str(exc))
            return None
        for change in circuit_changes(reply):
            self._emit(change)
        return reply

    def _run(self, script: str, asked: dict[str, Any]) -> dict[str, Any]:
        asked = {**asked, "process": self._process, "lease": self._lease}
        if self._server_time is not None:
            asked["now"] = self._server_time()
        reply = self._scripts.run(script, asked)
        self._processes = max(1, reply["processes"])
        return reply

    def _lose(self, reason: str) -> None:
        with self._lock:
            if self._away_since is not None:
                return
            self._away_since = self._clock()
            self._next_try = time.monotonic() + RETRY_SECONDS
        self._emit(SharedStateLost(reason, self.share()))

    def _in_thread(self, function: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="loom-py-shared")
            return self._executor.submit(function)

    async def _awaited(self, function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._in_thread(function))

    # ── the thread ───────────────────────────────────────────────────────────────────────

    def _started(self) -> Worker:
        worker = self._worker
        if worker is None:
            with self._lock:
                if self._worker is None:
                    self._worker = Worker(self)
                worker = self._worker
        return worker

    def _work(self) -> float:
        """Do what is due; in how many seconds more is. Called by the worker alone."""
        try:
            now = time.monotonic()
            if self._away_since is not None:
                if now >= self._next_try:
                    self._next_try = now + RETRY_SECONDS
                    self._look_for()
                return max(0.0, self._next_try - time.monotonic())
            if self._tell_late() and now >= self._next_beat:
                self._next_beat = now + self._heartbeat
                self._ask("beat", {})
            return max(0.0, self._next_due() - time.monotonic())
        except Exception as exc:  # noqa: BLE001 - the thread must live on, whatever a listener raises
            _log.warning("shared_state_worker", error=f"{type(exc).__name__}: {exc}")
            return RETRY_SECONDS

    def _next_due(self) -> float:
        return self._next_beat if self._away_since is None else self._next_try

    def _look_for(self) -> None:
        """Ask whether Redis is back; it is once everything that was kept for it has been told."""
        try:
            self._run("beat", {})
            # What Redis refuses just after it took a heartbeat, it will never take.
            changes = self._send_late(drop_refused=True)
        except Unreachable:
            return
        with self._lock:
            since, self._away_since = self._away_since, None
            dropped, self._dropped = self._dropped, 0
        self._next_beat = time.monotonic() + self._heartbeat
        if dropped:
            _log.warning("shared_state_reports_dropped", reports=dropped, kept=MAX_LATE)
        for event in changes:
            self._emit(event)
        if since is not None:
            self._emit(SharedStateRestored(round(self._clock() - since, 3)))

    def _tell_late(self) -> bool:
        """Send the reports that nobody waited for; whether Redis is there."""
        try:
            for event in self._send_late():
                self._emit(event)
        except Unreachable as exc:
            self._lose(str(exc))
        return self._away_since is None

    def _send_late(self, *, drop_refused: bool = False) -> list[PolicyEvent]:
        changes: list[PolicyEvent] = []
        while self._late:
            try:
                changes += circuit_changes(self._run("leave", encode_report(self._late[0])))
            except Unreachable as exc:
                if not (drop_refused and exc.is_refusal):
                    raise
                _log.warning("shared_state_report_refused", error=str(exc))
            self._late.popleft()
        return changes


def _begin_again() -> None:
    for state in tuple(_states):
        state._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)
