"""`ScriptedProvider`: a model that says what a test told it to say."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

from loom_py._concurrency import run_coroutine, run_in_thread
from loom_py.errors import ScriptError
from loom_py.events import (
    FinalResponse,
    StreamEvent,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    UsageEvent,
)
from loom_py.llm.costs.bound import Bound, BoundLine
from loom_py.llm.costs.cost import Cost
from loom_py.llm.estimates import estimate_usage
from loom_py.llm.prices import ModelPrice, PriceRow
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = [
    "Answer",
    "ScriptedProvider",
    "ScriptedRequest",
    "Step",
    "call",
    "reply",
    "words",
]

_WORDS = re.compile(r"\s*\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class ScriptedRequest:
    """One request a `ScriptedProvider` received; ``index`` counts from 0."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    options: ChatOptions
    index: int

    @property
    def text(self) -> str:
        """The text of the last message."""
        return self.messages[-1].text if self.messages else ""


Answer: TypeAlias = str | Response | ToolCall | Sequence[ToolCall] | BaseException
"""Text to reply, a whole response, tools to ask for, or an error to raise."""

Answering: TypeAlias = Callable[[ScriptedRequest], Answer | Awaitable[Answer]]

Step: TypeAlias = Answer | Answering
"""An answer, or a function of the request (plain or ``async``) that returns one."""


