"""Running the tools a model asked for, and telling it what came of them."""

from __future__ import annotations

import asyncio
import difflib
import functools
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from loom_py.errors import CircuitOpenError, ToolArgumentsError, ToolDefinitionError
from loom_py.messages import ToolCall, ToolResult, ToolSpec
from loom_py.tools import running
from loom_py.tools.annotations import label
from loom_py.tools.results import (
    blames_the_caller,
    describe_error,
    error_code,
    error_text,
    render,
    unavailable_text,
)
from loom_py.tools.running import Invocation, Outcome
from loom_py.tools.tool import Tool, as_tool, check_timeout

__all__ = ["Permit", "ReadyCall", "ToolExecutor", "ToolGuard"]


class Permit(Protocol):
    """Leave to run a tool once. Exactly one of the three is called, when it is known how it went."""

    def success(self) -> object:
        """The tool gave a result."""
        ...

    def failure(self) -> None:
        """The tool failed or took too long."""
        ...

    def neutral(self) -> None:
        """Nothing can be said of the tool: cancelled, or the model's request was at fault."""
        ...


class ToolGuard(Protocol):
    """What decides whether a tool may run now, such as a circuit breaker for each."""

    def available(self, name: str) -> bool:
        """Whether the model should be offered the tool."""
        ...

    def enter(self, name: str) -> Permit:
        """Leave to run the tool once. Raises `CircuitOpenError` if it may not run now."""
        ...


class _NoPermit:
    def success(self) -> None: ...

    def failure(self) -> None: ...

    def neutral(self) -> None: ...


OnResult: TypeAlias = Callable[[ToolCall, ToolResult], None]


@dataclass(slots=True)
class ReadyCall:
    """A call that was checked and allowed, and has not run yet.

    ``is_hurried`` says that its time is what the whole chat has left: to be cut off then is no failure.
    """

    call: ToolCall
    tool: Tool[..., Any]
    invocation: Invocation
    permit: Permit
    is_hurried: bool = False
    settled: bool = field(default=False)

    def settle(self, verdict: str) -> None:
        """Tell the guard how it went: ``success``, ``failure`` or ``neutral``. Only the first counts."""
        if not self.settled:
            self.settled = True
            getattr(self.permit, verdict)()


