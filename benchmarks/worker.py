"""One contender in a process of its own: a request per line on standard input, an answer per line out.

``python -m benchmarks.worker MODULE:CLASS [ARGUMENT…]``. It needs the standard library and what the contender
needs, so that it runs in the environment of any of them.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from benchmarks.contender import ANSWER, Contender, Weather, conversation, streamed, wire_messages

REFERENCE_TEXT = json.dumps([{"role": "user", "content": f"message {n}", "n": n} for n in range(40)])


def reference() -> float:
    """Seconds of CPU of a fixed piece of Python: how fast this core is right now."""
    started = time.process_time()
    kept: dict[str, int] = {}
    for turn in range(20):
        for item in json.loads(REFERENCE_TEXT):
            name = f"{item['role']}-{item['n'] % 7}-{turn}"
            kept[name] = kept.get(name, 0) + len(item["content"])
        sorted(kept.items(), key=lambda pair: pair[1])
    return time.process_time() - started


class Timed:
    """CPU and wall seconds of a block, and of the reference on both sides of it."""

    def __enter__(self) -> Self:
        gc.collect()
        reference()
        self._reference = reference()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu, self.wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        self._reference = (self._reference + reference()) / 2

    @property
    def so_far(self) -> float:
        """CPU seconds since the block began."""
        return time.process_time() - self._cpu

    def per(self, units: int) -> dict[str, float]:
        """Seconds of one of so many units."""
        return {"cpu": self.cpu / units, "wall": self.wall / units, "reference": self._reference}


class Worker:
    """Does what it is asked with one contender, on one event loop."""

    def __init__(self, contender: Contender, runner: asyncio.Runner) -> None:
        self._contender = contender
        self._runner = runner
        self._histories: dict[int, Any] = {}

    def hello(self) -> dict[str, Any]:
        """Python and the versions that matter."""
        return {"python": sys.version.split()[0], "versions": self._contender.versions()}

    def run(
        self,
        *,
        verb: str,
        endpoint: str,
        count: int,
        together: int = 1,
        history: int = 0,
        tool_calls: int = 0,
        chunks: int = 0,
        least: float = 0.0,
    ) -> dict[str, float]:
        """Time ``count`` times ``together`` chats at once, each of which uses the tool ``tool_calls`` times.

        That is repeated until it has taken ``least`` seconds of CPU: too short a time cannot be measured.
        One round before it is not counted: connections that idled too long are opened again by then.
        Raises `AssertionError` where an answer is not what the server gave.
        """
        kept = self._history(history) if history else None
        if kept is None:
            self._histories.clear()  # nothing that lies about may slow the garbage collector down
        contender = self._contender

        def chat() -> Any:
            return contender.stream(endpoint) if verb == "stream" else contender.ask(endpoint, kept)

        expected = streamed(chunks) if verb == "stream" else ANSWER
        self._runner.run(_chats(chat, 1, together, expected))
        Weather.asked = 0
        with Timed() as timed:
            done = 0
            while done == 0 or timed.so_far < least:
                self._runner.run(_chats(chat, count, together, expected))
                done += count * together
        wanted = done * tool_calls
        assert Weather.asked == wanted, f"the tool ran {Weather.asked} times, not {wanted}"
        return timed.per(done * max(chunks, 1))

    def _history(self, length: int) -> Any:
        if length not in self._histories:
            self._histories = {length: self._contender.history(conversation(length))}
        return self._histories[length]

    def encode(self, *, history: int, encoder: str, count: int) -> dict[str, float]:
        """Time ``count`` encodings of that many messages, and nothing else."""
        messages = wire_messages(conversation(history))
        dumps = importlib.import_module(encoder).dumps
        compact = {"separators": (",", ":"), "ensure_ascii": False} if encoder == "json" else {}

        def once() -> bytes:
            encoded = dumps(messages, **compact)
            return encoded if isinstance(encoded, bytes) else encoded.encode()

        once()
        with Timed() as timed:
            for _ in range(count):
                once()
        return timed.per(count)

    def build(self, *, endpoint: str, count: int) -> dict[str, float]:
        """Time building ``count`` agents on one client; bytes of each as Python counts them."""
        kept = [self._make(endpoint) for _ in range(count)]
        kept.clear()
        with Timed() as timed:
            kept.extend(self._make(endpoint) for _ in range(count))
        kept.clear()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        kept = [self._make(endpoint) for _ in range(count)]
        gc.collect()
        size = (tracemalloc.get_traced_memory()[0] - before) / count
        tracemalloc.stop()
        return {**timed.per(count), "bytes": size}

    def idle(self, *, endpoint: str, count: int) -> dict[str, float]:
        """By how many bytes the process grows with ``count`` agents that do nothing."""
        self._runner.run(self._contender.ask(endpoint))
        kept = [self._make(endpoint) for _ in range(20)]
        gc.collect()
        before = resident()
        kept += [self._make(endpoint) for _ in range(count)]
        gc.collect()
        return {"bytes": float(resident() - before), "agents": float(len(kept) - 20)}

    def steady(self, *, endpoint: str, turns: int) -> dict[str, float]:
        """By how many bytes the process grows over ``turns`` chats, after as many that do not count."""

        async def chats(number: int) -> None:
            for _ in range(number):
                await self._contender.ask(endpoint)

        self._runner.run(chats(turns))
        gc.collect()
        before = resident()
        self._runner.run(chats(turns))
        gc.collect()
        return {"bytes": float(resident() - before), "turns": float(turns)}

    def _make(self, endpoint: str) -> Any:
        return self._contender.build(endpoint)


async def _chats(chat: Callable[[], Any], count: int, together: int, expected: str) -> None:
    for _ in range(count):
        answers = (
            [await chat()] if together == 1 else await asyncio.gather(*(chat() for _ in range(together)))
        )
        for answer in answers:
            assert answer == expected, f"answered {answer[:80]!r}, not {expected[:80]!r}"


def resident() -> int:
    """Bytes of memory the process occupies now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Answer requests until there are no more."""
    module, _, name = sys.argv[1].partition(":")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    try:
        contender = getattr(importlib.import_module(module), name)(*sys.argv[2:])
    except Exception as error:
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        return
    with asyncio.Runner() as runner:
        worker = Worker(contender, runner)
        _say(answers, {"result": worker.hello()})
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = {"result": getattr(worker, request.pop("do"))(**request)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
            _say(answers, answer)
        runner.run(contender.aclose())


def _say(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