def reply(
    text: str = "",
    *,
    tool_calls: Iterable[ToolCall] = (),
    tokens: TokenUsage | None = None,
    finish_reason: str | None = None,
    model: str = "",
    cost_usd: Decimal | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Response:
    """A response for a script.

    ``finish_reason`` is ``"tool_calls"`` where there are any, else ``"stop"``. Without ``tokens``
    the provider estimates the usage.
    """
    calls = tuple(tool_calls)
    return Response(
        message=text,
        tokens_used=tokens or TokenUsage(),
        cost_usd=cost_usd,
        tool_calls=calls,
        finish_reason=finish_reason or ("tool_calls" if calls else "stop"),
        model=model,
        metadata=dict(metadata or {}),
    )


def call(name: str, /, **arguments: Any) -> ToolCall:
    """A request to run the tool ``name``; the provider gives it an id when it asks."""
    return ToolCall("", name, arguments)


class ScriptedProvider(BaseProvider):
    """The public test double: answers request by request from a script.

    ::

        provider = ScriptedProvider([call("weather", city="Oslo"), "It rains in Oslo."])

    Args:
        steps: one step per request, in order; or one function that answers every request.
        name: the provider's name.
        model: the model's name.
        strict: leaving the provider's ``with`` block with steps unused is a `ScriptError`.
        delay: seconds to wait before each answer.
        price: what the model's tokens cost, so that a scripted agent can have a budget: every reply that
            states no cost of its own gets one, and `worst_cost` tells the most a call can cost.
        max_tokens: the most tokens of a reply where a call's options do not say it. No reply is cut:
            it is what a budget reckons with.

    A step is text, a `Response`, a `ToolCall` or several, an exception (raised), or a function of
    the `ScriptedRequest` that returns one of these. Functions run in worker threads for async
    callers, so they may block; ``async`` functions are awaited. An exception with a
    ``partial_text`` is raised in a stream after that text has been delivered.

    Usage that a step does not give is estimated, and ``metadata["usage_estimated"]`` is true.
    Calls without an id get ``call_1``, ``call_2``, … Safe for threads and tasks: each request
    takes the next step. Raises `ScriptError` for a request beyond the script, and `TypeError` for
    a step that is none.
    """

    def __init__(
        self,
        steps: Sequence[Step] | Answering,
        *,
        name: str = "scripted",
        model: str = "scripted-1",
        strict: bool = True,
        delay: float = 0.0,
        price: ModelPrice | None = None,
        max_tokens: int = 4096,
    ) -> None:
        self.name = name
        self.model = model
        self.strict = strict
        self.delay = delay
        self.price = price
        self.max_tokens = max_tokens
        self._endless = steps if callable(steps) else None
        self._steps: tuple[Step, ...] = () if callable(steps) else _checked(steps)
        self._lock = threading.Lock()
        self._requests: list[ScriptedRequest] = []
        self._ids_taken = {call.id for step in self._steps for call in _calls_of(step)}
        self._ids_given = 0

    def __repr__(self) -> str:
        script = "endless" if self._endless else f"{self.remaining} of {len(self._steps)} steps left"
        return f"ScriptedProvider({self.name!r}, {script})"

    @property
    def requests(self) -> tuple[ScriptedRequest, ...]:
        """Every request so far, in order of arrival."""
        with self._lock:
            return tuple(self._requests)

    @property
    def remaining(self) -> int:
        """How many steps are unused; 0 for a function that answers every request."""
        return max(0, len(self._steps) - len(self.requests))

    def output_limit(self, options: ChatOptions | None = None) -> int | None:
        """The most tokens of a reply: what ``options`` say, or the provider's own ``max_tokens``."""
        return super().output_limit(options) or self.max_tokens

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        """The most a call of at most so many tokens can cost by the provider's ``price``, in USD."""
        if self.price is None:
            return super().worst_cost(input_tokens, output_tokens, options=options)
        return Bound([BoundLine(self._row(self.price))]).cost(input_tokens, output_tokens)

    def assert_done(self) -> None:
        """Raises `ScriptError` if steps are left over."""
        used, total = len(self.requests), len(self._steps)
        if used < total:
            left = ", ".join(f"step {index}: {_describe(self._steps[index])}" for index in range(used, total))
            raise ScriptError(
                f"{total - used} of {total} scripted steps were not used: {left}",
                hint="Remove them, or find out why the model was asked less often than expected.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None and self.strict:
            self.assert_done()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, exc, trace)

    # ── the four verbs ───────────────────────────────────────────────────────────────────

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """The next step's response, or its error raised."""
        return self._respond(*self._answer(messages, tools, options))

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """The next step's response, or its error raised; async."""
        return self._respond(*await self._aanswer(messages, tools, options))

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        """The next step as events, word by word. The step is taken with the first event."""
        yield from self._events(*self._answer(messages, tools, options))

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """The next step as events, word by word; async. The step is taken with the first event."""
        for event in self._events(*await self._aanswer(messages, tools, options)):
            yield event
            await asyncio.sleep(0)  # let other tasks in, as a network would

    # ── from request to answer ───────────────────────────────────────────────────────────

    def _answer(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], options: ChatOptions | None
    ) -> tuple[ScriptedRequest, Answer]:
        request, step = self._take(messages, tools, options)
        if self.delay:
            time.sleep(self.delay)
        answer = step(request) if callable(step) else step
        if inspect.isawaitable(answer):
            answer = run_coroutine(_wait_for(answer))
        return request, _checked_answer(answer, request.index)

    async def _aanswer(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], options: ChatOptions | None
    ) -> tuple[ScriptedRequest, Answer]:
        request, step = self._take(messages, tools, options)
        if self.delay:
            await asyncio.sleep(self.delay)
        if not callable(step):
            return request, step
        answer = step(request) if _is_async(step) else await run_in_thread(step, request)
        if inspect.isawaitable(answer):
            answer = await answer
        return request, _checked_answer(answer, request.index)

    def _take(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], options: ChatOptions | None
    ) -> tuple[ScriptedRequest, Step]:
        with self._lock:
            index = len(self._requests)
            request = ScriptedRequest(tuple(messages), tuple(tools), options or ChatOptions(), index)
            if self._endless is None and index >= len(self._steps):
                raise _beyond_the_script(request, len(self._steps))
            self._requests.append(request)
            return request, self._endless or self._steps[index]

    # ── from answer to response ──────────────────────────────────────────────────────────

    def _respond(self, request: ScriptedRequest, answer: Answer) -> Response:
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, str):
            answer = reply(answer)
        elif not isinstance(answer, Response):
            answer = reply(tool_calls=_calls_of(answer))
        response = replace(
            answer,
            tool_calls=tuple(self._with_id(call) for call in answer.tool_calls),
            model=answer.model or self.model,
        )
        if response.tokens_used == TokenUsage():
            response = replace(
                response,
                tokens_used=estimate_usage(request.messages, request.tools, response.to_message()),
                metadata={**response.metadata, "usage_estimated": True},
            )
        return response if self.price is None else self._priced(response, self.price)

    def _priced(self, response: Response, price: ModelPrice) -> Response:
        """``response`` with what it costs, where it does not say so itself."""
        if response.cost_usd is not None or "cost" in response.metadata:
            return response
        row = self._row(price)
        cost = Cost(
            price.cost(response.tokens_used),
            **price.parts(response.tokens_used)._asdict(),
            model=response.model,
            usage=response.tokens_used,
            source=row.source,
        )
        return replace(response, cost_usd=cost.usd, metadata={**response.metadata, "cost": cost.to_dict()})

    def _row(self, price: ModelPrice) -> PriceRow:
        return PriceRow(self.model, price, type=None, tier=None, source="the script's price")

    def _with_id(self, call: ToolCall) -> ToolCall:
        with self._lock:
            identity = call.id
            while not identity:
                self._ids_given += 1
                identity = f"call_{self._ids_given}"
                if identity in self._ids_taken:
                    identity = ""
            self._ids_taken.add(identity)
        return replace(call, id=identity)

    def _events(self, request: ScriptedRequest, answer: Answer) -> Iterator[StreamEvent]:
        if isinstance(answer, BaseException):
            yield from map(TextDelta, words(getattr(answer, "partial_text", "")))
            raise answer
        response = self._respond(request, answer)
        yield from map(TextDelta, words(response.message))
        for tool_call in response.tool_calls:
            yield ToolCallStarted(tool_call.id, tool_call.name)
            yield ToolCallCompleted(tool_call)
        yield UsageEvent(response.tokens_used)
        yield FinalResponse(response)


