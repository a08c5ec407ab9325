"""A bound on the calls of providers that keep to none.

The time that an attempt has travels to the provider in its `ChatOptions`. One that keeps to it says so
(``keeps_timeouts``) and is called as it is. Any other is waited for from outside: what blocks runs in a
thread of its own, what is async in a task of its own, and whoever waits goes away when the time is over. A
task is cancelled then; a thread cannot be, and is left to end by itself: what it still brings is dropped.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from loom_py._concurrency import CLOSING_TIME, iter_from_async, on_bridge, run_coroutine, running_loop
from loom_py.errors import RequestTimeoutError
from loom_py.events import StreamEvent
from loom_py.llm.provider import BaseProvider, LLMProvider
from loom_py.messages import Message, ToolSpec
from loom_py.options import ChatOptions
from loom_py.tools.threads import in_thread

__all__ = ["Question", "aask", "aevents", "ask", "events", "needs_bound"]

GRACE = 0.25
"""Seconds that cancelled async code is given to wind up before it is left alone."""

BUILT_ON = {
    "chat": ("chat", "stream_chat", "achat", "astream_chat"),
    "stream_chat": ("stream_chat", "astream_chat", "chat", "achat"),
    "achat": ("achat", "astream_chat", "chat", "stream_chat"),
    "astream_chat": ("astream_chat", "stream_chat", "achat", "chat"),
}
"""What each verb of a `BaseProvider` is made of: the first of these that its class defines."""

_END = object()


def needs_bound(provider: LLMProvider, options: ChatOptions | None) -> bool:
    """Whether a call has to be waited for from outside: it has a bound, and the provider may not care."""
    if options is None or (options.timeout is None and options.total_timeout is None):
        return False
    return not getattr(provider, "keeps_timeouts", False)


class Question:
    """What a provider is asked that keeps to no time, and how long that may take."""

    __slots__ = ("_end", "messages", "options", "provider", "tools")

    def __init__(
        self,
        provider: LLMProvider,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
    ) -> None:
        self.provider = provider
        self.messages = messages
        self.tools = tools
        self.options = options
        total = None if options is None else options.total_timeout
        self._end = None if total is None else time.monotonic() + total

    def call(self, verb: str) -> Any:
        """Call a verb of the provider."""
        return getattr(self.provider, verb)(self.messages, self.tools, options=self.options)

    def is_async(self, verb: str) -> bool:
        """Whether that verb is made of async code."""
        if not isinstance(self.provider, BaseProvider):
            return verb.startswith("a")
        kind = type(self.provider)
        own = (name for name in BUILT_ON[verb] if getattr(kind, name) is not getattr(BaseProvider, name))
        return next(own, verb).startswith("a")

    def patience(self) -> float | None:
        """Seconds to wait from now on."""
        read = None if self.options is None else self.options.timeout
        if self._end is None:
            return read
        left = max(0.0, self._end - time.monotonic())
        return left if read is None else min(read, left)

    def late(self) -> RequestTimeoutError:
        """Says that the time is over."""
        provider, options = self.provider, self.options
        assert options is not None
        if self._end is not None and time.monotonic() >= self._end:
            what = f"timed out: the call was not over after {options.total_timeout:g} s"
        else:
            what = f"timed out waiting for an answer after {options.timeout:g} s"
        return RequestTimeoutError(
            what,
            deployment=provider.model,
            hint=f"Provider {provider.name!r} did not end the call by itself (ChatOptions.timeout,"
            " total_timeout): blocking code goes on in its thread until it returns.",
        )


# ── one reply ────────────────────────────────────────────────────────────────────────────


def ask(question: Question) -> Any:
    """The reply of ``chat``. Raises `RequestTimeoutError` when the time is over."""
    if question.is_async("chat"):
        return run_coroutine(aask(question))
    return _waited(in_thread(partial(question.call, "chat")), question)


async def aask(question: Question) -> Any:
    """The reply of ``achat``. Raises `RequestTimeoutError` when the time is over."""
    if not question.is_async("achat"):
        return await _awaited_thread(in_thread(partial(question.call, "chat")), question)
    task = asyncio.ensure_future(question.call("achat"))
    try:
        return await _awaited(task, question)
    finally:
        if not task.done():
            await _hang_up(task)


def _waited(future: Future[Any], question: Question) -> Any:
    done, _ = concurrent.futures.wait([future], question.patience())
    if not done:
        raise question.late()
    return future.result()


async def _awaited(future: asyncio.Future[Any], question: Question) -> Any:
    done, _ = await asyncio.wait({future}, timeout=question.patience())
    if not done:
        raise question.late()
    return future.result()


async def _awaited_thread(future: Future[Any], question: Question) -> Any:
    wrapped = asyncio.wrap_future(future)
    try:
        return await _awaited(wrapped, question)
    finally:
        wrapped.cancel()  # nobody looks at what it brings later


async def _hang_up(task: asyncio.Future[Any]) -> None:
    """Cancel ``task``; one that does not heed it is left alone."""
    task.cancel()
    await _wait_for(task, GRACE)


async def _wait_for(task: asyncio.Future[Any], seconds: float) -> None:
    _left.add(task)  # an event loop does not keep its tasks alive
    task.add_done_callback(_forget)
    await asyncio.wait({task}, timeout=seconds)


_left: set[asyncio.Future[Any]] = set()
"""Tasks that nobody waits for any more."""


def _forget(task: asyncio.Future[Any]) -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, or asyncio complains that nobody did


# ── one reply as events ──────────────────────────────────────────────────────────────────


def events(question: Question) -> Iterator[StreamEvent]:
    """The events of ``stream_chat``. Raises `RequestTimeoutError` when the time is over."""
    if question.is_async("stream_chat"):
        return iter_from_async(lambda: aevents(question))
    return _in_steps(question)


def aevents(question: Question) -> AsyncIterator[StreamEvent]:
    """The events of ``astream_chat``. Raises `RequestTimeoutError` when the time is over."""
    if question.is_async("astream_chat"):
        return _in_task_steps(question)
    return _in_thread_steps(question)


def _in_steps(question: Question) -> Generator[StreamEvent, None, None]:
    """Blocking events, for blocking code."""
    thread = _ThreadSteps(lambda: question.call("stream_chat"))
    step: Future[Any] | None = None
    try:
        while (event := _waited(step := thread.step(), question)) is not _END:
            yield event
    finally:
        closed = thread.close()
        if (step is None or step.done()) and not on_bridge():
            concurrent.futures.wait([closed], CLOSING_TIME)


async def _in_thread_steps(question: Question) -> AsyncGenerator[StreamEvent, None]:
    """Blocking events, for async code."""
    thread = _ThreadSteps(lambda: question.call("stream_chat"))
    step: Future[Any] | None = None
    try:
        while True:
            step = thread.step()
            if (event := await _awaited_thread(step, question)) is _END:
                return
            yield event
    finally:
        closed = thread.close()
        if step is None or step.done():
            await asyncio.wait({asyncio.wrap_future(closed)}, timeout=CLOSING_TIME)


async def _in_task_steps(question: Question) -> AsyncGenerator[StreamEvent, None]:
    """Async events, for async code."""
    steps = _TaskSteps(lambda: question.call("astream_chat"))
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = steps.step()
            if (event := await _awaited(step, question)) is _END:
                return
            yield event
    finally:
        await steps.aclose(is_stuck=step is not None and not step.done())


class _ThreadSteps:
    """A blocking iterator that is made, advanced and closed in one thread, a step each time it is asked."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._wanted: queue.SimpleQueue[Future[Any] | None] = queue.SimpleQueue()
        self._over = in_thread(partial(self._run, make))
        if self._over.done():  # there was no thread to be had
            self._over.result()

    def step(self) -> Future[Any]:
        """The next item, or ``_END``."""
        wanted: Future[Any] = Future()
        wanted.set_running_or_notify_cancel()  # whoever waits may go, but the step is made
        self._wanted.put(wanted)
        return wanted

    def close(self) -> Future[None]:
        """Have the iterator closed, after the step that is under way; done when it is."""
        self._wanted.put(None)
        return self._over

    def _run(self, make: Callable[[], Any]) -> None:
        iterator: Any = None
        try:
            while (wanted := self._wanted.get()) is not None:
                try:
                    if iterator is None:
                        iterator = iter(make())
                    item = next(iterator, _END)
                except BaseException as exc:  # noqa: BLE001 - handed to whoever waits
                    wanted.set_exception(exc)
                    return
                wanted.set_result(item)
                del wanted, item
        finally:
            if (close := getattr(iterator, "close", None)) is not None:
                close()


