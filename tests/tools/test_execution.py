from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from loom_py._concurrency import WORKER_THREADS, run_coroutine
from loom_py.errors import CircuitOpenError, QueryRefusedError, ToolDefinitionError, ToolError
from loom_py.messages import ToolCall, ToolResult
from loom_py.tools import ToolExecutor, as_tool, tool

MODES = ["sync", "async", "sync beneath a loop"]
REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


async def perform(mode: str, executor: ToolExecutor, calls: list[ToolCall]) -> tuple[ToolResult, ...]:
    """Run the calls in one of the modes."""
    if mode == "sync":
        return await asyncio.to_thread(executor.run, calls)
    if mode == "async":
        return await executor.arun(calls)
    return executor.run(calls)


def call(name: str, id: str = "c", **arguments: Any) -> ToolCall:
    return ToolCall(id, name, arguments)


def run_one(function: Callable[..., Any], **arguments: Any) -> ToolResult:
    made = as_tool(function)
    return ToolExecutor([made]).run([call(made.name, **arguments)])[0]


@tool
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@tool
async def aadd(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


@tool
def fail(text: str) -> None:
    raise ValueError(text)


@tool
def leave() -> None:
    raise SystemExit(2)


@tool
async def aleave() -> None:
    raise SystemExit(2)


@tool
async def cancel_itself() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("mode", MODES)
async def test_results_come_in_call_order_whatever_each_call_does(mode: str) -> None:
    executor = ToolExecutor([add, aadd, fail, leave, aleave, cancel_itself])
    calls = [
        call("aadd", "1", a="2"),
        call("fail", "2", text="boom"),
        call("nothing", "3"),
        call("add", "4", a=1, b=5),
        call("leave", "5"),
        call("aleave", "6"),
        call("cancel_itself", "7"),
        call("add", "8"),
        ToolCall.parse("9", "add", "{oops"),
    ]
    results = await perform(mode, executor, calls)
    assert [result.call_id for result in results] == list("123456789")
    assert [result.error_code for result in results] == [
        None,
        "tool_error",
        "unknown_tool",
        None,
        "tool_error",
        "tool_error",
        "tool_error",
        "invalid_arguments",
        "invalid_arguments",
    ]
    assert [results[0].content, results[3].content] == ["3", "6"]
    assert results[1].content == "Error (tool_error): ValueError: boom"
    assert results[4].content == results[5].content == "Error (tool_error): SystemExit: 2"
    assert results[7].text.startswith("Error (invalid_arguments): a: field required\nSuggestion: Expected")
    assert "not valid JSON" in results[8].content
    assert results[0].duration_ms > 0 == results[2].duration_ms


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_calls_of_one_reply_run_at_the_same_time(mode: str, kind: str) -> None:
    met = threading.Barrier(3, timeout=5)

    @tool
    def meet() -> str:
        met.wait()
        return "met"

    @tool
    async def ameet() -> str:
        await asyncio.to_thread(met.wait)
        return "met"

    made = meet if kind == "sync" else ameet
    results = await perform(mode, ToolExecutor([made]), [call(made.name, str(n)) for n in range(3)])
    assert [result.content for result in results] == ["met"] * 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 2])
async def test_context_variables_reach_the_tools_and_do_not_leak_out(mode: str, count: int) -> None:
    @tool
    def read() -> str:
        seen = REQUEST.get()
        REQUEST.set("changed by the tool")
        return seen

    @tool
    async def aread() -> str:
        seen = REQUEST.get()
        REQUEST.set("changed by the tool")
        return seen

    REQUEST.set("r-1")
    for made in (read, aread):
        results = await perform(mode, ToolExecutor([made]), [call(made.name)] * count)
        assert [result.content for result in results] == ["r-1"] * count
    assert REQUEST.get() == "r-1"


