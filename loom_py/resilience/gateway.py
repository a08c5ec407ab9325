"""The one gate between an agent and its models.

Every model call of an agent goes through a `ModelGateway`, whichever verb it uses. The decisions are made in
`loom_py.resilience.calls`; the four verbs here wait, send and hand over what came of it. Nothing but
a `LoomError` comes out of a provider.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

from loom_py._concurrency import iter_from_async, run_coroutine, run_in_thread
from loom_py._log import get_logger
from loom_py.clock import Clock, RealClock
from loom_py.errors import (
    ConnectionFailedError,
    LoomError,
    MalformedResponseError,
    ProviderError,
    RequestTimeoutError,
    StreamInterruptedError,
)
from loom_py.events import (
    FinalResponse,
    StreamEvent,
    StreamRestarted,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
)
from loom_py.llm.costs import CostLedger
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Message, Response, TokenUsage, ToolSpec
from loom_py.options import ChatOptions
from loom_py.resilience import bounds
from loom_py.resilience.attempt import Attempt
from loom_py.resilience.bounds import Question, needs_bound
from loom_py.resilience.breaker import CircuitBreakers
from loom_py.resilience.call_log import CallLog
from loom_py.resilience.calls import ModelCall
from loom_py.resilience.events import Emit, log_event
from loom_py.resilience.hedging import race
from loom_py.resilience.lanes import Lane, names_of, traffic_of
from loom_py.resilience.pool import Member, Pool
from loom_py.resilience.retry import Retries
from loom_py.resilience.steps import Approve, Asked, Do, Enter, Policies, Send, Sleep, Step
from loom_py.tools.threads import in_thread

__all__ = ["ModelGateway"]

_log = get_logger()

FOREIGN: tuple[tuple[type[Exception], type[ProviderError]], ...] = (
    (TimeoutError, RequestTimeoutError),
    (ConnectionError, ConnectionFailedError),
)
"""What a provider's stray exceptions stand for; all others are a plain `ProviderError`."""

VISIBLE = frozenset({TextDelta.type, ToolCallStarted.type, ToolCallCompleted.type})
"""The events after which a stream cannot begin anew unseen."""

CLOCK = RealClock()
"""The clock that every agent goes by that was given none."""