class ToolExecutor:
    """Runs the calls of a reply concurrently and gives their results in the order of the calls.

    Whatever goes wrong (an unknown tool, wrong arguments, an exception, a timeout) becomes a result
    that tells the model what was wrong and what to do. Only an interrupt of the user
    (`KeyboardInterrupt`) and a cancellation come out as exceptions.

    Args:
        tools: the tools; each name once.
        timeout: seconds a call may take where its tool does not say; ``None`` for no limit. A sync
            tool that takes longer is no longer waited for, but its thread cannot be stopped.
        guard: decides which tools may run now.
        on_result: told of each result as soon as it is known, in the caller's thread or event loop.

    Raises `ToolDefinitionError` for two tools of one name and for a timeout that is not above 0.
    """

    __slots__ = ("_guard", "_on_result", "_timeout", "_tools")

    def __init__(
        self,
        tools: Sequence[Tool[..., Any]],
        *,
        timeout: float | None = None,
        guard: ToolGuard | None = None,
        on_result: OnResult | None = None,
    ) -> None:
        self._tools: dict[str, Tool[..., Any]] = {}
        for tool in map(as_tool, tools):
            self._add(tool)
        self._timeout = check_timeout(timeout, "the timeout for tools")
        self._guard = guard
        self._on_result = on_result

    def _add(self, tool: Tool[..., Any]) -> None:
        other = self._tools.get(tool.name)
        if other is not None:
            raise ToolDefinitionError(
                f"two tools are called {tool.name!r}: {_place(other)} and {_place(tool)}",
                field="tools",
                hint="Give one another name: @tool(name=…)",
            )
        self._tools[tool.name] = tool

    def __repr__(self) -> str:
        return f"<ToolExecutor {', '.join(self._tools) or 'without tools'}>"

    def specs(self) -> tuple[ToolSpec, ...]:
        """What a model is told of the tools that are available now, in the order they were given."""
        return tuple(tool.spec for tool in self._available())

    def run(self, calls: Sequence[ToolCall], *, within: float | None = None) -> tuple[ToolResult, ...]:
        """Run the calls from blocking code; the results in the order of the calls.

        ``within`` bounds each call in seconds, whatever longer time its tool may take.

        Several calls run at once, sync tools in threads and async ones on a background event loop.
        A single sync call without a timeout runs in the caller's own thread.
        """
        with ExitStack() as stack:
            work = [self._prepare(call, stack, within) for call in calls]
            ready = [item for item in work if isinstance(item, ReadyCall)]
            if len(ready) == 1 and _runs_here(ready[0]):
                return tuple(self._report(call, self._run_here(item)) for call, item in _pairs(calls, work))
            pending = [self._start(item, stack) for item in work]
            return tuple(self._report(call, wait()) for call, wait in zip(calls, pending, strict=True))

    async def arun(self, calls: Sequence[ToolCall], *, within: float | None = None) -> tuple[ToolResult, ...]:
        """Run the calls from async code; the results in the order of the calls.

        ``within`` bounds each call in seconds, whatever longer time its tool may take.

        Async tools run as tasks, sync ones in threads. A cancellation is passed on to the tools.
        """
        work: list[ToolResult | ReadyCall] = []
        try:
            work.extend(self.prepare(call, within) for call in calls)
            return tuple(await _gather([self._arun_one(call, item) for call, item in _pairs(calls, work)]))
        finally:
            for item in work:
                if isinstance(item, ReadyCall):
                    item.settle("neutral")  # only counts where nothing else was said

    # ── one call ─────────────────────────────────────────────────────────────────────────

    def prepare(self, call: ToolCall, within: float | None = None) -> ToolResult | ReadyCall:
        """The result at once where the call cannot run; otherwise the call, ready to run.

        A ready call has entered the guard: `finish` it, or ``settle`` it as ``neutral``.
        """
        if call.error is not None:
            text = error_text("invalid_arguments", call.error, "send the arguments as one JSON object")
            return _failed(call, "invalid_arguments", text)
        tool = self._tools.get(call.name)
        if tool is None:
            return _failed(call, "unknown_tool", self._unknown(call.name))
        try:
            args, kwargs = tool.bind(call.arguments)
        except ToolArgumentsError as exc:
            return _failed(call, "invalid_arguments", describe_error(exc))
        try:
            permit: Permit = _NoPermit() if self._guard is None else self._guard.enter(tool.name)
        except CircuitOpenError as exc:
            return _failed(call, "tool_unavailable", unavailable_text(tool.name, exc))
        timeout = tool.timeout if tool.timeout is not None else self._timeout
        is_hurried = within is not None and (timeout is None or within < timeout)
        if is_hurried:
            timeout = within
        function = functools.partial(tool.function, *args, **kwargs)
        return ReadyCall(call, tool, Invocation(function, tool.is_async, timeout), permit, is_hurried)

    def finish(self, ready: ReadyCall, outcome: Outcome) -> ToolResult:
        """The result for the model; the guard is told how it went.

        Raises the `KeyboardInterrupt` of an outcome that has one.
        """
        if isinstance(outcome.error, KeyboardInterrupt):
            ready.settle("neutral")
            raise outcome.error
        if outcome.timed_out:
            ready.settle("neutral" if ready.is_hurried else "failure")
            text = error_text(
                "tool_timeout",
                f"the tool {ready.tool.name!r} did not finish within {ready.invocation.timeout:g} s",
                "ask for less, try again later, or go on without it",
            )
            return _failed(ready.call, "tool_timeout", text, outcome.seconds)
        error = outcome.error
        if error is None:
            try:
                content = render(outcome.value)
            except Exception as exc:  # noqa: BLE001 (the value's own code runs here)
                error = exc
            else:
                ready.settle("success")
                return ToolResult(ready.call.id, ready.call.name, content, duration_ms=outcome.seconds * 1000)
        ready.settle("neutral" if blames_the_caller(error) else "failure")
        return _failed(ready.call, error_code(error), describe_error(error), outcome.seconds)

    def _prepare(self, call: ToolCall, stack: ExitStack, within: float | None) -> ToolResult | ReadyCall:
        item = self.prepare(call, within)
        if isinstance(item, ReadyCall):
            stack.callback(item.settle, "neutral")  # only counts where nothing else was said
        return item

    def _run_here(self, item: ToolResult | ReadyCall) -> ToolResult:
        if isinstance(item, ToolResult):
            return item
        return self.finish(item, running.run_here(item.invocation))

    def _start(self, item: ToolResult | ReadyCall, stack: ExitStack) -> Callable[[], ToolResult]:
        """Start a ready call; a function that waits for its result."""
        if isinstance(item, ToolResult):
            return lambda: item
        future: Future[Outcome] = running.start(item.invocation)
        stack.callback(future.cancel)
        began = time.perf_counter()
        return lambda: self.finish(item, running.finish(future, item.invocation, began))

    async def _arun_one(self, call: ToolCall, item: ToolResult | ReadyCall) -> ToolResult:
        if isinstance(item, ReadyCall):
            item = self.finish(item, await running.arun(item.invocation))
        return self._report(call, item)

    def _report(self, call: ToolCall, result: ToolResult) -> ToolResult:
        if self._on_result is not None:
            self._on_result(call, result)
        return result

    # ── the tools there are ──────────────────────────────────────────────────────────────

    def _available(self) -> list[Tool[..., Any]]:
        guard = self._guard
        return [tool for tool in self._tools.values() if guard is None or guard.available(tool.name)]

    def _unknown(self, name: str) -> str:
        names = [tool.name for tool in self._available()]
        if not names:
            return error_text("unknown_tool", f"there is no tool {name!r}", "answer without tools")
        close = difflib.get_close_matches(name, names, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        return error_text(
            "unknown_tool", f"there is no tool {name!r}", f"{meant}Available tools: {', '.join(names)}"
        )


def _pairs(
    calls: Sequence[ToolCall], work: Sequence[ToolResult | ReadyCall]
) -> list[tuple[ToolCall, ToolResult | ReadyCall]]:
    return list(zip(calls, work, strict=True))


def _runs_here(ready: ReadyCall) -> bool:
    return not ready.invocation.is_async and ready.invocation.timeout is None


async def _gather(coroutines: list[Coroutine[Any, Any, ToolResult]]) -> list[ToolResult]:
    """All results in order. If one raises, or the caller is cancelled, the others are cancelled."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _failed(call: ToolCall, code: str, text: str, seconds: float = 0.0) -> ToolResult:
    return ToolResult(call.id, call.name, text, True, code, seconds * 1000)


def _place(tool: Tool[..., Any]) -> str:
    return f"{tool.__module__}.{label(tool.function)}"