def test_a_single_sync_call_without_a_timeout_runs_in_the_callers_thread() -> None:
    @tool
    def where() -> str:
        return threading.current_thread().name

    here = threading.current_thread().name
    assert ToolExecutor([where]).run([call("where")])[0].content == here
    assert ToolExecutor([where], timeout=5).run([call("where")])[0].content != here


@pytest.mark.parametrize("mode", MODES)
async def test_a_slow_tool_times_out_and_the_others_do_not(mode: str) -> None:
    stop = threading.Event()
    cancelled = threading.Event()

    @tool
    def slow() -> None:
        stop.wait(5)

    @tool
    async def aslow() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            cancelled.set()

    @tool(timeout=4)
    def patient() -> str:
        time.sleep(0.15)
        return "done"

    executor = ToolExecutor([slow, aslow, patient], timeout=0.05)
    began = time.perf_counter()
    slow_result, aslow_result, patient_result = await perform(
        mode, executor, [call("slow"), call("aslow"), call("patient")]
    )
    stop.set()
    assert time.perf_counter() - began < 2
    assert slow_result.error_code == aslow_result.error_code == "tool_timeout"
    assert "'slow' did not finish within 0.05 s\nSuggestion: " in slow_result.content
    assert slow_result.duration_ms >= 50
    assert cancelled.wait(1)
    assert patient_result.content == "done"


async def test_a_tool_that_ignores_its_cancellation_holds_nobody_up() -> None:
    stubborn_ended = asyncio.Event()

    @tool(timeout=0.02)
    async def stubborn() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            await asyncio.sleep(1.3)
        stubborn_ended.set()

    (result,) = await ToolExecutor([stubborn]).arun([call("stubborn")])
    assert result.error_code == "tool_timeout"
    assert not stubborn_ended.is_set()
    await asyncio.wait_for(stubborn_ended.wait(), 5)


@pytest.mark.parametrize("mode", MODES)
async def test_a_timeout_error_of_the_tool_itself_is_an_ordinary_error(mode: str) -> None:
    @tool
    def hasty() -> None:
        raise TimeoutError("the database")

    (result,) = await perform(mode, ToolExecutor([hasty], timeout=5), [call("hasty")])
    assert (result.error_code, result.content) == (
        "tool_error",
        "Error (tool_error): TimeoutError: the database",
    )


def test_nesting_deeper_than_the_pool_does_not_starve() -> None:
    """Each level waits, in its thread, for two calls of the next level."""

    @tool
    def descend(depth: int) -> str:
        if depth == 0:
            return "bottom"
        return executor.run([call("descend", depth=depth - 1), call("descend", depth=0)])[0].text

    executor = ToolExecutor([descend], timeout=60)
    assert executor.run([call("descend", depth=WORKER_THREADS + 10)])[0].content == "bottom"


def test_an_async_tool_may_run_async_tools_by_blocking() -> None:
    @tool
    async def outer() -> str:
        return ToolExecutor([aadd]).run([call("aadd", a=1), call("aadd", a=2)])[1].text

    assert ToolExecutor([outer]).run([call("outer")])[0].content == "3"

    async def on_the_bridge() -> str:
        return ToolExecutor([aadd], timeout=5).run([call("aadd", a=4)])[0].text

    assert run_coroutine(on_the_bridge()) == "5"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 2])
async def test_awaitables_and_generators_are_followed(mode: str, count: int) -> None:
    @tool
    def hidden(a: int) -> Any:
        return aadd(a)

    @tool
    def numbers() -> Any:
        yield from range(3)

    @tool
    async def anumbers() -> Any:
        for n in range(3):
            yield n

    executor = ToolExecutor([hidden, numbers, anumbers])
    for name, arguments, expected in (
        ("hidden", {"a": 1}, "2"),
        ("numbers", {}, "[0,1,2]"),
        ("anumbers", {}, "[0,1,2]"),
    ):
        results = await perform(mode, executor, [ToolCall("c", name, arguments)] * count)
        assert [result.content for result in results] == [expected] * count