def words(text: str) -> list[str]:
    """``text`` cut after the white space that follows each word; joined again it is unchanged."""
    return _WORDS.findall(text)


# ── checks and descriptions ──────────────────────────────────────────────────────────────


async def _wait_for(answer: Awaitable[Answer]) -> Answer:
    return await answer


def _is_async(step: Answering) -> bool:
    return inspect.iscoroutinefunction(step) or inspect.iscoroutinefunction(type(step).__call__)


def _is_answer(value: object) -> bool:
    if isinstance(value, (str, Response, ToolCall, BaseException)):
        return True
    return isinstance(value, Sequence) and bool(value) and all(isinstance(item, ToolCall) for item in value)


_STEP_KINDS = "text, a Response, a ToolCall or several, an exception, or a function of the request"


def _checked(steps: Sequence[Step]) -> tuple[Step, ...]:
    if isinstance(steps, (str, Response, ToolCall, BaseException)):
        raise TypeError(f"steps must be a sequence of steps: write [{_describe(steps)}]")
    for index, step in enumerate(steps):
        if isinstance(step, type) or not (callable(step) or _is_answer(step)):
            raise TypeError(f"step {index} must be {_STEP_KINDS}, not {step!r}")
    return tuple(steps)


def _checked_answer(answer: Any, index: int) -> Answer:
    if _is_answer(answer):
        return cast("Answer", answer)
    raise ScriptError(
        f"the function that answers request {index} returned {answer!r}",
        hint="Return text, a Response, a ToolCall or several, or an exception.",
    )


def _calls_of(step: Step) -> Sequence[ToolCall]:
    if isinstance(step, ToolCall):
        return (step,)
    if isinstance(step, Response):
        return step.tool_calls
    if isinstance(step, (str, BaseException)) or callable(step):
        return ()
    return step


def _describe(step: object) -> str:
    if isinstance(step, ToolCall):
        return f"call({step.name!r})"
    if isinstance(step, Response):
        return f"reply({_short(step.message)})"
    if isinstance(step, Sequence) and not isinstance(step, str):
        return f"[{', '.join(map(_describe, step))}]"
    return getattr(step, "__name__", None) or _short(step)


def _short(value: object, width: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _beyond_the_script(request: ScriptedRequest, steps: int) -> ScriptError:
    count = "1 step" if steps == 1 else f"{steps} steps"
    last = f"{request.messages[-1].role} {_short(request.text, 200)}" if request.messages else "none"
    tools = ", ".join(tool.name for tool in request.tools) or "none"
    return ScriptError(
        f"request {request.index} is beyond the script of {count}; "
        f"it had {len(request.messages)} messages, the last: {last}; tools: {tools}",
        hint="Add a step for it, or find out why the model was asked again.",
    )
