"""When Azure is ill: typed errors, what they tell, and a breaker that stops the calling.

This example needs the emulator, which can be told to fail: real deployments do not fail on command.
"""

from __future__ import annotations

import time

from loom_py import AgentBuilder, AzureEmulator, LoomError, ScriptedProvider
from loom_py.errors import CircuitOpenError, RateLimitError

with AzureEmulator(ScriptedProvider(["Well again.", "Quite well."])) as emulator:
    agent = (
        AgentBuilder()
        .with_azure_openai_llm(emulator.endpoint, "gpt-4o-deployment", emulator.api_key)
        .with_circuit_breakers(failure_threshold=3, open_seconds=0.2)
        .build()
    )
    with agent:
        emulator.fail_next(429, headers={"retry-after": "7"})
        try:
            agent.chat("Hello?")
        except RateLimitError as error:
            print(f"{error.code}: retry after {error.retry_after:g} s, HTTP {error.http_status}")

        emulator.fail_next(503, times=3)
        for attempt in range(1, 5):
            try:
                agent.chat("Hello?")
            except CircuitOpenError as error:
                print(f"attempt {attempt}: {error.code}, nothing was sent")
                time.sleep(error.retry_after or 0)
            except LoomError as error:
                print(f"attempt {attempt}: {error.code}, retryable: {error.retryable}")

        for question in ("Better now?", "Sure?"):  # two good probes close the breaker
            print(agent.chat(question).message)
        for breaker in agent.health().values():
            print(
                f"{breaker.name}: {breaker.state}, opened {breaker.times_opened} times since it last closed"
            )
