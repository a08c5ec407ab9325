"""The way of one model call to a deployment: which one is asked, and when every policy lets it through."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loom_py.errors import (
    AgentClosedError,
    CircuitOpenError,
    DeadlineExceededError,
    FailedAttempt,
    LoomError,
    QueueFullError,
    QueueTimeoutError,
)
from loom_py.llm.estimates import estimate_tokens
from loom_py.resilience import billing, refusals, sharing
from loom_py.resilience.attempt import Attempt
from loom_py.resilience.events import CallQueued, FailedOver
from loom_py.resilience.lanes import Lane
from loom_py.resilience.pool import Choice, Member
from loom_py.resilience.steps import Asked, Policies, Sleep, Steps

__all__ = ["Admission"]


class Admission:
    """What one call has tried so far, how much time it has, and its way in.

    Its generators yield the steps that `loom_py.resilience.steps` lists and are sent what came of each.
    """

    __slots__ = ("_estimate", "_full", "_next", "_tried", "asked", "attempts", "began", "policies")

    def __init__(self, policies: Policies, asked: Asked) -> None:
        self.policies = policies
        self.asked = asked
        self.began = policies.clock.now()
        self.attempts: list[FailedAttempt] = []
        self._tried: list[str] = []
        self._full: list[str] = []
        self._estimate: int | None = None
        self._next: Choice | None = None

    # ── which deployment ─────────────────────────────────────────────────────────────────

    def _admitted(self, pause: float) -> Steps:
        """Wait for the leave of every policy; an attempt that holds it, and has begun."""
        policies, clock = self.policies, self.policies.clock
        waited = paused = 0.0  # the queue has a bound of its own: what was waited there is no pause
        while True:
            was_chosen, self._next = self._next, None
            choice = was_chosen or self._choose()
            if choice.member is None:
                raise self._none_left(choice)
            lane = policies.by_key[choice.member.key]
            if choice.preferred is not choice.member and not self.attempts:
                self._tell_of_detour(choice, choice.member)
            blocked = 0.0
            if policies.only is not None or was_chosen is not None or choice.wait > 0:
                blocked, _ = lane.blocked()
            if pause > 0 or blocked > 0:
                wait = self._pause(choice, lane, blocked, pause, paused)
                yield Sleep(wait, policies.closing)
                self._check_open()
                waited += wait
                paused += wait
                pause = 0.0
                continue
            attempt = Attempt(lane, None, may_restart=policies.restart_streams)
            before = clock.now()
            try:
                is_ready = yield from self._enter(attempt)
            except BaseException:
                self._abandon(attempt)
                raise
            now = clock.now()
            waited += now - before
            if is_ready:
                attempt.waited = round(waited, 3)
                self._full.clear()
                attempt.begin(now)
                return attempt
            self._abandon(attempt)

    def _pause(self, choice: Choice, lane: Lane, blocked: float, pause: float, paused: float) -> float:
        """How long to sleep, after ``paused`` seconds of it. Raises where that is too long."""
        policies, wait = self.policies, max(pause, blocked)
        if blocked > pause and policies.only is not None:
            self._refuse_open(lane)
        if blocked > pause and policies.retries is not None:
            # with jitter, or all who waited would go at the same moment
            wait = self._without_excess(wait + policies.retries.jitter(blocked), blocked, paused)
        self._check_wait(choice, lane, wait, blocked, paused)
        return wait

    def _choose(self, tried: Sequence[str] | None = None) -> Choice:
        policies, options = self.policies, self.asked.options
        if policies.only is not None and (options is None or options.residency is None):
            return policies.only
        return policies.pool.choose(
            policies.condition,
            session=self.asked.fields.get("session_id"),
            residency=None if options is None else options.residency,
            tried=self._tried if tried is None else tried,
        )

    def _tell_of_detour(self, choice: Choice, member: Member) -> None:
        """Say that calls go elsewhere than they would if all were well: once, not for each of them."""
        preferred, avoided = choice.preferred, self.policies.avoided
        is_detour = preferred.key != member.key and preferred.key in choice.reasons
        if is_detour and preferred.key not in avoided:
            avoided[preferred.key] = None
            self.policies.emit(FailedOver(preferred.name, member.name, choice.reasons[preferred.key]))

    def _has_room_elsewhere(self, lane: Lane) -> bool:
        """Whether another deployment, that was not found full, may be called now; then it is the next."""
        if self.policies.only is not None:
            return False
        self._full.append(lane.member.key)
        passed = (*self._tried, *self._full)
        choice = self._choose(passed)
        if choice.member is None or choice.wait > 0 or choice.member.key in passed:
            return False
        self._next = choice
        return True

    # ── the leave of every policy ────────────────────────────────────────────────────────

    def _enter(self, attempt: Attempt) -> Steps:
        """Ask limiter, budgets, shared state and breaker; whether all agree."""
        policies, lane = self.policies, attempt.lane
        left = self._check_deadline()
        began = 0.0 if policies.shared is None else policies.clock.now()
        if policies.budgets or lane.limiter is not None:
            attempt.output_limit = billing.output_limit(lane, self.asked.options)
        if lane.limiter is not None:
            wait = self._queue(attempt, left)
            if wait is None or (wait > 0 and not (yield from self._wait_in_queue(attempt, wait))):
                return False
        if policies.budgets:
            yield from billing.reserve(policies, self.asked, attempt)
        if policies.shared is not None and not (yield from self._enter_shared(attempt, began)):
            return False
        if lane.breaker is not None:
            try:
                attempt.permit = lane.breaker.enter()
            except CircuitOpenError as refusal:
                if policies.only is None:
                    return False
                raise self._opened(lane, refusal) from None
        left = self._check_deadline()  # whoever was asked may have taken their time
        attempt.options = self.asked.options
        if left is not None or policies.timeouts is not None:
            attempt.options = lane.timed(attempt.options, policies.timeouts, left)
        return True

    def _abandon(self, attempt: Attempt) -> None:
        """Give back all that an attempt holds that will not be sent."""
        attempt.abandon()
        sharing.leave_later(self.policies, attempt, release=True)

    def _queue(self, attempt: Attempt, left: float | None) -> float | None:
        """Seconds to wait for the rate limit, 0.0 for none; ``None`` where it is full, and another is not.

        ``left`` are the seconds until the deadline.
        """
        lane, options = attempt.lane, self.asked.options
        assert lane.limiter is not None
        priority = 0 if options is None or options.priority is None else options.priority
        try:
            attempt.ticket, wait = lane.limiter.start(self._tokens(attempt), priority=priority, timeout=left)
        except QueueFullError:
            if self._has_room_elsewhere(lane):
                return None
            raise
        return wait

    def _wait_in_queue(self, attempt: Attempt, wait: float) -> Steps:
        """Wait in line for the rate limit; whether the deployment may still be called then."""
        lane, ticket = attempt.lane, attempt.ticket
        assert lane.limiter is not None
        assert ticket is not None
        if not attempt.may_wait or self._has_room_elsewhere(lane):
            return False
        about, left = lane.limiter.stats().next_free_seconds, self._left()
        if left is not None and math.inf > about > left:
            raise QueueTimeoutError(
                f"the rate limit has no room for another {about:.1f} s, which is past the deadline",
                retry_after=round(about, 3),
                deployment=lane.provider.model,
            )
        about = round(min(about, wait), 3)
        self.policies.emit(CallQueued(lane.name, self._tokens(attempt), ticket.ahead, about))
        try:
            while wait > 0:
                yield Sleep(wait, ticket.signal)
                self._check_open()
                wait = ticket.wait()
        except QueueTimeoutError:
            self._check_deadline()  # if that is why it may wait no longer, that is to be said
            raise
        self._check_deadline()
        return lane.blocked()[0] <= 0

    def _tokens(self, attempt: Attempt) -> int:
        """About how many tokens the call counts against a quota."""
        if self._estimate is None:
            asked, count = self.asked, attempt.lane.count
            self._estimate = estimate_tokens(asked.messages, asked.tools, attempt.output_limit, count=count)
        return self._estimate

    def _enter_shared(self, attempt: Attempt, began: float) -> Steps:
        """Ask the state that all processes share; whether it agrees, or is away."""
        policies, lane = self.policies, attempt.lane

        def elsewhere() -> bool:
            """Whether another deployment may be called now; then it is the next."""
            if policies.only is not None:
                return False
            choice = self._choose()
            is_other = choice.member is not None and choice.member.key != lane.member.key
            self._next = choice if is_other and choice.wait <= 0 else None
            return self._next is not None

        tokens = self._tokens(attempt) if lane.limiter is not None else 0
        refusal = yield from sharing.enter(policies, self.asked, attempt, tokens, began, elsewhere)
        if refusal is None:
            return True
        if policies.only is not None and isinstance(refusal, CircuitOpenError):
            raise self._opened(lane, refusal)
        return False

    # ── time ─────────────────────────────────────────────────────────────────────────────

    def _check_open(self) -> None:
        if self.policies.is_closing:
            raise AgentClosedError("the agent was closed while the call waited", hint="Build a new one.")

    def _since(self, attempt: Attempt) -> float:
        return self.policies.clock.now() - attempt.started

    def _left(self) -> float | None:
        """Seconds until the deadline."""
        if self.asked.deadline is None:
            return None
        left = self.asked.deadline - self.policies.clock.now()
        return max(0.0, left)

    def _check_deadline(self) -> float | None:
        """Seconds until the deadline. Raises `DeadlineExceededError` where there are none."""
        left = self._left()
        if left == 0.0:
            late = DeadlineExceededError(
                "the time for the whole run is over",
                hint="Raise with_timeouts(run=…), or ask for less at once.",
            )
            raise late from (self.attempts[-1].error if self.attempts else None)
        return left

    def _check_wait(self, choice: Choice, lane: Lane, wait: float, blocked: float, waited: float) -> None:
        """Raise at once what would be raised after a wait that is too long, or past the deadline."""
        left = math.inf if self.asked.deadline is None else self.asked.deadline - self.policies.clock.now()
        most = self._most_wait() - waited
        if wait <= min(most, left):
            return
        why = "would go past the deadline" if left < most else "is longer than a call may wait"
        reason = f"a wait of {wait:.1f} s {why}"
        if self.attempts:
            given_up = self._given_up(reason)
            if given_up.retry_after is None:
                given_up.retry_after = round(wait, 3)
            raise given_up
        if self.policies.only is None:
            raise self._none_left(choice, reason)
        raise refusals.throttled(lane.provider.model, blocked, reason)

    def _without_excess(self, wait: float, least: float, waited: float) -> float:
        """``wait``, less of its random part beyond ``least`` where that alone would make it too long."""
        return max(least, min(wait, self._most_wait() - waited))

    def _most_wait(self) -> float:
        """Seconds that may be waited before one attempt; none where nothing is to be tried again."""
        retries = self.policies.retries
        if retries is None or retries.config.max_attempts == 1:
            return 0.0
        return retries.config.max_wait_seconds

    # ── refusals ─────────────────────────────────────────────────────────────────────────

    def _refuse_open(self, lane: Lane) -> None:
        """An open breaker of the only deployment: who called should hear of it at once."""
        if lane.breaker is None or lane.breaker.is_available:
            return
        try:
            lane.breaker.enter().neutral()
        except CircuitOpenError as refusal:
            raise self._opened(lane, refusal) from None

    def _opened(self, lane: Lane, refusal: CircuitOpenError) -> LoomError:
        """What the call fails with where the only deployment's breaker refuses."""
        refusal.deployment = lane.provider.model
        return self._given_up("the circuit breaker has opened", refusal)

    def _none_left(self, choice: Choice, reason: str = "") -> LoomError:
        refusal = refusals.none_left(choice, len(self.policies.lanes), reason)
        return self._given_up("no deployment can be called", refusal)

    def _given_up(self, reason: str, refusal: LoomError | None = None) -> LoomError:
        return refusals.given_up(self.attempts, reason, refusal)