class ModelGateway:
    """Model calls of one agent, with every policy asked and told, logged, and with errors of one tree."""

    def __init__(self, policies: Policies, *, ledger: CostLedger | None = None) -> None:
        self.policies = policies
        self.call_log = policies.call_log = CallLog(ledger)

    @classmethod
    def of(
        cls,
        provider: LLMProvider,
        *,
        breakers: CircuitBreakers | None = None,
        retries: Retries | None = None,
        ledger: CostLedger | None = None,
        clock: Clock = CLOCK,
        emit: Emit = log_event,
    ) -> ModelGateway:
        """The gateway to one deployment."""
        (name,) = names_of([provider], [None])
        member = Member(name, name, 0, 1.0, None, frozenset())
        breaker = None if breakers is None else breakers[name]
        lane = Lane(provider, member, traffic=traffic_of(provider, clock), breaker=breaker)
        pool = Pool([member], clock=clock.now)
        return cls(Policies([lane], pool, clock, emit, retries), ledger=ledger)

    # ── the four verbs ───────────────────────────────────────────────────────────────────

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        fields: Mapping[str, Any],
        deadline: float | None = None,
    ) -> Response:
        """One reply. ``fields`` go into the log events; ``deadline`` is on the policies' clock."""
        call = ModelCall(self.policies, Asked(messages, tools, options, fields, deadline))
        step = call.begin()
        while step is not None:
            try:
                outcome = self._do(step, call)
            except Exception as exc:  # noqa: BLE001 - the call decides what becomes of it
                step = call.throw(_as_ours(exc, step))
            except BaseException as exc:
                call.throw(exc)  # which gives everything back, and raises it again
                raise
            else:
                step = call.send(outcome)
        return call.final

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        fields: Mapping[str, Any],
        deadline: float | None = None,
    ) -> Response:
        """One reply, async."""
        call = ModelCall(self.policies, Asked(messages, tools, options, fields, deadline))
        step = call.begin()
        while step is not None:
            try:
                outcome = await self._ado(step, call)
            except Exception as exc:  # noqa: BLE001 - the call decides what becomes of it
                step = call.throw(_as_ours(exc, step))
            except BaseException as exc:
                call.throw(exc)  # which gives everything back, and raises it again
                raise
            else:
                step = call.send(outcome)
        return call.final

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        fields: Mapping[str, Any],
        deadline: float | None = None,
    ) -> Generator[StreamEvent, None, None]:
        """One reply as events."""
        call = ModelCall(self.policies, Asked(messages, tools, options, fields, deadline))
        step = call.begin()
        restart: StreamRestarted | None = None
        while step is not None:
            try:
                if restart is not None:
                    yield restart
                    restart = None
                if not isinstance(step, Send):
                    outcome = self._do(step, call)
                else:
                    outcome = yield from self._events(step, call)
            except Exception as exc:  # noqa: BLE001 - the call decides what becomes of it
                failure, failed = _as_ours(exc, step), step
                step = call.throw(failure)
                restart = _restart(failed, failure)
            except BaseException as exc:
                call.throw(exc)  # which gives everything back, and raises it again
                raise
            else:
                step = call.send(outcome)
        yield FinalResponse(call.final)

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        fields: Mapping[str, Any],
        deadline: float | None = None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """One reply as events, async."""
        call = ModelCall(self.policies, Asked(messages, tools, options, fields, deadline))
        step = call.begin()
        restart: StreamRestarted | None = None
        while step is not None:
            try:
                if restart is not None:
                    yield restart
                    restart = None
                if not isinstance(step, Send):
                    outcome = await self._ado(step, call)
                else:
                    outcome = None
                    events = self._opened(step, call)
                    try:
                        async for event in events:
                            if (response := event.response) is not None:
                                outcome = response
                            else:
                                _see(step.attempt, event)
                                yield event
                    finally:
                        if (aclose := getattr(events, "aclose", None)) is not None:
                            await aclose()
                    outcome = _whole(outcome, step.attempt.lane.provider)
            except Exception as exc:  # noqa: BLE001 - the call decides what becomes of it
                failure, failed = _as_ours(exc, step), step
                step = call.throw(failure)
                restart = _restart(failed, failure)
            except BaseException as exc:
                call.throw(exc)  # which gives everything back, and raises it again
                raise
            else:
                step = call.send(outcome)
        yield FinalResponse(call.final)

    # ── one step ─────────────────────────────────────────────────────────────────────────

    def _do(self, step: Step, call: ModelCall) -> Any:
        if isinstance(step, Send):
            if step.hedge_after is not None:
                return run_coroutine(self._hedged(step, call))
            provider, asked, options = step.attempt.lane.provider, call.asked, step.attempt.options
            if needs_bound(provider, options):
                reply = bounds.ask(Question(provider, asked.messages, asked.tools, options))
            else:
                reply = provider.chat(asked.messages, asked.tools, options=options)
            return _checked(reply, provider)
        if isinstance(step, Sleep):
            return self.policies.clock.sleep(step.seconds, step.until)
        if isinstance(step, Do):
            return step.function()
        if isinstance(step, Approve):
            with _harmless(step):
                more = step.ask(step.alert)
                return run_coroutine(_awaited(more)) if inspect.isawaitable(more) else more
            return None
        assert self.policies.shared is not None
        if isinstance(step, Enter):
            return self.policies.shared.enter(step.request)
        return self.policies.shared.leave(step.report)

    async def _ado(self, step: Step, call: ModelCall) -> Any:
        if isinstance(step, Send):
            if step.hedge_after is not None:
                return await self._hedged(step, call)
            return await _aask(step.attempt, call)
        if isinstance(step, Sleep):
            return await self.policies.clock.asleep(step.seconds, step.until)
        if isinstance(step, Do):
            return await run_in_thread(step.function)
        if isinstance(step, Approve):
            with _harmless(step):  # it may ask a person: neither on the event loop nor in a bounded pool
                more = await asyncio.wrap_future(in_thread(partial(step.ask, step.alert)))
                return await more if inspect.isawaitable(more) else more
            return None
        assert self.policies.shared is not None
        if isinstance(step, Enter):
            return await self.policies.shared.aenter(step.request)
        return await self.policies.shared.aleave(step.report)

    # ── streams, and two attempts at once ────────────────────────────────────────────────

    def _events(self, step: Send, call: ModelCall) -> Generator[StreamEvent, None, Response]:
        """The events of one attempt, but the last; its response."""
        if step.hedge_after is None:
            provider, asked, options = step.attempt.lane.provider, call.asked, step.attempt.options
            if needs_bound(provider, options):
                events = bounds.events(Question(provider, asked.messages, asked.tools, options))
            else:
                events = provider.stream_chat(asked.messages, asked.tools, options=options)
        else:
            events = iter_from_async(lambda: self._opened(step, call))
        outcome: Response | None = None
        try:
            for event in events:
                if (response := event.response) is not None:
                    outcome = response
                else:
                    _see(step.attempt, event)
                    yield event
        finally:
            if (close := getattr(events, "close", None)) is not None:
                close()
        return _whole(outcome, step.attempt.lane.provider)

    def _opened(self, step: Send, call: ModelCall) -> AsyncIterator[StreamEvent]:
        """The events of one attempt, or of the one of two that is first to speak."""
        if step.hedge_after is None:
            return _aopened(step.attempt, call)
        return self._race(step, call, lambda attempt: _aopened(attempt, call))

    async def _hedged(self, step: Send, call: ModelCall) -> Response:
        """The response of whichever attempt is first to give one."""

        async def answer(attempt: Attempt) -> AsyncGenerator[StreamEvent, None]:
            yield FinalResponse(await _aask(attempt, call))

        response: Response | None = None
        async with aclosing(self._race(step, call, answer)) as events:
            async for event in events:
                response = event.response
        return _whole(response, step.attempt.lane.provider)

    def _race(
        self, step: Send, call: ModelCall, open: Callable[[Attempt], AsyncIterator[StreamEvent]]
    ) -> AsyncGenerator[StreamEvent, None]:
        async def second(first: Attempt) -> Attempt | None:
            found: Attempt | None = await self._adrive(call.second(first), call)
            return found

        async def fallen(attempt: Attempt, exc: Exception) -> None:
            error = _as_ours(exc, Send(attempt))
            assert isinstance(error, LoomError)
            await self._adrive(call.fallen(attempt, error), call)

        return race(step, call, self.policies.clock, open, second, fallen)

    async def _adrive(self, steps: Generator[Step, Any, Any], call: ModelCall) -> Any:
        """Drive a part of a call to its end."""
        outcome: Any = None
        try:
            while True:
                outcome = await self._ado(steps.send(outcome), call)
        except StopIteration as stop:
            return stop.value
        finally:
            steps.close()


