"""Five bounds on time, each reached once: what the caller sees, and how long it took."""

from __future__ import annotations

import asyncio
import time

from loom_py import AgentBuilder, AzureEmulator, LoomError, ScriptedProvider, call, tool
from loom_py.emulator import FaultPlan, FaultRule
from loom_py.llm.scripted import Answer, ScriptedRequest


@tool
async def slow() -> str:
    """Take a minute."""
    await asyncio.sleep(60)
    return "done"


def model(request: ScriptedRequest) -> Answer:
    """Ask for the tool first, if there is one."""
    return call("slow") if request.messages[-1].role == "user" and request.tools else "word " * 200


def ask(title: str, builder: AgentBuilder, fault: FaultRule | None = None) -> None:
    """One chat against an emulator with that fault."""
    plan = FaultPlan(rules=[] if fault is None else [fault])
    with (
        AzureEmulator(ScriptedProvider(model), faults=plan) as azure,
        builder.with_azure_openai_llm(**azure.client_kwargs()).build() as agent,
    ):
        began = time.monotonic()
        try:
            for _ in agent.stream_chat("Go on."):
                pass
            outcome = "answered"
        except LoomError as error:
            outcome = error.code
        print(f"{title}: {outcome}, {len(azure.requests)} requests, {time.monotonic() - began:.1f} s")


quick = AgentBuilder().with_retries(initial_seconds=0.2, jitter_seconds=0)
ask("read=0.5", quick.with_timeouts(read=0.5), FaultRule(hang=True, times=1))
ask("total=0.5", quick.with_timeouts(total=0.5), FaultRule(bytes_per_second=5000))
ask("tool=0.5", quick.with_tools(slow).with_timeouts(tool=0.5))
ask("run=0.5", quick.with_tools(slow).with_timeouts(run=0.5))
ask("run=1, and an outage", quick.with_timeouts(run=1), FaultRule(error="503"))
