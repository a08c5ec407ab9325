"""150 chats on a quota that is too small for them: the quota is filled, the rest wait in line."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import NamedTuple

from loom_py import AgentBuilder, AzureEmulator, LoomError, ScriptedProvider, VirtualClock
from loom_py.emulator import Quota
from loom_py.llm.scripted import ScriptedRequest
from scripts.plots.style import COLORS, panels, save
from scripts.plots.virtual import together

QUOTA = 60_000
CHATS = 150
MAX_TOKENS = 1000
PROMPT = "Tell me of the loom. " * 100  # about 500 tokens
DEPLOYMENT = "gpt-4o-deployment"


class Moment(NamedTuple):
    """What was seen at one time of the virtual clock."""

    at: float
    used: int
    queued: int
    refused: int


def draw(path: Path) -> None:
    """Run it and draw it."""
    limited, served = asyncio.run(_run(limited=True))
    bare, served_bare = asyncio.run(_run(limited=False))
    figure, (tokens, queue, refused) = panels(3, height=1.6)
    times = [moment.at for moment in limited]
    tokens.step(times, [moment.used / 1000 for moment in limited], where="post", color=COLORS["line"])
    tokens.axhline(QUOTA / 1000, color=COLORS["bad"], linestyle="--", linewidth=1)
    tokens.text(times[-1], QUOTA / 1000 * 1.04, "quota", ha="right", color=COLORS["bad"])
    tokens.set_ylabel("1,000 tokens\nin the last minute")
    tokens.set_ylim(0, QUOTA / 1000 * 1.25)
    queue.fill_between(
        times, [moment.queued for moment in limited], step="post", color=COLORS["wait"], linewidth=0
    )
    queue.set_ylabel("chats in line")
    refused.step(
        [moment.at for moment in bare],
        [moment.refused for moment in bare],
        where="post",
        color=COLORS["bad"],
        label=f"retries alone: {served_bare} of {CHATS} answered",
    )
    refused.step(
        times,
        [moment.refused for moment in limited],
        where="post",
        color=COLORS["good"],
        linewidth=2,
        label=f"with_rate_limit: {served} of {CHATS} answered",
    )
    refused.set_ylabel("429s so far")
    refused.legend(loc="center right")
    refused.set_yticks([0, 3, 6, 9])
    refused.set_xlim(0, max(times[-1], bare[-1].at))
    save(figure, path)


async def _run(*, limited: bool) -> tuple[list[Moment], int]:
    """150 chats, five a second: what was seen meanwhile, and how many were answered."""
    clock, chance = VirtualClock(), random.Random(7)

    async def model(request: ScriptedRequest) -> str:
        await clock.asleep(chance.lognormvariate(0.7, 0.4))  # 2 s, more or less
        return "A machine for weaving."

    quota = Quota(tokens_per_minute=QUOTA, style="2025")
    moments: list[Moment] = []
    answered = 0
    with AzureEmulator(ScriptedProvider(model), clock=clock, quotas={DEPLOYMENT: quota}) as azure:
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs(), max_tokens=MAX_TOKENS)
        if limited:
            builder = builder.with_rate_limit(tokens_per_minute=QUOTA)
        async with builder.with_clock(clock).build() as agent:

            async def chat(number: int) -> None:
                nonlocal answered
                await clock.asleep(number * 0.2)
                with contextlib.suppress(LoomError):  # with retries alone, not everyone is answered
                    await agent.achat(PROMPT)
                    answered += 1

            def look() -> None:
                (deployment,) = agent.health().deployments.values()
                limits = deployment.rate_limit
                used = 0 if limits is None else limits.tokens_used + limits.tokens_reserved
                queued = 0 if limits is None else limits.queued
                refused = sum(request.status == 429 for request in azure.requests)
                moments.append(Moment(clock.now(), used, queued, refused))

            await together(clock, [chat(number) for number in range(CHATS)], look)
            look()
    return moments, answered
