"""What a call costs in CPU: the plain SDK, our client, and a whole agent with breakers."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CALLS = 60


@contextmanager
def canned_server() -> Iterator[str]:
    """The canned server in a process of its own; its address."""
    command = [sys.executable, "-m", "benchmarks.canned_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def measure(rounds: int) -> dict[str, float]:
    """CPU microseconds of one call per way, median of interleaved ``rounds``."""
    with canned_server() as endpoint:
        ways = _ways(endpoint)
        for call in ways.values():
            _cpu_of(call)
        runs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, call in ways.items():
                runs[name].append(_cpu_of(call))
    return {name: statistics.median(values) * 1e6 for name, values in runs.items()}


def _ways(endpoint: str) -> dict[str, Callable[[], object]]:
    from openai import AzureOpenAI
    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

    from loom_py import AgentBuilder, AzureOpenAIClient, Message, tool

    @tool
    def get_weather(city: str, days: int = 1) -> str:
        """The weather of a city."""
        return f"{city}: sunny for {days} days"

    sdk = AzureOpenAI(azure_endpoint=endpoint, api_key="key", api_version="2024-10-21", max_retries=0)
    sdk_messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "What is the answer?"},
    ]
    sdk_tools: list[ChatCompletionToolParam] = [
        {
            "type": "function",
            "function": {
                "name": get_weather.name,
                "description": get_weather.description,
                "parameters": dict(get_weather.parameters),
            },
        }
    ]
    client = AzureOpenAIClient(endpoint=endpoint, deployment_id="gpt-4o", api_key="key")
    messages = [Message.system("You are helpful."), Message.user("What is the answer?")]
    specs = (get_weather.spec,)
    agent = (
        AgentBuilder()
        .with_azure_openai_llm(endpoint, "gpt-4o", "key")
        .with_tools(get_weather)
        .with_system_prompt("You are helpful.")
        .with_circuit_breakers()
        .build()
    )
    return {
        "openai create()": lambda: sdk.chat.completions.create(
            model="gpt-4o", messages=sdk_messages, tools=sdk_tools
        ),
        "AzureOpenAIClient.chat()": lambda: client.chat(messages, specs),
        "Agent.chat() with breakers": lambda: agent.chat("What is the answer?"),
    }


def _cpu_of(call: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - start) / CALLS


def table(figures: dict[str, float]) -> str:
    """The figures as text, with their ratio to the plain SDK."""
    plain = figures["openai create()"]
    lines = ["One call with one tool, CPU time and ratio to the SDK used the usual way:"]
    lines += [f"  {name:36} {value:8.0f} µs  {value / plain:5.2f}" for name, value in figures.items()]
    return "\n".join(lines) + "\n"
