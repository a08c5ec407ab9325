"""A budget under load: what is spent, what is reserved, which calls are refused, and an approval."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random

from loom_py import (
    Agent,
    AgentBuilder,
    AzureEmulator,
    BudgetAlert,
    PolicyEvent,
    ScriptedProvider,
    TokenUsage,
    VirtualClock,
    reply,
)
from loom_py.emulator import FaultPlan, FaultRule, Latency
from loom_py.errors import BudgetExceededError
from loom_py.resilience.events import BudgetExtended, BudgetWarning
from scripts.plots.style import COLORS, panels, save

END = 120
SOMEBODY_IS_BACK = 80
WIDTH = 5


@dataclass
class Run:
    """What was seen, second by second and event by event."""

    times: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    reserved: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    warned: list[float] = field(default_factory=list)
    extended: list[float] = field(default_factory=list)

    def sample(self, at: float, agent: Agent) -> None:
        """Read the budget."""
        for budget in agent.health().budgets:
            self.times.append(at)
            self.spent.append(float(budget.usd.spent))
            self.reserved.append(float(budget.usd.reserved))
            self.limit.append(float(budget.usd.limit or 0))


def draw(path: Path) -> None:
    """Run it and draw it."""
    run = asyncio.run(_run())
    figure, (money, calls) = panels(2, height=2.4)
    most = [spent + reserved for spent, reserved in zip(run.spent, run.reserved, strict=True)]
    money.fill_between(run.times, run.spent, color=COLORS["good"], linewidth=0, label="spent")
    money.fill_between(
        run.times, run.spent, most, color=COLORS["wait"], alpha=0.7, linewidth=0, label="reserved"
    )
    money.step(run.times, run.limit, where="post", color=COLORS["bad"], label="limit")
    for at, words in [(run.warned[0], "80 %: a warning"), (run.extended[0], "0.50 USD more are approved")]:
        money.axvline(at, color=COLORS["muted"], linestyle=":", linewidth=1)
        money.text(at - 1, 0.06, words, ha="right", color="white")
    money.set_ylim(0, 1.75)
    money.set_ylabel("USD")
    money.legend(loc="upper left", ncols=3)
    slices = [number * WIDTH for number in range(END // WIDTH)]
    good, bad = _counted(run.answered), _counted(run.refused)
    middle = [at + WIDTH / 2 for at in slices]
    calls.bar(middle, good, WIDTH * 0.85, color=COLORS["good"], label="answered")
    calls.bar(middle, bad, WIDTH * 0.85, bottom=good, color=COLORS["bad"], label="refused, nothing sent")
    calls.set_ylim(0, 7)
    calls.set_yticks([0, 2, 4, 6])
    calls.set_ylabel(f"calls in each {WIDTH} s")
    calls.legend(loc="upper left", ncols=2)
    calls.set_xlim(0, END)
    save(figure, path)


async def _run() -> Run:
    """One call a second, each of which takes some seconds and costs less than it might."""
    run, random, clock = Run(), Random(5), VirtualClock()
    slow = FaultPlan(seed=5, rules=[FaultRule(latency=Latency.lognormal(median=5, sigma=0.4))])
    model = ScriptedProvider(
        lambda request: reply("Done.", tokens=TokenUsage(200, random.randint(500, 3000)))
    )

    def note(event: PolicyEvent) -> None:
        if isinstance(event, BudgetWarning):
            run.warned.append(clock.now())
        elif isinstance(event, BudgetExtended):
            run.extended.append(clock.now())

    def approve(alert: BudgetAlert) -> Decimal | None:
        is_here = clock.now() >= SOMEBODY_IS_BACK
        return Decimal("0.50") if alert.refused and is_here and not run.extended else None

    with AzureEmulator(model, faults=slow, clock=clock) as azure:
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs(), max_tokens=4000)
        budgeted = builder.with_budget(usd=1, per="agent", approve=approve)
        async with budgeted.with_listener(note).with_clock(clock).build() as agent:
            tasks: list[asyncio.Task[object]] = []
            for second in range(END):
                tasks.append(asyncio.create_task(_ask(agent, run, clock)))
                await _settled(clock, tasks)
                run.sample(second, agent)
                clock.advance(1)
                await _settled(clock, tasks)
            run.sample(END, agent)
            while clock.advance_to_next():
                await _settled(clock, tasks)
    return run


async def _ask(agent: Agent, run: Run, clock: VirtualClock) -> None:
    began = clock.now()
    try:
        await agent.achat("Write a long poem about looms.")
    except BudgetExceededError:
        run.refused.append(began)
    else:
        run.answered.append(began)


async def _settled(clock: VirtualClock, tasks: list[asyncio.Task[object]]) -> None:
    """Wait until every call that is not over waits for the emulated model."""
    await asyncio.sleep(0)
    while clock.sleeping < sum(not task.done() for task in tasks):  # noqa: ASYNC110 - a clock knows no event
        await asyncio.sleep(0.001)


def _counted(times: list[float]) -> list[int]:
    """How many fall into each slice of time."""
    slices = [int(at // WIDTH) for at in times]
    return [slices.count(number) for number in range(END // WIDTH)]
