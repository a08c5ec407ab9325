"""Breaker and pool under threads and tasks at once, in whatever order they come to run.

Hypothesis chooses what each of several callers does and what happens in between; the machine's scheduler
chooses the order. Every caller is a generator that yields where it may be interrupted: some are driven by a
thread of their own, some by tasks of one event loop, which runs beside those threads.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import TypeAlias, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loom_py import ScriptedProvider
from loom_py.clock import VirtualClock
from loom_py.errors import CircuitOpenError
from loom_py.resilience.breaker import BreakerConfig, CircuitBreaker, CircuitBreakers, Permit
from loom_py.resilience.events import CircuitChanged, PolicyEvent
from loom_py.resilience.lanes import Lane, traffic_of
from loom_py.resilience.pool import Choice, Condition, Member, Pool, Strategy

Caller: TypeAlias = Generator[None, None, None]

SWITCH = 1e-6
"""Seconds after which a thread gives way to another: as often as can be."""


@pytest.fixture(autouse=True, scope="module")
def hurried_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    yield
    sys.setswitchinterval(before)


def together(callers: Sequence[tuple[bool, Caller]]) -> None:
    """Run all of them at once, each as a task or in a thread; raises what the first of them raised."""
    threads = [caller for is_task, caller in callers if not is_task]
    tasks = [caller for is_task, caller in callers if is_task]
    bodies: list[Callable[[], None]] = [partial(in_thread, caller) for caller in threads]
    if tasks:
        bodies.append(lambda: asyncio.run(in_tasks(tasks)))
    start = threading.Barrier(len(bodies))
    raised: list[BaseException] = []

    def run(body: Callable[[], None]) -> None:
        try:
            start.wait(10)
            body()
        except BaseException as exc:
            raised.append(exc)

    running = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)
        assert not thread.is_alive(), "callers wait for each other"
    if raised:
        raise raised[0]


def in_thread(caller: Caller) -> None:
    for _ in caller:
        time.sleep(0)


async def in_task(caller: Caller) -> None:
    for _ in caller:
        await asyncio.sleep(0)


async def in_tasks(callers: Sequence[Caller]) -> None:
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(in_task(caller))


# ── the breaker ──────────────────────────────────────────────────────────────────────────

VERDICTS = ("success", "failure", "neutral")
DEEDS = st.sampled_from(
    ["success"] * 4 + ["failure"] * 4 + ["neutral", "take out", "keep", "keep", "settle a kept one"] * 2
)
BY_HAND = st.sampled_from(["force_open", "force_close", "reset", "reset"])
LEGAL = {
    ("closed", "open"),
    ("open", "open"),  # for another cause
    ("open", "half-open"),
    ("open", "closed"),  # by hand
    ("half-open", "open"),
    ("half-open", "closed"),
}
SCRIPTS = st.lists(st.tuples(st.booleans(), st.lists(DEEDS, min_size=1, max_size=8)), min_size=2, max_size=5)


class BreakerUnderCallers(RuleBasedStateMachine):
    """Calls that begin, end, fail and are kept across the breaker's changes, by threads and tasks."""

    @initialize(places=st.integers(1, 3))
    def begin(self, places: int) -> None:
        self.now = 0.0
        self.heard: list[PolicyEvent] = []
        self.config = BreakerConfig(
            failure_threshold=3,
            success_threshold=2,
            open_seconds=30,
            max_open_seconds=60,
            minimum_calls=8,
            half_open_probes=places,
        )
        self.breaker = CircuitBreaker("d", self.config, clock=lambda: self.now, emit=self.heard.append)
        self.lock = threading.Lock()
        self.probes: Counter[int] = Counter()  # under way, of each generation
        self.kept: list[tuple[int, Permit]] = []

    def entered(self) -> tuple[int, Permit]:
        """A permit, and of which generation. A probe is counted for less time than it lasts."""
        permit = self.breaker.enter()
        generation = permit._generation
        if permit.is_probe:
            with self.lock:
                self.probes[generation] += 1
                assert self.probes[generation] <= self.config.half_open_probes
        return generation, permit

    def left(self, generation: int, permit: Permit) -> None:
        if permit.is_probe:
            with self.lock:
                self.probes[generation] -= 1

    def settle(self, generation: int, permit: Permit, verdict: str) -> None:
        self.left(generation, permit)
        if verdict == "take out":
            permit.take_out(300, "401")
        else:
            getattr(permit, verdict)()

    def caller(self, deeds: list[str]) -> Caller:
        for number, deed in enumerate(deeds):
            if deed == "settle a kept one":
                with self.lock:
                    kept = self.kept.pop() if self.kept else None
                if kept is not None:
                    self.settle(*kept, VERDICTS[number % len(VERDICTS)])
                yield
                continue
            try:
                generation, permit = self.entered()
            except CircuitOpenError:
                yield
                continue
            yield
            if deed == "keep":
                with self.lock:
                    self.kept.append((generation, permit))
            else:
                self.settle(generation, permit, deed)
            yield

    def make_due(self, is_due: bool) -> None:
        """Where ``is_due``, whoever calls next is a probe."""
        if not is_due or self.breaker.state == "half-open":
            return
        if self.breaker.stats().forced:
            self.breaker.reset()
        while self.breaker.state == "closed":
            self.breaker.enter().failure()
        self.now += self.breaker.stats().retry_after or 0.0

    def by_hand(self, verb: str) -> Caller:
        yield
        getattr(self.breaker, verb)()
        yield

    @rule(scripts=SCRIPTS, is_due=st.booleans())
    def call(self, scripts: list[tuple[bool, list[str]]], is_due: bool) -> None:
        self.make_due(is_due)
        together([(is_task, self.caller(deeds)) for is_task, deeds in scripts])

    @rule(
        scripts=SCRIPTS,
        verbs=st.lists(st.tuples(st.booleans(), BY_HAND), min_size=1, max_size=2),
        is_due=st.booleans(),
    )
    def call_while_somebody_sees_to_it(
        self, scripts: list[tuple[bool, list[str]]], verbs: list[tuple[bool, str]], is_due: bool
    ) -> None:
        self.make_due(is_due)
        callers = [(is_task, self.caller(deeds)) for is_task, deeds in scripts]
        together(callers + [(is_task, self.by_hand(verb)) for is_task, verb in verbs])

    @rule(
        kinds=st.lists(st.booleans(), min_size=2, max_size=6),
        verdicts=st.permutations(VERDICTS),
        is_due=st.booleans(),
    )
    def knock(self, kinds: list[bool], verdicts: list[str], is_due: bool) -> None:
        """All ask at the same moment, and nobody has an answer before all have asked."""
        self.make_due(is_due)
        inside: list[tuple[int, Permit]] = []

        def ask() -> Caller:
            yield
            try:
                permit = self.entered()
            except CircuitOpenError:
                return
            with self.lock:
                inside.append(permit)

        together([(is_task, ask()) for is_task in kinds])
        if self.breaker.state == "half-open":
            free = self.config.half_open_probes
            assert (1 if is_due and not self.kept else 0) <= len(inside) <= free
        for number, (generation, permit) in enumerate(inside):
            self.settle(generation, permit, verdicts[number % len(verdicts)])

    @rule(kinds=st.lists(st.booleans(), min_size=1, max_size=8))
    def settle_what_is_of_another_time(self, kinds: list[bool]) -> None:
        """It is dropped, whoever brings it, and however often."""
        now = self.breaker._generation
        stale = [kept for kept in self.kept if kept[0] != now]
        self.kept = [kept for kept in self.kept if kept[0] == now]
        before, told = self.breaker.stats(), len(self.heard)

        def bring(number: int) -> Caller:
            for generation, permit in stale:
                if number == 0:
                    self.left(generation, permit)
                assert permit.success() is False
                yield
                permit.failure()
                permit.neutral()
                assert permit.take_out(300, "401") is False
                yield

        together([(is_task, bring(number)) for number, is_task in enumerate(kinds)])
        assert self.breaker.stats() == before
        assert len(self.heard) == told

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def has_as_many_places_as_are_free(self) -> None:
        stats, breaker = self.breaker.stats(), self.breaker
        assert stats.state in ("closed", "open", "half-open")
        assert (stats.reason is None) == (stats.state == "closed")
        assert stats.successes < self.config.success_threshold
        if stats.state == "closed":
            assert stats.failures < self.config.failure_threshold
            assert breaker.is_available
        if stats.state == "half-open":
            taken = sum(generation == breaker._generation for generation, _ in self.kept)
            places = 1 if breaker._cause == "taken out" else self.config.half_open_probes
            assert taken <= places
            assert breaker.is_available == (taken < places)

    @invariant()
    def tells_a_story_that_can_be(self) -> None:
        """Each change is a legal one, and together they lead from closed to where it is.

        Two threads may tell of two changes in either order, so the order is not asked for.
        """
        leads: Counter[str] = Counter()
        for event in self.heard:
            assert isinstance(event, CircuitChanged)
            assert (event.before, event.after) in LEGAL
            leads[event.after] += 1
            leads[event.before] -= 1
        leads["closed"] += 1
        assert +leads == Counter([self.breaker.state])

    def teardown(self) -> None:
        """Once all is settled it can be closed again: no place is lost."""
        if not hasattr(self, "breaker"):
            return
        for generation, permit in self.kept:
            self.settle(generation, permit, "neutral")
        assert sum(self.probes.values()) == 0
        if self.breaker.stats().forced:
            self.breaker.reset()
        self.now += 8000
        for _ in range(self.config.success_threshold):
            self.breaker.enter().success()
        assert self.breaker.state == "closed"


