"""One model call on its way through the policies: a generator that decides, and does nothing itself.

It yields what it wants done (`Send`, `Sleep`, `Do`, `Approve`, `Enter`, `Leave`) and is sent the outcome, or
has the exception thrown in. The gateway's four verbs are thin drivers of it, so that no policy is written
twice: retries, failover, queueing, budgets and shared state are decided here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

from loom_py.errors import (
    AgentClosedError,
    CircuitOpenError,
    DeadlineExceededError,
    FailedAttempt,
    LoomError,
    NoDeploymentError,
    QueueFullError,
    QueueTimeoutError,
    RateLimitError,
    RequestTimeoutError,
    RetriesExhausted,
    StreamInterruptedError,
)
from loom_py.llm.costs import Cost
from loom_py.llm.estimates import estimate_tokens
from loom_py.messages import Response, TokenUsage
from loom_py.options import ChatOptions
from loom_py.resilience import billing, sharing
from loom_py.resilience.attempt import Attempt, Outcome, wants_attention
from loom_py.resilience.events import (
    CallQueued,
    DeploymentRestored,
    DeploymentTakenOut,
    DeploymentThrottled,
    FailedOver,
    HedgeStarted,
    HedgeWon,
    QuotaWarning,
    RetryScheduled,
)
from loom_py.resilience.lanes import Lane
from loom_py.resilience.pool import Choice, Member
from loom_py.resilience.steps import Asked, Leave, Policies, Send, Sleep, Step, Steps
from loom_py.resilience.timeouts import Timeouts

__all__ = ["ModelCall"]


class ModelCall:
    """One model call. Drive it as `AgentRun` is driven: `begin`, then `send` or `throw`, until ``None``."""

    __slots__ = (
        "_cost",
        "_estimate",
        "_full",
        "_next",
        "_steps",
        "_tried",
        "_usage",
        "asked",
        "attempts",
        "began",
        "policies",
        "response",
    )

    def __init__(self, policies: Policies, asked: Asked) -> None:
        self.policies = policies
        self.asked = asked
        self.began = policies.clock.now()
        self.attempts: list[FailedAttempt] = []
        self.response: Response | None = None
        self._tried: list[str] = []
        self._full: list[str] = []
        self._usage = TokenUsage()
        self._cost: Decimal | None = Decimal(0)
        self._estimate: int | None = None
        self._next: Choice | None = None
        self._steps = self._run()

    def begin(self) -> Step | None:
        """The first step."""
        return self.send(None)

    def send(self, outcome: Any) -> Step | None:
        """The next step, given what came of the last; ``None`` once there is a response."""
        try:
            return self._steps.send(outcome)
        except StopIteration as stop:
            self.response = stop.value
            return None

    def throw(self, exc: BaseException) -> Step | None:
        """The next step after the last one failed. Raises what the call fails with, if it is over."""
        try:
            return self._steps.throw(exc)
        except StopIteration as stop:
            self.response = stop.value
            return None

    @property
    def final(self) -> Response:
        """The response, now that the call is over."""
        assert self.response is not None
        return self.response

    # ── from attempt to attempt ──────────────────────────────────────────────────────────

    def _run(self) -> Steps:
        try:
            return (yield from self._tries())
        except LoomError as error:
            if not self.attempts or error is not self.attempts[-1].error:
                self.policies.call_log.refused(error, self.asked.fields)
            if self._usage.total:
                error.tokens_used, error.cost_usd = self._usage, self._cost
            raise

    def _tries(self) -> Steps:
        policies = self.policies
        if policies.retries is not None:
            policies.retries.budget.call()
        pause = 0.0
        while True:
            attempt: Attempt = yield from self._admitted(pause)
            send = Send(attempt, policies.hedge_after)
            attempt.begin(policies.clock.now())
            failure: LoomError | None = None
            try:
                response: Response = yield send
            except LoomError as error:
                failure = error
            except BaseException:
                attempt = send.attempt
                attempt.cancelled()
                policies.call_log.cancelled(attempt, self.asked.fields, self._since(attempt))
                sharing.leave_later(policies, attempt)
                raise
            attempt = send.attempt
            if failure is None:
                yield from self._succeeded(attempt, response)
                return self._with_all_spent(response)
            yield from self._failed(attempt, failure)
            pause = self._pause_after(attempt, failure)

    def _succeeded(self, attempt: Attempt, response: Response) -> Steps:
        policies, lane = self.policies, attempt.lane
        seconds = self._since(attempt)
        attempt.succeeded(response)
        usage, cost = billing.actual_cost(response)
        policies.call_log.answered(attempt, response, cost, self.asked.fields, seconds)
        if len(policies.lanes) > 1:
            policies.avoided.discard(lane.member.key)
            policies.pool.observe(lane.member, seconds, session=self.asked.fields.get("session_id"))
            if lane.limiter is None:
                lane.hear(response.metadata)
        if attempt.restored:
            policies.emit(DeploymentRestored(lane.name))
        if attempt.warning is not None:
            used, quota = attempt.warning
            policies.emit(QuotaWarning(lane.name, used, quota, round(100 * used / quota, 1)))
        yield from self._pay(attempt, usage, cost, "success", response)

    def _failed(self, attempt: Attempt, error: LoomError) -> Steps:
        """Tell the policies, and remember the attempt."""
        policies, lane, seconds = self.policies, attempt.lane, self._since(attempt)
        is_cut = isinstance(error, (RequestTimeoutError, StreamInterruptedError))
        outcome = attempt.failed(error, is_late=is_cut and self._left() == 0.0)
        policies.call_log.failed(attempt, error, self.asked.fields, seconds)
        if error.tokens_used:
            self._usage += error.tokens_used
            known = self._cost is not None and error.cost_usd is not None
            self._cost = cast("Decimal", self._cost) + cast("Decimal", error.cost_usd) if known else None
        if isinstance(error, RateLimitError):
            paused = lane.throttle.pause(error.retry_after)
            policies.emit(DeploymentThrottled(lane.name, round(paused, 3), error.kind))
        elif outcome == "take_out" and lane.breaker is not None:
            out = lane.breaker.stats().retry_after or 0.0
            policies.emit(
                DeploymentTakenOut(lane.name, error.code, error.http_status, round(out, 1), error.hint)
            )
        at = attempt.started - self.began
        self.attempts.append(FailedAttempt(lane.name, error, round(at, 3), round(seconds, 3), attempt.waited))
        self._tried.append(lane.member.key)
        yield from self._pay(attempt, *billing.actual_cost(error), outcome, error)

    def _pay(
        self,
        attempt: Attempt,
        usage: TokenUsage | None,
        cost: Cost,
        outcome: Outcome,
        result: Response | LoomError,
    ) -> Steps:
        """Settle the bill and tell the shared state, even where the caller goes away meanwhile."""
        shared = self.policies.shared
        if attempt.bill:
            try:
                yield from billing.settle(attempt, usage, cost)
            except BaseException:
                if shared is not None:
                    shared.leave_later(sharing.report(attempt, outcome, result))
                raise
        if shared is not None:
            yield Leave(sharing.report(attempt, outcome, result))

    def _pause_after(self, attempt: Attempt, error: LoomError) -> float:
        """Seconds to wait before the next attempt. Raises where there is none."""
        policies, retries, lane = self.policies, self.policies.retries, attempt.lane
        if attempt.shown and not policies.restart_streams:
            raise error
        needs_another = wants_attention(error)
        if retries is None or not (error.retryable or (needs_another and len(policies.lanes) > 1)):
            raise error
        self._check_deadline()
        count = len(self.attempts)
        if retries.is_over(count):
            raise self._given_up(f"all {count} attempts failed")
        choice = self._choose()
        if choice.member is None or (needs_another and choice.member.key == lane.member.key):
            raise error
        self._next = choice
        if choice.member.key not in self._tried and choice.wait <= 0:
            policies.avoided.add(lane.member.key)
            policies.emit(FailedOver(lane.name, choice.member.name, error.code))
            return 0.0
        # what one deployment asks for is no reason to keep another waiting
        told = error if choice.member.key == lane.member.key else None
        wait = retries.wait(count, told)
        following = policies.by_key[choice.member.key]
        blocked, _ = following.blocked()
        if told is not None and told.retry_after:
            wait = self._without_excess(wait, max(blocked, told.retry_after), 0.0)
        if blocked > wait and len(policies.lanes) == 1:
            self._refuse_open(lane)
        self._check_wait(choice, following, max(wait, blocked), blocked, 0.0)
        if not retries.budget.spend():
            raise self._given_up("too many of the recent calls were retries")
        policies.emit(RetryScheduled(lane.name, count, round(max(wait, blocked), 3), error.code))
        return wait

    # ── a second attempt beside the first ────────────────────────────────────────────────

    def second(self, first: Attempt) -> Generator[Step, Any, Attempt | None]:
        """Ask for an attempt at another deployment, if one may be called without any wait."""
        policies = self.policies
        choice = self._choose((*self._tried, first.lane.member.key))
        if choice.member is None or choice.wait > 0 or choice.member.key == first.lane.member.key:
            return None
        lane = policies.by_key[choice.member.key]
        attempt = Attempt(lane, None, may_restart=first.may_restart, may_wait=False)
        is_ready = False
        try:
            with suppress(LoomError):  # a second attempt that may not be is no failure of the first
                is_ready = yield from self._enter(attempt)
        finally:
            if not is_ready:
                self._abandon(attempt)
        if not is_ready:
            return None
        after = round(self._since(first), 3)
        policies.emit(HedgeStarted(first.lane.name, attempt.lane.name, after))
        attempt.begin(policies.clock.now())
        return attempt

    def fallen(self, attempt: Attempt, error: LoomError) -> Generator[Step, Any, None]:
        """One of two attempts has failed; the other is still under way."""
        yield from self._failed(attempt, error)

    def lost(self, attempt: Attempt, winner: Attempt | None = None) -> None:
        """This attempt was hung up on, as the ``winner`` was first."""
        attempt.cancelled()
        self.policies.call_log.cancelled(attempt, self.asked.fields, self._since(attempt))
        if winner is not None:
            self.policies.emit(HedgeWon(winner.lane.name, attempt.lane.name))
        sharing.leave_later(self.policies, attempt)

    # ── leave to send ────────────────────────────────────────────────────────────────────

    def _admitted(self, pause: float) -> Steps:
        """Wait for the leave of every policy; an attempt that holds it."""
        policies, clock = self.policies, self.policies.clock
        waited = paused = 0.0  # the queue has a bound of its own: what was waited there is no pause
        while True:
            choice, self._next = self._next or self._choose(), None
            if choice.member is None:
                raise self._none_left(choice)
            lane = policies.by_key[choice.member.key]
            if policies.only is None and not self.attempts:
                self._tell_of_detour(choice, choice.member)
            blocked, _ = lane.blocked()
            wait = max(pause, blocked)
            if wait > 0:
                if blocked > pause and len(policies.lanes) == 1:
                    self._refuse_open(lane)
                if blocked > pause and policies.retries is not None:
                    # with jitter, or all who waited would go at the same moment
                    wait = self._without_excess(wait + policies.retries.jitter(blocked), blocked, paused)
                self._check_wait(choice, lane, wait, blocked, paused)
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
            waited += clock.now() - before
            if is_ready:
                attempt.waited = round(waited, 3)
                self._full.clear()
                return attempt
            self._abandon(attempt)

    def _tell_of_detour(self, choice: Choice, member: Member) -> None:
        """Say that calls go elsewhere than they would if all were well: once, not for each of them."""
        preferred, avoided = choice.preferred, self.policies.avoided
        is_detour = preferred.key != member.key and preferred.key in choice.reasons
        if is_detour and preferred.key not in avoided:
            avoided.add(preferred.key)
            self.policies.emit(FailedOver(preferred.name, member.name, choice.reasons[preferred.key]))

    def _abandon(self, attempt: Attempt) -> None:
        """Give back all that an attempt holds that will not be sent."""
        attempt.abandon()
        sharing.leave_later(self.policies, attempt, release=True)

    def _choose(self, tried: Sequence[str] | None = None) -> Choice:
        policies, asked = self.policies, self.asked
        options = asked.options
        if policies.only is not None and (options is None or options.residency is None):
            return policies.only
        return policies.pool.choose(
            lambda member: policies.by_key[member.key].condition(),
            session=asked.fields.get("session_id"),
            residency=None if options is None else options.residency,
            tried=self._tried if tried is None else tried,
        )

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
        if len(self.policies.lanes) > 1:
            raise self._none_left(choice, reason)
        raise RateLimitError(
            f"the deployment has asked for no calls for another {blocked:.1f} s: {reason}",
            retry_after=round(blocked, 3),
            deployment=lane.provider.model,
            sent=False,
        )

    def _without_excess(self, wait: float, least: float, waited: float) -> float:
        """``wait``, less of its random part beyond ``least`` where that alone would make it too long."""
        return max(least, min(wait, self._most_wait() - waited))

    def _most_wait(self) -> float:
        """Seconds that may be waited before one attempt; none where nothing is to be tried again."""
        retries = self.policies.retries
        if retries is None or retries.config.max_attempts == 1:
            return 0.0
        return retries.config.max_wait_seconds

    def _enter(self, attempt: Attempt) -> Steps:
        """Ask limiter, budgets, shared state and breaker; whether all agree."""
        policies, lane = self.policies, attempt.lane
        self._check_deadline()
        began = policies.clock.now()
        if lane.limiter is not None and not (yield from self._queue(attempt)):
            return False
        if policies.budgets:
            yield from billing.reserve(policies, self.asked, attempt)
        if policies.shared is not None and not (yield from self._enter_shared(attempt, began)):
            return False
        if lane.breaker is not None:
            try:
                attempt.permit = lane.breaker.enter()
            except CircuitOpenError as refusal:
                if len(policies.lanes) > 1:
                    return False
                raise self._opened(lane, refusal) from None
        self._check_deadline()  # whoever was asked may have taken their time
        attempt.options = self._options(lane)
        return True

    def _enter_shared(self, attempt: Attempt, began: float) -> Steps:
        """Ask the state that all processes share; whether it agrees, or is away."""
        policies, lane = self.policies, attempt.lane

        def elsewhere() -> bool:
            """Whether another deployment may be called now; then it is the next."""
            if len(policies.lanes) == 1:
                return False
            choice = self._choose()
            is_other = choice.member is not None and choice.member.key != lane.member.key
            self._next = choice if is_other and choice.wait <= 0 else None
            return self._next is not None

        tokens = self._tokens(lane) if lane.limiter is not None else 0
        refusal = yield from sharing.enter(policies, self.asked, attempt, tokens, began, elsewhere)
        if refusal is None:
            return True
        if len(policies.lanes) == 1 and isinstance(refusal, CircuitOpenError):
            raise self._opened(lane, refusal)
        return False

    def _tokens(self, lane: Lane) -> int:
        """About how many tokens the call counts against a quota."""
        if self._estimate is None:
            limit = billing.output_limit(lane, self.asked.options) or 0
            asked = self.asked
            self._estimate = estimate_tokens(asked.messages, asked.tools, limit, count=lane.count)
        return self._estimate

    def _queue(self, attempt: Attempt) -> Steps:
        """Wait in line for the rate limit; whether the deployment may still be called then."""
        lane, options = attempt.lane, self.asked.options
        assert lane.limiter is not None
        tokens = self._tokens(lane)
        priority = 0 if options is None or options.priority is None else options.priority
        try:
            attempt.ticket = ticket = lane.limiter.enter(tokens, priority=priority, timeout=self._left())
        except QueueFullError:
            if self._has_room_elsewhere(lane):
                return False
            raise
        wait = ticket.wait()
        if wait <= 0:
            return True
        if not attempt.may_wait or self._has_room_elsewhere(lane):
            return False
        about, left = lane.limiter.stats().next_free_seconds, self._left()
        if left is not None and math.inf > about > left:
            raise QueueTimeoutError(
                f"the rate limit has no room for another {about:.1f} s, which is past the deadline",
                retry_after=round(about, 3),
                deployment=lane.provider.model,
            )
        self.policies.emit(CallQueued(lane.name, tokens, ticket.ahead, round(min(about, wait), 3)))
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

    # ── time ─────────────────────────────────────────────────────────────────────────────

    def _check_open(self) -> None:
        if self.policies.closing.is_set:
            raise AgentClosedError("the agent was closed while the call waited", hint="Build a new one.")

    def _since(self, attempt: Attempt) -> float:
        return self.policies.clock.now() - attempt.started

    def _left(self) -> float | None:
        """Seconds until the deadline."""
        if self.asked.deadline is None:
            return None
        return max(0.0, self.asked.deadline - self.policies.clock.now())

    def _check_deadline(self) -> None:
        if self._left() == 0.0:
            late = DeadlineExceededError(
                "the time for the whole run is over",
                hint="Raise with_timeouts(run=…), or ask for less at once.",
            )
            raise late from (self.attempts[-1].error if self.attempts else None)

    def _options(self, lane: Lane) -> ChatOptions | None:
        """The call's options, with the time that an attempt may take now."""
        options, timeouts, left = self.asked.options, self.policies.timeouts, self._left()
        if timeouts is None and left is None:
            return options
        if options is None and left is None:  # the same for every such call
            if lane.usual_options is None:
                lane.usual_options = self._timed(lane, ChatOptions(), None)
            return lane.usual_options
        return self._timed(lane, options or ChatOptions(), left)

    def _timed(self, lane: Lane, options: ChatOptions, left: float | None) -> ChatOptions:
        timeouts = self.policies.timeouts or Timeouts()
        left = None if left is None else max(left, LEAST_SECONDS)
        total = _least(options.total_timeout or timeouts.total, left)
        usual = options.timeout or timeouts.read or getattr(lane.provider, "timeout", None)
        return replace(
            options,
            connect_timeout=options.connect_timeout or timeouts.connect,
            timeout=_least(usual, total),
            total_timeout=total,
        )

    # ── how it ends ──────────────────────────────────────────────────────────────────────

    def _with_all_spent(self, response: Response) -> Response:
        """The response; what failed attempts were billed for is part of what it cost."""
        if not self.attempts:
            return response
        response.metadata["attempts"] = len(self.attempts) + 1
        if not self._usage.total:
            return response
        known = self._cost is not None and response.cost_usd is not None
        cost = cast("Decimal", self._cost) + cast("Decimal", response.cost_usd) if known else None
        return replace(response, tokens_used=self._usage + response.tokens_used, cost_usd=cost)

    def _given_up(self, reason: str, refusal: LoomError | None = None) -> LoomError:
        """What the call fails with after the attempts there were; `refusal` if there was none."""
        if not self.attempts:
            assert refusal is not None
            return refusal
        last = self.attempts[-1].error
        if len(self.attempts) == 1:
            last.add_note(f"Not tried again: {reason}.")
            return last
        exhausted = RetriesExhausted(f"{reason}; the last: {last.message}", attempts=self.attempts)
        exhausted.__cause__ = last
        return exhausted

    def _none_left(self, choice: Choice, reason: str = "") -> LoomError:
        reasons = dict(choice.reasons)
        told = "; ".join(f"{name}: {why}" for name, why in reasons.items())
        wait = None if choice.wait == math.inf else round(choice.wait, 3)
        return self._given_up(
            "no deployment can be called",
            NoDeploymentError(
                f"none of the {len(self.policies.lanes)} deployments can be called now ({told})"
                + (f": {reason}" if reason else ""),
                reasons=reasons,
                retry_after=wait,
                hint="agent.health() tells how each of them stands.",
            ),
        )


LEAST_SECONDS = 0.001
"""Seconds for an attempt whose time is all but over: enough to fail as one that took too long."""


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
