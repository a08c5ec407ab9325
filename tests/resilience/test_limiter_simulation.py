"""Many callers on one quota, in virtual time; and on real threads."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import statistics
import threading
import time
from dataclasses import dataclass, field
from random import Random

from loom_py.clock import RealClock, VirtualClock
from loom_py.emulator.quotas import Grant, Meter, Quota
from loom_py.resilience.limiter import RateLimitConfig, RateLimiter, Ticket

TPM = 60_000


@dataclass
class Outcome:
    """What a simulation has shown. Waits in seconds."""

    admitted: int = 0
    refused: int = 0
    tokens: int = 0
    waits: list[float] = field(default_factory=list)


class RefundingMeter:
    """A server that counts an estimate at arrival, and real usage as soon as it is known."""

    def __init__(self, quota: int, clock: VirtualClock) -> None:
        self.quota = quota
        self.clock = clock
        self.log: list[list[float]] = []

    def admit(self, tokens: int) -> Grant | None:
        now = self.clock.now()
        self.log = [entry for entry in self.log if entry[0] > now - 60]
        used = sum(entry[1] for entry in self.log) + tokens
        if used > self.quota:
            return None
        self.log.append([now, tokens])
        headers = {
            "x-ratelimit-limit-tokens": str(self.quota),
            "x-ratelimit-remaining-tokens": str(int(self.quota - used)),
        }
        return Grant(headers, len(self.log) - 1)

    def answered(self, tokens: int, used: int) -> None:
        entry = next((entry for entry in self.log if entry[1] == tokens), None)
        if entry is not None:
            entry[1] = used


class Simulation:
    """Agents that call in a loop: a queue of events, each asking only when told or woken."""

    def __init__(self, *, refunds: bool = False, seed: int = 1) -> None:
        self.clock = VirtualClock()
        config = RateLimitConfig(tokens_per_minute=TPM, queue_timeout=None)
        self.limiter = RateLimiter(config, clock=self.clock.now)
        self.refunding = RefundingMeter(TPM, self.clock) if refunds else None
        self.meter = self.refunding or Meter(Quota(tokens_per_minute=TPM), self.clock)
        self.random = Random(seed)
        self.outcome = Outcome()
        self.order = itertools.count()
        self.events: list[tuple[float, int, str, Ticket | None, float, Grant | None]] = []

    def at(self, when: float, what: str, ticket: Ticket, began: float, grant: Grant | None = None) -> None:
        heapq.heappush(self.events, (when, next(self.order), what, ticket, began, grant))

    def run(self, agents: int, seconds: float, *, every: float = 0.0) -> Outcome:
        for number in range(agents):
            heapq.heappush(self.events, (number * every, next(self.order), "begin", None, 0.0, None))
        while self.events and self.events[0][0] <= seconds:
            when, _, what, ticket, began, grant = heapq.heappop(self.events)
            self.clock.advance(max(0.0, when - self.clock.now()))
            getattr(self, what)(ticket, began, grant)
        return self.outcome

    def begin(self, *_: object) -> None:
        ticket = self.limiter.enter(self.random.randint(450, 750))
        self.ask(ticket, self.clock.now(), None)

    def ask(self, ticket: Ticket, began: float, _: Grant | None) -> None:
        if repr(ticket).endswith("sent)"):
            return  # a timer and a signal came both
        now = self.clock.now()
        seconds = ticket.wait()
        if seconds == 0:
            self.outcome.waits.append(now - began)
            self.at(now + self.random.uniform(0.005, 0.2), "arrive", ticket, began)
            return
        self.at(now + seconds, "ask", ticket, began)
        ticket.signal.on_set(lambda: self.at(self.clock.now(), "ask", ticket, began))

    def arrive(self, ticket: Ticket, began: float, _: Grant | None) -> None:
        answer = self.meter.admit(ticket.tokens)
        if not isinstance(answer, Grant):
            self.outcome.refused += 1
            ticket.release()
            self.begin()
            return
        self.outcome.admitted += 1
        self.outcome.tokens += ticket.tokens
        self.at(self.clock.now() + self.random.uniform(0.3, 4), "answer", ticket, began, answer)

    def answer(self, ticket: Ticket, _: float, grant: Grant | None) -> None:
        assert grant is not None
        headers = {
            "limit_tokens": grant.headers["x-ratelimit-limit-tokens"],
            "remaining_tokens": grant.headers["x-ratelimit-remaining-tokens"],
        }
        used = self.random.randint(100, 200)
        if self.refunding is not None:
            self.refunding.answered(ticket.tokens, used)
        ticket.settle(used, headers)
        self.begin()


def test_a_hundred_agents_use_a_quota_to_the_full_and_are_never_refused() -> None:
    outcome = Simulation().run(agents=100, seconds=600)
    used = outcome.tokens / (TPM * 10)
    typical, longest = statistics.median(outcome.waits), max(outcome.waits)
    print(
        f"\n{outcome.admitted} calls, {outcome.refused} refused, {used:.1%} of the quota used;"
        f" waits: median {typical:.1f} s, longest {longest:.1f} s ({longest / typical:.2f} times)"
    )
    assert outcome.refused == 0
    assert used >= 0.95
    assert longest <= 2 * 60.6  # whoever waits behind one full window waits for one more at most


def test_where_the_server_gives_back_what_was_not_used_more_calls_go_through() -> None:
    outcome = Simulation(refunds=True).run(agents=40, seconds=600, every=0.7)
    print(f"\n{outcome.admitted} calls, {outcome.refused} refused")
    assert outcome.refused == 0
    assert outcome.tokens >= 1.5 * TPM * 10  # estimates that were never given back would be the quota at most


async def test_tasks_wait_on_their_signals_and_all_come_through() -> None:
    clock = VirtualClock()
    limiter = RateLimiter(RateLimitConfig(tokens_per_minute=1000), clock=clock.now)
    meter = Meter(Quota(tokens_per_minute=1000), clock)
    done = []

    async def call(number: int) -> None:
        ticket = limiter.enter(300)
        while (seconds := ticket.wait()) > 0:
            await clock.asleep(seconds, ticket.signal)
        assert isinstance(meter.admit(300), Grant)
        await clock.asleep(1.0)
        ticket.settle(None)
        done.append(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(12):
            tasks.create_task(call(number))
        for _ in range(1000):
            for _ in range(5):  # let everyone lie down first
                await asyncio.sleep(0)
            if not clock.advance_to_next():
                break
    assert done == list(range(12))
    assert 180 < clock.now() < 184


def test_threads_share_a_limiter_without_loss() -> None:
    clock = RealClock()
    limiter = RateLimiter(RateLimitConfig(tokens_per_minute=3000, max_queue=64), clock=clock.now)
    together, most, guard = 0, 0, threading.Lock()
    problems: list[BaseException] = []

    def caller(seed: int) -> None:
        nonlocal together, most
        random = Random(seed)
        try:
            for _ in range(40):
                ticket = limiter.enter(1000, priority=random.randint(0, 2), timeout=20)
                while (seconds := ticket.wait()) > 0:
                    clock.sleep(seconds, ticket.signal)
                with guard:
                    together += 1
                    most = max(most, together)
                if random.random() < 0.3:
                    time.sleep(0.0005)
                with guard:
                    together -= 1
                ticket.release() if random.random() < 0.5 else ticket.settle(0)
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not problems
    assert most == 3  # the quota holds three at a time
    stats = limiter.stats()
    assert (stats.tokens_used, stats.tokens_reserved, stats.queued) == (0, 0, 0)
