"""A pool against a plain statement of what it promises, whatever happens in whatever order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loom_py.resilience.pool import Choice, Condition, Member, Pool, Strategy

KEYS = "abcdef"
TAGS = ("eu", "us")
WAITS = st.sampled_from([0.0, 0.0, 0.0, 0.5, 3.0, 3.0, math.inf])
CONDITIONS = st.builds(
    Condition,
    wait=WAITS,
    reason=st.sampled_from(["", "out"]),
    room=st.sampled_from([0.0, 0.5, 1.0]),
    in_flight=st.integers(0, 2),
)


class PoolMachine(RuleBasedStateMachine):
    """Random members, conditions, sessions and retries."""

    pool: Pool
    conditions: dict[str, Condition]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.chosen: dict[str, int] = {}
        self.served: dict[str, str] = {}

    @initialize(
        strategy=st.sampled_from(get_args(Strategy)),
        size=st.integers(1, len(KEYS)),
        data=st.data(),
    )
    def make(self, strategy: Strategy, size: int, data: st.DataObject) -> None:
        members = [
            Member(
                key,
                key,
                data.draw(st.integers(-1, 1)),
                data.draw(st.integers(1, 4)),
                None,
                data.draw(st.frozensets(st.sampled_from(TAGS))),
            )
            for key in KEYS[:size]
        ]
        self.pool = Pool(members, strategy, clock=lambda: self.now)
        self.conditions = {one.key: Condition() for one in members}
        self.chosen = {one.key: 0 for one in members}

    @rule(data=st.data(), condition=CONDITIONS)
    def change(self, data: st.DataObject, condition: Condition) -> None:
        self.conditions[data.draw(st.sampled_from(sorted(self.conditions)))] = condition

    @rule()
    def recover(self) -> None:
        self.conditions = {key: Condition() for key in self.conditions}

    @rule(seconds=st.floats(0, 200))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data(), latency=st.floats(0, 60))
    def answer(self, data: st.DataObject, latency: float) -> None:
        self.pool.observe(data.draw(st.sampled_from(self.pool.members)), latency)

    @rule(
        data=st.data(),
        session=st.none() | st.sampled_from(["s", "t"]),
        residency=st.none() | st.sampled_from(TAGS),
    )
    def choose(self, data: st.DataObject, session: str | None, residency: str | None) -> None:
        allowed = [one for one in self.pool.members if residency is None or residency in one.residency]
        if not allowed:
            return
        tried = data.draw(st.lists(st.sampled_from(sorted(self.conditions)), max_size=6))
        choice = self.pool.choose(self.condition, session=session, residency=residency, tried=tried)
        self.check_choice(choice, allowed, tried)
        self.check_preferred(choice, allowed)
        if choice.wait == 0 and choice.member is not None:
            self.check_session(choice.member, allowed, tried, session)
            self.chosen[choice.member.key] += 1
            if session is not None and len(self.pool.members) > 1:
                self.served[session] = choice.member.key

    def condition(self, member: Member) -> Condition:
        return self.conditions[member.key]

    def wait(self, member: Member) -> float:
        return self.conditions[member.key].wait

    def check_choice(self, choice: Choice, allowed: list[Member], tried: list[str]) -> None:
        soonest = min(map(self.wait, allowed))
        assert choice.wait == soonest
        if choice.member is None:
            assert soonest == math.inf
            assert set(choice.reasons) == {one.key for one in allowed}
            assert all(choice.reasons.values())
            return
        assert choice.member in allowed
        assert self.wait(choice.member) == soonest
        equals = [one for one in allowed if self.wait(one) == soonest]
        fresh = [one for one in equals if one.key not in tried]
        if fresh:
            assert choice.member in fresh
            if soonest == 0:
                assert choice.member.priority == min(one.priority for one in fresh)
        elif len(equals) > 1:
            assert choice.member.key != tried[-1]

    def check_preferred(self, choice: Choice, allowed: list[Member]) -> None:
        assert choice.preferred in allowed
        if choice.preferred is not choice.member:
            assert choice.preferred.priority == min(one.priority for one in allowed)
            assert choice.reasons[choice.preferred.key]

    def check_session(
        self, member: Member, allowed: list[Member], tried: list[str], session: str | None
    ) -> None:
        can: Callable[[Member], bool] = lambda one: self.wait(one) == 0 and one.key not in tried  # noqa: E731
        ready = [one for one in allowed if can(one)]
        kept = [one for one in ready if session is not None and one.key == self.served.get(session)]
        if kept and kept[0].priority == min(one.priority for one in ready):
            assert member is kept[0]

    @invariant()
    def counts_agree(self) -> None:
        if self.chosen:
            assert {one.key: one.chosen for one in self.pool.stats().members} == self.chosen


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