async def _aask(attempt: Attempt, call: ModelCall) -> Response:
    """One reply, in the time that the attempt has."""
    provider, asked, options = attempt.lane.provider, call.asked, attempt.options
    if needs_bound(provider, options):
        reply = await bounds.aask(Question(provider, asked.messages, asked.tools, options))
    else:
        reply = await provider.achat(asked.messages, asked.tools, options=options)
    return _checked(reply, provider)


def _aopened(attempt: Attempt, call: ModelCall) -> AsyncIterator[StreamEvent]:
    provider, asked, options = attempt.lane.provider, call.asked, attempt.options
    if needs_bound(provider, options):
        return bounds.aevents(Question(provider, asked.messages, asked.tools, options))
    return provider.astream_chat(asked.messages, asked.tools, options=options)


def _restart(failed: Step, failure: Exception) -> StreamRestarted | None:
    """What tells the reader to forget what was shown, if anything was."""
    if not isinstance(failed, Send) or not failed.attempt.shown:
        return None
    return StreamRestarted(str(failure.args[0]), "".join(failed.attempt.discarded))


def _see(attempt: Attempt, event: StreamEvent) -> None:
    """Remember what was shown: a stream that is to begin anew has to take it back."""
    if not attempt.shown and event.type in VISIBLE:
        attempt.shown = True
    if attempt.may_restart and event.delta:
        attempt.discarded.append(event.delta)


def _whole(response: Response | None, provider: LLMProvider) -> Response:
    if response is None:
        raise StreamInterruptedError(
            f"the stream of provider {provider.name!r} ended without a final response",
            deployment=provider.model,
        )
    return _checked(response, provider)


def _checked(reply: object, provider: LLMProvider) -> Response:
    """``reply`` if it is what a provider should give. Raises `MalformedResponseError` if not."""
    if not isinstance(reply, Response):
        what = type(reply).__name__
    elif not isinstance(reply.message, str):
        what = "a Response without text"
    elif not isinstance(reply.tokens_used, TokenUsage):
        what = f"a Response whose tokens_used is {type(reply.tokens_used).__name__}"
    elif not isinstance(reply.metadata, dict):
        what = f"a Response whose metadata is {type(reply.metadata).__name__}"
    elif not _is_cost(reply.cost_usd):
        what = f"a Response whose cost_usd is {reply.cost_usd!r}"
    else:
        return reply
    raise MalformedResponseError(
        f"provider {provider.name!r} gave {what}, not a whole Response",
        deployment=provider.model,
        hint="Report this to the provider's author.",
    )


def _is_cost(cost: object) -> bool:
    return cost is None or (isinstance(cost, Decimal) and cost.is_finite() and cost >= 0)


def _as_ours(exc: Exception, step: Step) -> Exception:
    """Whatever a provider raised, as an error of the tree; what a policy raised stays what it is."""
    if not isinstance(step, Send):
        return exc
    provider = step.attempt.lane.provider
    if isinstance(exc, LoomError):
        _check_retry_after(exc, provider)
        return exc
    kind = next((ours for theirs, ours in FOREIGN if isinstance(exc, theirs)), ProviderError)
    error = kind(
        f"provider {provider.name!r} raised {type(exc).__name__}: {exc}",
        deployment=provider.model,
        hint="A provider should raise errors of loom_py.errors only; report this to its author.",
    )
    error.__cause__ = exc
    return error


def _check_retry_after(error: LoomError, provider: LLMProvider) -> None:
    """Forget a ``retry_after`` that is no time: every policy reckons with it."""
    told: object = error.retry_after
    if told is None or (type(told) in (int, float) and told >= 0):  # type: ignore[operator]
        return
    error.retry_after = None
    _log.warning(
        "retry_after_ignored",
        provider=provider.name,
        deployment=provider.model,
        retry_after=repr(told),
        error=error.code,
        hint="retry_after of an error is a number of seconds of at least 0, or None",
    )


@contextmanager
def _harmless(step: Approve) -> Iterator[None]:
    """Around a callback that may approve money: one that fails has approved nothing."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - the user's own code
        error = f"{type(exc).__name__}: {exc}"
        _log.warning("approval_failed", scope=step.alert.per, unit=step.alert.unit, error=error)


async def _awaited(thing: Any) -> Any:
    return await thing
