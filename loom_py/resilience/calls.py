"""One model call on its way through the policies: a generator that decides, and does nothing itself.

It yields what it wants done (`Send`, `Sleep`, `Do`, `Approve`, `Enter`, `Leave`) and is sent the outcome, or
has the exception thrown in. The gateway's four verbs are thin drivers of it, so that no policy is written
twice: retries, failover, queueing, budgets and shared state are decided here and in `Admission`, and nowhere
else.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

from loom_py.errors import (
    FailedAttempt,
    LoomError,
    RateLimitError,
    RequestTimeoutError,
    StreamInterruptedError,
)
from loom_py.llm.costs import added
from loom_py.messages import Response, TokenUsage
from loom_py.resilience import billing, sharing
from loom_py.resilience.admission import Admission
from loom_py.resilience.attempt import Attempt, Outcome, wants_attention
from loom_py.resilience.events import (
    DeploymentRestored,
    DeploymentTakenOut,
    DeploymentThrottled,
    FailedOver,
    HedgeStarted,
    HedgeWon,
    QuotaWarning,
    RetryScheduled,
)
from loom_py.resilience.steps import Asked, Do, Leave, Policies, Send, Step, Steps

__all__ = ["ModelCall"]

_NOTHING = TokenUsage()
_FREE = Decimal(0)


class ModelCall(Admission):
    """One model call. Drive it as `AgentRun` is driven: `begin`, then `send` or `throw`, until ``None``."""

    __slots__ = ("_cost", "_steps", "_usage", "response")

    def __init__(self, policies: Policies, asked: Asked) -> None:
        super().__init__(policies, asked)
        self.response: Response | None = None
        self._usage = _NOTHING
        self._cost: Decimal | None = _FREE
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
        except LoomError as error:
            self._fell(error)
            raise

    def throw(self, exc: BaseException) -> Step | None:
        """The next step after the last one failed. Raises what the call fails with, if it is over."""
        try:
            return self._steps.throw(exc)
        except StopIteration as stop:
            self.response = stop.value
            return None
        except LoomError as error:
            self._fell(error)
            raise

    @property
    def final(self) -> Response:
        """The response, now that the call is over."""
        assert self.response is not None
        return self.response

    # ── from attempt to attempt ──────────────────────────────────────────────────────────

    def _run(self) -> Steps:
        policies = self.policies
        if policies.retries is not None:
            policies.retries.budget.call()
        pause = 0.0
        while True:
            send = Send((yield from self._admitted(pause)), policies.hedge_after)
            failure: LoomError | None = None
            try:
                response: Response = yield send
            except LoomError as error:
                failure = error
            except BaseException:
                self._cancelled(send.attempt)
                raise
            attempt = send.attempt
            if failure is None:
                ends = self._succeeded(attempt, response)
                if ends or policies.shared is not None:
                    yield from self._tell(attempt, ends, "success", response)
                return self._with_all_spent(response) if self.attempts else response
            yield from self._failed(attempt, failure)
            pause = self._pause_after(attempt, failure)

    def _fell(self, error: LoomError) -> None:
        """The call fails with ``error``, which tells what all its attempts used."""
        if not self.attempts or error is not self.attempts[-1].error:
            self.policies.call_log.refused(error, self.asked.fields)
        if self._usage.total:
            error.tokens_used, error.cost_usd = self._usage, self._cost

    def _cancelled(self, attempt: Attempt) -> None:
        """The caller went away, or nobody reads on."""
        attempt.cancelled()
        self.policies.call_log.cancelled(attempt, self.asked.fields, self._since(attempt))
        sharing.leave_later(self.policies, attempt)

    def _succeeded(self, attempt: Attempt, response: Response) -> list[billing.End]:
        """Tell the policies, and settle the bill; what is left to do of that."""
        policies, lane = self.policies, attempt.lane
        seconds = self._since(attempt)
        attempt.succeeded(response)
        usage, cost = billing.actual_cost(response)
        policies.call_log.answered(attempt, response, cost, self.asked.fields, seconds)
        if policies.only is None:
            policies.avoided.pop(lane.member.key, None)
            policies.pool.observe(lane.member, seconds, session=self.asked.fields.get("session_id"))
            if lane.limiter is None:
                lane.hear(response.metadata)
        if attempt.restored:
            policies.emit(DeploymentRestored(lane.name))
        if attempt.warning is not None:
            used, quota = attempt.warning
            policies.emit(QuotaWarning(lane.name, used, quota, round(100 * used / quota, 1)))
        return billing.settle(attempt, usage, cost)

    def _failed(self, attempt: Attempt, error: LoomError) -> Steps:
        """Tell the policies, and remember the attempt."""
        policies, lane, seconds = self.policies, attempt.lane, self._since(attempt)
        is_cut = isinstance(error, (RequestTimeoutError, StreamInterruptedError))
        outcome = attempt.failed(error, is_late=is_cut and self._left() == 0.0)
        policies.call_log.failed(attempt, error, self.asked.fields, seconds)
        if error.tokens_used:
            self._usage += error.tokens_used
            self._cost = added(self._cost, error.cost_usd)
        if outcome == "take_out" and lane.breaker is not None:
            out = lane.breaker.stats().retry_after or 0.0
            policies.emit(
                DeploymentTakenOut(lane.name, error.code, error.http_status, round(out, 1), error.hint)
            )
        elif isinstance(error, RateLimitError):
            paused = lane.throttle.pause(error.retry_after)
            policies.emit(DeploymentThrottled(lane.name, round(paused, 3), error.kind))
        at = attempt.started - self.began
        self.attempts.append(FailedAttempt(lane.name, error, round(at, 3), round(seconds, 3), attempt.waited))
        self._tried.append(lane.member.key)
        ends = billing.settle(attempt, *billing.actual_cost(error))
        yield from self._tell(attempt, ends, outcome, error)

    def _tell(
        self, attempt: Attempt, ends: list[billing.End], outcome: Outcome, result: Response | LoomError
    ) -> Steps:
        """Write down what the attempt cost, and tell the shared state, even where the caller goes away."""
        shared = self.policies.shared
        try:
            while ends:
                yield Do(ends[-1].do)
                ends.pop()
        except BaseException:
            for end in ends:  # ending one twice does nothing
                end.soon()
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
        if retries is None or not (error.retryable or (needs_another and policies.only is None)):
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
            policies.avoided[lane.member.key] = None
            policies.emit(FailedOver(lane.name, choice.member.name, error.code))
            return 0.0
        # what one deployment asks for is no reason to keep another waiting
        told = error if choice.member.key == lane.member.key else None
        wait = retries.wait(count, told)
        following = policies.by_key[choice.member.key]
        blocked, _ = following.blocked()
        if told is not None and told.retry_after:
            wait = self._without_excess(wait, max(blocked, told.retry_after), 0.0)
        if blocked > wait and policies.only is not None:
            self._refuse_open(lane)
        self._check_wait(choice, following, max(wait, blocked), blocked, 0.0)
        if not retries.budget.spend():
            raise self._given_up("too many of the recent calls were retries")
        policies.emit(RetryScheduled(lane.name, count, round(max(wait, blocked), 3), error.code))
        return wait

    def _with_all_spent(self, response: Response) -> Response:
        """The response; what failed attempts were billed for is part of what it cost."""
        response.metadata["attempts"] = len(self.attempts) + 1
        if not self._usage.total:
            return response
        cost = added(self._cost, response.cost_usd)
        return replace(response, tokens_used=self._usage + response.tokens_used, cost_usd=cost)

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
        self._cancelled(attempt)
        if winner is not None:
            self.policies.emit(HedgeWon(winner.lane.name, attempt.lane.name))