# ── the pool ─────────────────────────────────────────────────────────────────────────────

KEYS = "abcde"
WELL, SHAKY, OUT = "well", "shaky", "out"
CALLS = st.lists(
    st.tuples(st.sampled_from([None, None, "s1", "s2"]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=8,
)
"""For each call its session, whether a shaky deployment fails it, and whether another try follows."""


class PoolUnderCallers(RuleBasedStateMachine):
    """Deployments with their breakers, of which some are well, some out and some now and then."""

    @initialize(
        strategy=st.sampled_from(get_args(Strategy)),
        ranks=st.lists(st.integers(0, 1), min_size=2, max_size=5),
    )
    def begin(self, strategy: Strategy, ranks: list[int]) -> None:
        self.clock = VirtualClock()
        self.members = [
            Member(key, key, rank, 1.0, None, frozenset()) for key, rank in zip(KEYS, ranks, strict=False)
        ]
        config = BreakerConfig(failure_threshold=2, success_threshold=1, open_seconds=30, max_open_seconds=30)
        self.breakers = CircuitBreakers("deployment", config, clock=self.clock.now, emit=lambda _: None)
        self.lanes = {}
        for member in self.members:
            provider = ScriptedProvider(lambda _: "x", model=member.key)
            traffic = traffic_of(provider, self.clock)
            self.lanes[member.key] = Lane(
                provider, member, traffic=traffic, breaker=self.breakers[member.key]
            )
        self.pool = Pool(self.members, strategy, clock=self.clock.now)
        self.health = {member.key: WELL for member in self.members}
        self.lock = threading.Lock()
        self.sent = 0

    def condition(self, member: Member) -> Condition:
        return self.lanes[member.key].condition()

    def check(self, choice: Choice, tried: list[str]) -> None:
        """What must be whatever the others do meanwhile: only the shaky ones change."""
        kinds = {self.health[key] for key in self.health if key not in tried}
        if WELL in kinds:  # somebody can be called who was not tried
            assert choice.member is not None
            assert choice.wait == 0
            assert self.health[choice.member.key] != OUT
            assert choice.member.key not in tried
        if choice.member is None:
            assert choice.wait == math.inf
            assert set(choice.reasons) == set(self.health)  # it says of each why
            assert all(choice.reasons.values())
        elif choice.wait <= 0:
            assert self.health[choice.member.key] != OUT
        else:
            assert WELL not in self.health.values()
            assert set(choice.reasons) == set(self.health)

    def caller(self, calls: list[tuple[str | None, bool, bool]]) -> Caller:
        for session, fails, goes_on in calls:
            tried: list[str] = []
            for _ in range(1 + goes_on):
                choice = self.pool.choose(self.condition, session=session, tried=tried)
                self.check(choice, tried)
                yield
                if choice.member is None or choice.wait > 0:
                    continue
                with self.lock:
                    self.sent += 1
                yield from self.sent_to(choice.member, session, fails)
                tried.append(choice.member.key)

    def sent_to(self, member: Member, session: str | None, fails: bool) -> Caller:
        lane = self.lanes[member.key]
        try:
            permit = self.breakers[member.key].enter()
        except CircuitOpenError:
            assert self.health[member.key] == SHAKY  # it has opened in this moment
            return
        lane.begin()
        yield
        assert lane.in_flight >= 1
        lane.end()
        if fails and self.health[member.key] == SHAKY:
            permit.failure()
        else:
            permit.success()
            self.pool.observe(member, 0.5, session=session)
        yield

    @rule(
        data=st.data(),
        callers=st.lists(st.tuples(st.booleans(), CALLS), min_size=2, max_size=5),
    )
    def call(
        self, data: st.DataObject, callers: list[tuple[bool, list[tuple[str | None, bool, bool]]]]
    ) -> None:
        for key in self.health:
            self.health[key] = data.draw(st.sampled_from([WELL, SHAKY, OUT, OUT]))
            breaker = self.breakers[key]
            breaker.force_open() if self.health[key] == OUT else breaker.reset()
        together([(is_task, self.caller(calls)) for is_task, calls in callers])

    @rule(seconds=st.sampled_from([1.0, 30.0, 90.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def balances(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert {lane.in_flight for lane in self.lanes.values()} == {0}
        assert sum(each.chosen for each in self.pool.stats().members) == self.sent
        assert self.pool.stats().sessions <= 2

    @invariant()
    def never_holds_all_back_without_a_word(self) -> None:
        if not hasattr(self, "pool"):
            return
        choice = self.pool.choose(self.condition)
        if choice.wait <= 0:
            assert choice.member is not None
            self.sent += 1  # that counts as a choice
        else:
            assert set(choice.reasons) == set(self.health)
            assert all(choice.reasons.values())


some = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestBreaker = BreakerUnderCallers.TestCase
TestBreaker.settings = some
TestPool = PoolUnderCallers.TestCase
TestPool.settings = some
