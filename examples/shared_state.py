"""Two agents act as one: what one learns of a deployment the other knows, and they share a budget.

Each could be a process on a machine of its own. If this machine has a redis-server, one is started.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from loom_py import AgentBuilder, AzureEmulator, LoomError, ScriptedProvider, TokenUsage, reply
from loom_py.errors import BudgetExceededError


@contextlib.contextmanager
def redis_server(program: str) -> Iterator[str]:
    """The URL of a Redis of our own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [program, "--bind", "127.0.0.1", "--port", port, "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - found on the path
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port))):
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


if (found := shutil.which("redis-server")) is None:
    print("There is no redis-server here: nothing to show.")
    sys.exit()

model = ScriptedProvider(lambda request: reply("Hello!", tokens=TokenUsage(20, 380)))
with redis_server(found) as url, AzureEmulator(model) as azure:
    base = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs(), max_tokens=1000)
    guarded = base.with_circuit_breakers().with_retries(max_attempts=1).with_shared_state(url, timeout=5)
    with guarded.build() as one, guarded.build() as other:
        azure.fail_next(503, times=5)
        for agent in (one, one, one, one, one, other):
            with contextlib.suppress(LoomError):
                agent.chat("Are you there?")
        print(f"{len(azure.requests)} requests, none by the other one: {other.health().shared}")

    limited = base.with_budget(tokens=10_000, per="agent").with_shared_state(url, prefix="money", timeout=5)
    with limited.build() as one, limited.build() as other:
        with contextlib.suppress(BudgetExceededError):
            for number in range(100):
                (one, other)[number % 2].chat("Hello!")
        answers = one.costs().calls, other.costs().calls
        print(f"10,000 tokens were {answers[0]} answers for one and {answers[1]} for the other")