@pytest.mark.parametrize("count", [1, 2])
async def test_a_cancellation_reaches_the_async_tools(count: int) -> None:
    started, cleaned = asyncio.Semaphore(0), []

    @tool
    async def forever() -> None:
        try:
            started.release()
            await asyncio.sleep(60)
        finally:
            cleaned.append(1)

    guard = Guard()
    task = asyncio.create_task(ToolExecutor([forever], guard=guard).arun([call("forever")] * count))
    for _ in range(count):
        await started.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(cleaned) == count
    assert guard.verdicts == [("forever", "neutral")] * count


@pytest.mark.parametrize("others", [0, 1])
def test_an_interrupt_of_the_user_comes_through(others: int) -> None:
    @tool
    def interrupted() -> None:
        raise KeyboardInterrupt

    guard = Guard()
    with pytest.raises(KeyboardInterrupt):
        ToolExecutor([interrupted, add], guard=guard).run([call("interrupted")] + [call("add", a=1)] * others)
    assert sorted(guard.verdicts) == [("add", "neutral")] * others + [("interrupted", "neutral")]


# ── what the model reads ─────────────────────────────────────────────────────────────────


class City(BaseModel):
    name: str
    founded: date


@dataclass
class Spot:
    x: Decimal
    tags: set[str]


class Opaque:
    def __str__(self) -> str:
        return "an opaque\nthing"


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n{}", "as it is\n{}"),
        ("", ""),
        (None, "OK (the tool returned nothing)"),
        (True, "true"),
        (math.inf, '"Infinity"'),
        ({"a": [1, None], 2: "ü"}, '{"a":[1,null],"2":"ü"}'),
        (City(name="Rome", founded=date(1, 2, 3)), '{"name":"Rome","founded":"0001-02-03"}'),
        ([Spot(Decimal("1.50"), {"t"})], '[{"x":"1.50","tags":["t"]}]'),
        (b"text", '"text"'),
        (b"\xff\xfe", '"__4="'),
        (Opaque(), "an opaque\nthing"),
        ({"thing": Opaque()}, '{"thing":"an opaque\\nthing"}'),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_return_values_become_text(value: object, text: str) -> None:
    def give() -> Any:
        return value

    result = run_one(give)
    assert (result.content, result.is_error) == (text, False)


def test_a_value_that_cannot_be_shown_is_a_tool_error() -> None:
    def give() -> Any:
        return Unshowable()

    result = run_one(give)
    assert (result.error_code, result.content) == ("tool_error", "Error (tool_error): RuntimeError: no text")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError(), "tool_error", "Error (tool_error): ValueError"),
        (
            ToolError("no such city", hint="use its English name"),
            "tool_error",
            "Error (tool_error): no such city\nSuggestion: use its English name",
        ),
        (
            QueryRefusedError("DELETE is not allowed", hint="only SELECT"),
            "tool_error",
            "Error (query_refused): DELETE is not allowed\nSuggestion: only SELECT",
        ),
        (Mute(), "tool_error", "Error (tool_error): Mute (its message cannot be shown)"),
        (
            ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
            "tool_error",
            "Error (tool_error): ExceptionGroup: two (2 sub-exceptions): ValueError: a; KeyError: 'b'",
        ),
    ],
)
def test_exceptions_become_text_with_a_suggestion(error: Exception, code: str, text: str) -> None:
    def give() -> None:
        raise error

    result = run_one(give)
    assert (result.is_error, result.error_code, result.content) == (True, code, text)


def test_a_very_long_message_is_cut() -> None:
    result = run_one(fail, text="x" * 100_000)
    assert len(result.content) < 5000
    assert "100012 characters in all" in result.content