class _TaskSteps:
    """An async iterator that is made, advanced and closed in one task, a step each time it is asked."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._bell = self._loop.create_future()
        self._task = asyncio.ensure_future(self._run(make))

    def step(self) -> asyncio.Future[Any]:
        """The next item, or ``_END``."""
        wanted: asyncio.Future[Any] = self._loop.create_future()
        self._bell.set_result(wanted)
        return wanted

    async def aclose(self, *, is_stuck: bool) -> None:
        """Have the iterator closed; one that ``is_stuck`` in a step is cancelled."""
        if running_loop() is not self._loop:
            return  # its event loop has ended, and nothing there will run again
        if not self._bell.done():
            self._bell.set_result(None)
        if is_stuck:
            await _hang_up(self._task)
        else:
            await _wait_for(self._task, CLOSING_TIME)

    async def _run(self, make: Callable[[], Any]) -> None:
        iterator: Any = None
        is_gone = False
        try:
            while (wanted := await self._bell) is not None:
                self._bell = self._loop.create_future()
                try:
                    if iterator is None:
                        iterator = aiter(make())
                    item = await anext(iterator, _END)
                except GeneratorExit:
                    raise
                except BaseException as exc:  # noqa: BLE001 - handed to whoever waits
                    wanted.set_exception(exc)
                    wanted.exception()  # nobody may wait any more
                    return
                wanted.set_result(item)
                del wanted, item
        except GeneratorExit:  # the event loop has ended
            is_gone = True
            raise
        finally:
            if not is_gone and (aclose := getattr(iterator, "aclose", None)) is not None:
                await aclose()
