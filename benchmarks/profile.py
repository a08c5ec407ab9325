"""Where the CPU of an agent goes: ``python -m benchmarks.profile [--seconds 3] [--json FILE]``.

A thousand times per second of CPU a look is taken at what the process is doing, and counted for the part
that the innermost known frame belongs to: what the standard library does, such as JSON, counts for its
caller. Time of tool threads counts for what the main thread does meanwhile, mostly waiting in the event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Self

from benchmarks.race import ROOT, canned_server

INTERVAL = 0.001
"""Seconds of CPU between two looks."""

WORK: dict[str, tuple[str, str, int]] = {
    "plain call": ("plain", "ask", 1),
    "10 tool rounds": ("rounds=10", "ask", 1),
    "stream": ("stream=2000", "stream", 1),
    "100 in flight": ("rounds=3", "ask", 100),
}
"""What is profiled -> the server's scenario, the verb, and how many chats at once."""

PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "transport and sockets",
        (
            "/asyncio/selector_events.py",
            "/asyncio/sslproto.py",
            "/httpcore2/",
            "/h11/",
            "/aiohttp/",
            "/anyio/",
            "/sniffio/",
            "/yarl/",
            "/multidict/",
            "/llm/azure/sockets.py",
            "/llm/azure/pools.py",
            "/llm/azure/sharing.py",
            "/llm/azure/dialling.py",
            "/llm/azure/aiohttp_transport.py",
        ),
    ),
    ("event loop", ("/asyncio/", "/selectors.py")),
    ("the SDK and httpx", ("/openai/", "/httpx2/", "/llm/azure/prepared.py", "/llm/azure/connections.py")),
    ("decoding", ("/llm/azure/sse.py", "/llm/azure/stream.py", "/llm/azure/repeats.py")),
    ("encoding", ("/llm/azure/wire.py", "/llm/azure/surfaces.py", "/llm/azure/schema.py")),
    ("the client and costs", ("/loom_py/llm/",)),
    ("policies", ("/loom_py/resilience/",)),
    ("tools and threads", ("/loom_py/tools/", "/threading.py", "/concurrent/futures/")),
    ("the agent", ("/loom_py/",)),
)
"""Parts of an agent -> pieces of the paths of their files; the first that fits."""

ORDER = (*(name for name, _ in PARTS), "other")


class Profile:
    """Counts looks per part, while it is entered."""

    def __init__(self) -> None:
        self.looks: Counter[str] = Counter()
        self._known: dict[Any, str | None] = {}

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _look(self, _: int, frame: FrameType | None) -> None:
        while frame is not None:
            code = frame.f_code
            if code not in self._known:
                self._known[code] = part_of(code.co_filename, code.co_name)
            part = self._known[code]
            if part is not None:
                self.looks[part] += 1
                return
            frame = frame.f_back
        self.looks["other"] += 1


def part_of(path: str, function: str) -> str | None:
    """The part that a function belongs to, ``None`` for one that works for its caller."""
    path = path.replace(os.sep, "/")
    if "/llm/azure/wire.py" in path and "decode" in function:
        return "decoding"
    for part, pieces in PARTS:
        if any(piece in path for piece in pieces):
            return part
    return None


def profile(endpoint: str, verb: str, together: int, seconds: float, way: str) -> dict[str, float]:
    """The share of each part in the CPU of an agent's chats."""
    from benchmarks.contenders.loom import LoomAgent

    contender = LoomAgent(way)

    async def chats() -> None:
        ask = contender.stream if verb == "stream" else contender.ask
        await asyncio.gather(*(ask(endpoint) for _ in range(together)))

    async def work(until: float) -> None:
        await chats()
        while time.process_time() < until:
            await chats()

    with asyncio.Runner() as runner:
        runner.run(work(0.0))
        with Profile() as found:
            runner.run(work(time.process_time() + seconds))
        runner.run(contender.aclose())
    looks = found.looks.total()
    return {part: found.looks[part] / looks for part in ORDER}


def main() -> None:
    """Profile each kind of work, with the extra ``fast`` and without, in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of CPU for each profile (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the shares to this file")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        endpoint, verb, together, way = arguments.one
        print(json.dumps(profile(endpoint, verb, int(together), arguments.seconds, way)))
        return
    shares: dict[str, dict[str, float]] = {}
    with canned_server([scenario for scenario, _, _ in WORK.values()]) as endpoints:
        for name, (scenario, verb, together) in WORK.items():
            for way, suffix in (("core", ""), ("fast", ", fast")):
                one = ["--one", endpoints[scenario], verb, str(together), way]
                command = [sys.executable, "-m", "benchmarks.profile", "--seconds", str(arguments.seconds)]
                done = subprocess.run([*command, *one], cwd=ROOT, stdout=subprocess.PIPE, check=True)
                shares[name + suffix] = json.loads(done.stdout)
    print(table(shares))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(shares, indent=1) + "\n")


def table(shares: dict[str, dict[str, float]]) -> str:
    """The shares as a markdown table, in percent."""
    lines = [f"| share of CPU, % | {' | '.join(shares)} |", f"| --- |{' --: |' * len(shares)}"]
    for part in ORDER:
        cells = (f"{found[part] * 100:.0f}" for found in shares.values())
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