def test_an_unknown_tool_is_answered_with_the_near_name_and_all_names() -> None:
    (result,) = ToolExecutor([add, fail]).run([call("ad")])
    assert result.content == (
        "Error (unknown_tool): there is no tool 'ad'\n"
        "Suggestion: did you mean 'add'? Available tools: add, fail"
    )
    (result,) = ToolExecutor([]).run([call("ad")])
    assert result.text.endswith("answer without tools")


# ── the guard, the observer, the list of tools ───────────────────────────────────────────


@dataclass
class Guard:
    """Notes every verdict; ``closed_for`` may not run."""

    closed_for: frozenset[str] = frozenset()
    verdicts: list[tuple[str, str]] = field(default_factory=list)

    def available(self, name: str) -> bool:
        return name not in self.closed_for

    def enter(self, name: str) -> NotingPermit:
        if name in self.closed_for:
            raise CircuitOpenError(f"{name} is open", retry_after=12)
        return NotingPermit(self, name)


@dataclass
class NotingPermit:
    guard: Guard
    name: str

    def success(self) -> None:
        self.guard.verdicts.append((self.name, "success"))

    def failure(self) -> None:
        self.guard.verdicts.append((self.name, "failure"))

    def neutral(self) -> None:
        self.guard.verdicts.append((self.name, "neutral"))


@pytest.mark.parametrize("mode", MODES)
async def test_the_guard_is_told_exactly_once_how_each_call_went(mode: str) -> None:
    @tool(timeout=0.02)
    async def slow() -> None:
        await asyncio.sleep(5)

    @tool
    def refused() -> None:
        raise QueryRefusedError("no")

    @tool
    def misused() -> None:
        raise ToolError("no", code="invalid_arguments")

    guard = Guard()
    executor = ToolExecutor([add, fail, slow, refused, misused], guard=guard)
    await perform(
        mode,
        executor,
        [
            call("add", a=1),
            call("add"),
            call("fail", text="x"),
            call("slow"),
            call("refused"),
            call("misused"),
            call("unknown"),
        ],
    )
    assert sorted(guard.verdicts) == [
        ("add", "success"),
        ("fail", "failure"),
        ("misused", "neutral"),
        ("refused", "neutral"),
        ("slow", "failure"),
    ]


@pytest.mark.parametrize("mode", MODES)
async def test_a_tool_that_is_switched_off_is_neither_offered_nor_run(mode: str) -> None:
    executor = ToolExecutor([add, fail, aadd], guard=Guard(frozenset({"fail"})))
    assert [spec.name for spec in executor.specs()] == ["add", "aadd"]
    (result,) = await perform(mode, executor, [call("fail", text="x")])
    assert result.error_code == "tool_unavailable"
    assert "it may be back in 12 s" in result.content
    assert "Suggestion: do not use 'fail' for now" in result.content


@pytest.mark.parametrize("mode", MODES)
async def test_the_observer_sees_each_result_once(mode: str) -> None:
    seen: list[tuple[ToolCall, ToolResult]] = []
    executor = ToolExecutor([add], on_result=lambda call, result: seen.append((call, result)))
    calls = [call("add", "1", a=1), call("nothing", "2"), call("add", "3", a=3)]
    results = await perform(mode, executor, calls)
    assert sorted(seen, key=lambda pair: pair[0].id) == list(zip(calls, results, strict=True))


async def test_no_calls_give_no_results() -> None:
    executor = ToolExecutor([add])
    assert executor.run([]) == await executor.arun([]) == ()


def test_two_tools_of_one_name_are_refused_with_both_functions() -> None:
    with pytest.raises(ToolDefinitionError, match=r"'add': .*\.add and .*\.fail") as caught:
        ToolExecutor([add, tool(fail, name="add")])
    assert caught.value.hint
    with pytest.raises(ToolDefinitionError, match="two tools are called 'add'"):
        ToolExecutor([add, add])


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan])
def test_a_bad_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ToolDefinitionError, match="timeout for tools"):
        ToolExecutor([add], timeout=timeout)
