"""Many clients in one process: ``python -m benchmarks.many_clients [--json FILE]``.

An application may make a client for each of its users or agents. Measured are one more client, with its first
call and without, the memory and the sockets of a thousand that were all used, and a hundred agents at work
at once, each on a client of its own beside all of them on one. The server is another process on the loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contender import DEPLOYMENT, KEY, QUESTION, get_weather
from benchmarks.race import ROOT, canned_server
from benchmarks.worker import Timed, resident

ROUNDS = "rounds=3"


def client(endpoint: str) -> Any:
    """A client of its own."""
    from loom_py import AzureOpenAIClient

    return AzureOpenAIClient(endpoint=endpoint, deployment_id=DEPLOYMENT, api_key=KEY)


def agent(provider: Any) -> Any:
    """An agent with one tool that runs on the event loop."""
    from loom_py import AgentBuilder

    async def weather(city: str) -> str:
        """The weather of a city."""
        return get_weather(city)

    return AgentBuilder().with_llm(provider).with_tools(weather).with_circuit_breakers().build()


def sockets() -> int:
    """How many sockets this process has open; 0 where the system does not tell."""
    found = 0
    for descriptor in Path("/proc/self/fd").glob("*"):
        try:
            found += str(descriptor.readlink()).startswith("socket:")
        except OSError:  # the one that listed them
            continue
    return found


async def one_more(endpoint: str, count: int) -> dict[str, float]:
    """Microseconds of CPU that one more client takes, its first call, and a call after it."""
    from loom_py import Message

    asked = [Message.user(QUESTION)]
    kept = [client(endpoint)]
    await kept[0].achat(asked)
    with Timed() as made:
        kept += [client(endpoint) for _ in range(count)]
    with Timed() as first:
        for each in kept[1:]:
            await each.achat(asked)
    with Timed() as again:
        for each in kept[1:]:
            await each.achat(asked)
    for each in kept:
        await each.aclose()
    return {
        "one_more_us": made.per(count)["cpu"] * 1e6,
        "its_first_call_us": first.per(count)["cpu"] * 1e6,
        "a_later_call_us": again.per(count)["cpu"] * 1e6,
    }


async def memory(endpoint: str, count: int) -> dict[str, float]:
    """Resident memory, in MiB, and sockets of so many clients that were all used once."""
    from loom_py import Message

    asked = [Message.user(QUESTION)]
    kept = [client(endpoint) for _ in range(5)]
    for each in kept:
        await each.achat(asked)
    gc.collect()
    before, opened = resident(), sockets()
    for _ in range(count):
        kept.append(client(endpoint))
        await kept[-1].achat(asked)
    gc.collect()
    found = {"clients_mib": (resident() - before) / 2**20, "clients_sockets": float(sockets() - opened)}
    for each in kept:
        await each.aclose()
    return found


async def together(endpoint: str, agents: list[Any], batches: int) -> list[float]:
    """CPU seconds per chat, wall seconds per batch, and the slowest chat, medians."""
    slowest, walls, cpus = [], [], []

    async def chat(each: Any) -> float:
        began = time.perf_counter()
        await each.achat(QUESTION)
        return time.perf_counter() - began

    for _ in range(batches + 1):
        with Timed() as timed:
            took = await asyncio.gather(*map(chat, agents))
        slowest.append(max(took))
        walls.append(timed.wall)
        cpus.append(timed.cpu / len(agents))
    return [median(cpus[1:]) * 1e6, median(walls[1:]) * 1e3, median(slowest[1:]) * 1e3]


async def in_flight(endpoint: str, count: int, batches: int) -> dict[str, float]:
    """Agents that are all at work at once: each on a client of its own, and all on one."""
    from loom_py import AzureOpenAIClient

    found: dict[str, float] = {}
    shared: AzureOpenAIClient = client(endpoint)
    alone = [agent(client(endpoint)) for _ in range(count)]
    united = [agent(shared) for _ in range(count)]
    opened = sockets()
    for name, agents in (("own", alone), ("one", united)):
        cpu, wall, slowest = await together(endpoint, agents, batches)
        found |= {f"{name}_cpu_us": cpu, f"{name}_wall_ms": wall, f"{name}_slowest_ms": slowest}
        found[f"{name}_sockets"] = float(sockets() - opened)
    for each in [*alone, *united]:
        await each.aclose()
    await shared.aclose()
    return {f"agents_{count}_{name}": value for name, value in found.items()}


def in_threads(endpoint: str, threads: int, calls: int) -> dict[str, float]:
    """Blocking calls of threads at once, each thread with a client of its own."""
    from loom_py import Message

    asked = [Message.user(QUESTION)]
    clients = [client(endpoint) for _ in range(threads)]

    def work(each: Any) -> None:
        for _ in range(calls):
            each.chat(asked)

    opened = sockets()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, clients))
        with Timed() as timed:
            list(pool.map(work, clients))
    found = {"threads_cpu_us": timed.per(threads * calls)["cpu"] * 1e6}
    found["threads_sockets"] = float(sockets() - opened)
    for each in clients:
        each.close()
    return found


def main() -> None:
    """Measure, with the extra ``fast`` and without, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_clients", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--only", choices=("core", "fast"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure()))
        return
    found: dict[str, dict[str, float]] = {}
    for way in ("core", "fast"):
        command = [sys.executable, "-m", "benchmarks.many_clients", "--only", way]
        environment = os.environ | {"LOOM_FAST": "1" if way == "fast" else "0"}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
        found[way] = json.loads(done.stdout)
    print("| | core | fast |\n| --- | --: | --: |")
    for name in found["core"]:
        print(f"| {name} | {found['core'][name]:,.1f} | {found['fast'][name]:,.1f} |")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def measure(*, clients: int = 1_000, agents: int = 100, threads: int = 16) -> dict[str, float]:
    """All of it, in this process."""
    with canned_server(["plain", ROUNDS]) as endpoints, asyncio.Runner() as runner:
        return {
            **runner.run(memory(endpoints["plain"], clients)),
            **runner.run(one_more(endpoints["plain"], max(clients // 10, 1))),
            **runner.run(in_flight(endpoints[ROUNDS], agents, 3)),
            **in_threads(endpoints["plain"], threads, 40),
        }


if __name__ == "__main__":
    main()
