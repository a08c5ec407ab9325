"""Which member of a pool is chosen: strategies, priorities, residency, sessions, and waits."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_py.errors import ConfigError
from loom_py.resilience.pool import Choice, Condition, Member, Pool, Strategy
from loom_py.resilience.strategies import LATENCY_SECONDS, PROBE_EVERY

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
ROTATING: tuple[Strategy, ...] = ("round-robin", "weighted", "least-loaded", "lowest-latency")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def member(key: str, priority: int = 0, weight: float = 1.0, *residency: str) -> Member:
    return Member(key, key.upper(), priority, weight, None, frozenset(residency))


def pool(*members: Member | str, strategy: Strategy = "priority", **more: Any) -> Pool:
    made = [each if isinstance(each, Member) else member(each) for each in members]
    return Pool(made, strategy, **more)


def healthy(member: Member) -> Condition:
    return Condition()


def waits(**seconds: float) -> Callable[[Member], Condition]:
    """Those named must be waited for so long; all others can be called."""
    return lambda member: Condition(seconds.get(member.key, 0.0), reason=f"{member.key} is out")


def key_of(choice: Choice) -> str:
    assert choice.member is not None
    return choice.member.key


def keys(pool: Pool, times: int, condition: Callable[[Member], Condition] = healthy, **more: Any) -> str:
    return "".join(key_of(pool.choose(condition, **more)) for _ in range(times))


# ── the first in the list ────────────────────────────────────────────────────────────────


def test_by_priority_the_first_that_can_be_called_is_taken() -> None:
    three = pool("a", "b", "c")
    assert keys(three, 3) == "aaa"
    assert keys(three, 3, waits(a=1)) == "bbb"
    assert keys(three, 1, waits(a=1, b=1)) == "c"


def test_a_healthy_choice_says_that_nothing_was_passed_over() -> None:
    choice = pool("a", "b").choose(healthy)
    assert (choice.wait, dict(choice.reasons), choice.preferred) == (0.0, {}, choice.member)


def test_nobody_is_asked_in_vain() -> None:
    asked = []

    def condition(member: Member) -> Condition:
        asked.append(member.key)
        return Condition()

    pool(member("a"), member("b"), member("c", 1)).choose(condition)
    assert asked == ["a"]
    asked.clear()
    pool(member("a"), member("b"), member("c", 1), strategy="weighted").choose(condition, tried=["a"])
    assert asked == ["b"]


# ── priorities ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_group_spills_to_the_next_only_when_none_of_it_can_be_called(strategy: Strategy) -> None:
    tiers = pool(member("c", 7), member("a", -1), member("b", -1), strategy=strategy)
    assert set(keys(tiers, 20)) <= {"a", "b"}
    assert set(keys(tiers, 20, waits(a=5))) == {"b"}
    assert set(keys(tiers, 20, waits(a=5, b=0.01))) == {"c"}
    assert set(keys(tiers, 20)) <= {"a", "b"}


def test_a_member_that_was_tried_counts_as_one_that_cannot_be_called() -> None:
    tiers = pool(member("a"), member("b"), member("c", 1))
    assert keys(tiers, 1, tried=["a"]) == "b"
    assert keys(tiers, 1, tried=["b", "a"]) == "c"


def test_what_was_passed_over_and_why_is_told_with_what_was_preferred() -> None:
    choice = pool("a", "b", "c").choose(waits(a=3), tried=["b"])
    assert (key_of(choice), choice.preferred.key) == ("c", "b")  # the first try went to b
    assert choice.reasons == {"a": "a is out", "b": "was tried already in this call"}
    choice = pool(member("a"), member("b", 1)).choose(waits(a=3))
    assert (key_of(choice), choice.preferred.key, dict(choice.reasons)) == ("b", "a", {"a": "a is out"})


def test_a_wait_without_a_reason_is_told_in_seconds() -> None:
    choice = pool("a", "b", "c").choose(lambda m: Condition({"a": 2.5, "b": math.inf}.get(m.key, 0)))
    assert choice.reasons == {"a": "can be called in 2.5 s", "b": "cannot be called"}


# ── when none can be called ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_soonest_is_waited_for_whatever_its_priority(strategy: Strategy) -> None:
    choice = pool("a", member("b", 1), member("c", 2), strategy=strategy).choose(waits(a=9, b=3, c=math.inf))
    assert (key_of(choice), choice.wait, choice.preferred.key) == ("b", 3, "a")
    assert choice.reasons == {"a": "a is out", "b": "b is out", "c": "c is out"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nobody_is_chosen_only_if_every_wait_is_infinite_and_each_says_why(strategy: Strategy) -> None:
    out = dict.fromkeys("abc", math.inf)
    choice = pool("a", "b", member("c", 1), strategy=strategy).choose(waits(**out), tried=["b"])
    assert (choice.member, choice.wait) == (None, math.inf)
    assert choice.reasons == {"a": "a is out", "b": "b is out", "c": "c is out"}


def test_one_that_was_tried_is_used_again_when_there_is_no_other() -> None:
    two = pool("a", "b")
    assert keys(two, 1, tried=["a", "b"]) == "a"
    assert keys(two, 1, tried=["b", "a"]) == "b"
    assert keys(two, 1, tried=["a", "b", "a"]) == "b"
    assert keys(two, 1, waits(b=5), tried=["b", "a"]) == "a"
    assert keys(pool("a"), 1, tried=["a"]) == "a"


def test_trying_again_goes_round_all_members() -> None:
    tiers = pool(member("a"), member("b", 1), member("c", 1))
    tried: list[str] = []
    for _ in range(7):
        tried.append(key_of(tiers.choose(healthy, tried=tried)))
    assert "".join(tried) == "abcabca"


def test_of_equal_waits_one_that_was_not_tried_is_waited_for() -> None:
    assert key_of(pool("a", "b", "c").choose(waits(a=2, b=2, c=2), tried=["a", "c"])) == "b"
    assert key_of(pool("a", "b", "c").choose(waits(a=2, b=2, c=2), tried=["b", "c", "a"])) == "b"


def test_a_wait_below_zero_is_none_and_one_that_is_no_number_has_no_end() -> None:
    assert pool("a").choose(waits(a=-1)).wait == 0.0
    assert pool("a").choose(waits(a=-1), tried=["a"]).wait == 0.0
    assert pool("a").choose(waits(a=math.nan)).member is None


def test_keys_of_no_member_may_stand_among_the_tried() -> None:
    choice = pool("a", "b").choose(healthy, tried=["x"])
    assert (key_of(choice), dict(choice.reasons)) == ("a", {})


# ── round robin ──────────────────────────────────────────────────────────────────────────


def test_round_robin_takes_each_in_turn() -> None:
    assert keys(pool("a", "b", "c", strategy="round-robin"), 7) == "abcabca"


def test_round_robin_shares_evenly_among_those_that_are_left() -> None:
    three = pool("a", "b", "c", strategy="round-robin")
    assert keys(three, 6, waits(b=1)) == "acacac"
    assert keys(three, 4) == "bacb"  # back again, and with no more than its turn


def test_only_every_third_call_was_meant_for_the_one_of_three_that_is_out() -> None:
    for strategy in ("round-robin", "weighted", "least-loaded"):
        three = pool("a", "b", "c", strategy=strategy)
        choices = [three.choose(waits(b=1)) for _ in range(30)]
        moved = [choice for choice in choices if choice.preferred is not choice.member]
        assert len(moved) == 10, strategy
        assert {choice.preferred.key for choice in moved} == {"b"}
        assert all(choice.reasons == {"b": "b is out"} for choice in choices)


def test_a_second_outage_is_reckoned_from_the_turns_as_they_are_then() -> None:
    three = pool("a", "b", "c", strategy="round-robin")
    assert keys(three, 1, waits(b=1)) == "a"
    assert keys(three, 4) == "bcab"
    choice = three.choose(waits(c=1))
    assert (key_of(choice), choice.preferred.key) == ("a", "c")


def test_calls_of_a_session_that_stays_leave_the_reckoning_of_an_outage_alone() -> None:
    three = pool("a", "b", "c", strategy="round-robin")
    three.choose(healthy, session="s")
    moved = 0
    for _ in range(30):
        choice = three.choose(waits(b=1))
        moved += choice.preferred is not choice.member
        assert keys(three, 1, waits(b=1), session="s") == "a"
    assert moved == 10


def test_each_residency_has_its_own_turns() -> None:
    mixed = pool(member("a", 0, 1, "eu"), member("b"), member("c", 0, 1, "eu"), strategy="round-robin")
    assert keys(mixed, 2) == "ab"
    assert keys(mixed, 4, residency="eu") == "acac"
    assert keys(mixed, 2) == "ca"


def test_chance_decides_who_begins_where_it_is_given() -> None:
    begins = Counter(
        keys(pool("a", "b", "c", strategy="round-robin", random=Random(n)), 4) for n in range(60)
    )
    assert set(begins) == {"abca", "bcab", "cabc"}
    for n in range(20):
        assert keys(pool("a", "b", random=Random(n)), 1) == "a"  # an order that was asked for stays


# ── weights ──────────────────────────────────────────────────────────────────────────────


def test_weights_are_spread_evenly() -> None:
    chosen = keys(pool(member("a", 0, 5), member("b"), member("c"), strategy="weighted"), 14)
    assert Counter(chosen[:7]) == {"a": 5, "b": 1, "c": 1}
    assert chosen[7:] == chosen[:7]
    assert "aaaaa" not in chosen


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=7))
def test_weighted_shares_are_exact_in_every_window_of_one_round(weights: list[int]) -> None:
    made = pool(*(member(str(n), 0, weight) for n, weight in enumerate(weights)), strategy="weighted")
    total = sum(weights)
    chosen = keys(made, 3 * total)
    exact = {str(n): weight for n, weight in enumerate(weights)}
    assert all(Counter(chosen[start : start + total]) == exact for start in range(2 * total))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=9))
def test_weighted_shares_are_never_a_whole_call_off(weights: list[float]) -> None:
    made = pool(*(member(str(n), 0, weight) for n, weight in enumerate(weights)), strategy="weighted")
    counts: Counter[str] = Counter()
    for calls in range(1, 200):
        counts[keys(made, 1)] += 1
        for n, weight in enumerate(weights):
            assert abs(counts[str(n)] - calls * weight / sum(weights)) < 1


def test_a_common_rule_would_be_more_than_a_call_off_where_this_one_is_not() -> None:
    weights = [30, 1, 30, 3, 3, 20, 3, 1, 1]  # by the greatest due alone, one is 1.26 calls behind
    made = pool(*(member(str(n), 0, weight) for n, weight in enumerate(weights)), strategy="weighted")
    counts: Counter[str] = Counter()
    for calls in range(1, 93):
        counts[keys(made, 1)] += 1
        assert all(abs(counts[str(n)] - calls * weight / 92) < 1 for n, weight in enumerate(weights))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=6), st.integers(0, 30))
def test_those_that_are_left_share_by_weight_during_an_outage(weights: list[int], before: int) -> None:
    made = pool(*(member(str(n), 0, weight) for n, weight in enumerate(weights)), strategy="weighted")
    keys(made, before)
    out = {"0": math.inf}
    counts = Counter(keys(made, 300, lambda m: Condition(out.get(m.key, 0))))
    left = sum(weights[1:])
    for n, weight in enumerate(weights[1:], 1):
        assert abs(counts[str(n)] - 300 * weight / left) < 3
    counts = Counter(keys(made, 300))
    for n, weight in enumerate(weights):  # and nobody makes up for what it missed
        assert abs(counts[str(n)] - 300 * weight / sum(weights)) < 3


# ── load ─────────────────────────────────────────────────────────────────────────────────


def loads(**loads: tuple[float, int]) -> Callable[[Member], Condition]:
    return lambda member: Condition(room=loads[member.key][0], in_flight=loads[member.key][1])


def test_the_least_loaded_has_the_most_room_and_then_the_fewest_in_flight() -> None:
    three = pool("a", "b", "c", strategy="least-loaded")
    assert keys(three, 2, loads(a=(0.2, 0), b=(0.9, 50), c=(0.5, 0))) == "bb"
    assert keys(three, 2, loads(a=(0.9, 3), b=(0.9, 2), c=(0.9, 4))) == "bb"


def test_equally_loaded_members_take_turns() -> None:
    assert keys(pool("a", "b", "c", strategy="least-loaded"), 6) == "abcabc"


def test_room_is_only_compared_among_those_that_can_be_called() -> None:
    three = pool("a", "b", "c", strategy="least-loaded")
    rooms = {"a": 1.0, "b": 0.3, "c": 0.4}
    choice = three.choose(lambda m: Condition(9.0 if m.key == "a" else 0.0, "out", rooms[m.key]))
    assert (key_of(choice), choice.preferred.key) == ("c", "a")


# ── latency ──────────────────────────────────────────────────────────────────────────────


def measured(clock: Clock, **latencies: float) -> Pool:
    made = pool(*latencies, strategy="lowest-latency", clock=clock)
    for one in made.members:
        made.observe(one, latencies[one.key])
    return made


def test_each_is_measured_first_and_then_the_fastest_is_taken() -> None:
    three = pool("a", "b", "c", strategy="lowest-latency", clock=Clock())
    for one, latency in zip(three.members, (0.5, 0.1, 0.9), strict=True):
        assert keys(three, 1) == one.key
        three.observe(one, latency)
    assert keys(three, 5) == "bbbbb"


def test_one_that_never_answers_is_not_the_first_choice_of_every_call() -> None:
    clock = Clock()
    two = pool("a", "b", strategy="lowest-latency", clock=clock)
    two.observe(two.members[1], 0.2)
    assert keys(two, 10) == "abbbbbbbbb"
    clock.now += LATENCY_SECONDS
    assert keys(two, 5) == "abbbb"


def test_before_the_first_answer_calls_are_spread() -> None:
    assert keys(pool("a", "b", "c", strategy="lowest-latency", clock=Clock()), 6) == "abcabc"


def test_now_and_then_one_of_the_others_is_probed_in_turn() -> None:
    three = measured(Clock(), a=0.1, b=0.5, c=0.9)
    chosen = keys(three, 4 * PROBE_EVERY)
    assert Counter(chosen) == {"a": 76, "b": 2, "c": 2}
    assert [chosen[n * PROBE_EVERY - 1] for n in (1, 2, 3, 4)] == ["b", "c", "b", "c"]


def test_a_member_that_became_fast_is_found() -> None:
    clock = Clock()
    two = measured(clock, a=0.5, b=5.0)
    now_fast = {"a": 0.5, "b": 0.05}
    chosen = ""
    for _ in range(600):
        clock.now += 0.5
        key = keys(two, 1)
        two.observe(next(one for one in two.members if one.key == key), now_fast[key])
        chosen += key
    assert chosen[:19] == "a" * 19
    assert chosen[-100:].count("b") >= 94


def test_a_slow_member_that_is_idle_is_tried_again_and_not_by_every_call_at_once() -> None:
    clock = Clock()
    two = measured(clock, a=1.0, b=10.0)
    clock.now += LATENCY_SECONDS * math.log(10) + 1
    two.observe(two.members[0], 1.0)
    assert keys(two, 6) == "baaaaa"


def test_a_latency_counts_less_the_older_it_is() -> None:
    clock = Clock()
    one = measured(clock, a=1.0)
    one.observe(one.members[0], 2.0)
    assert one.stats().members[0].latency == pytest.approx(1.1)
    clock.now += LATENCY_SECONDS
    one.observe(one.members[0], 2.0)
    assert one.stats().members[0].latency == pytest.approx(2 - 0.9 * 0.9 / math.e)


@pytest.mark.parametrize("latency", [-1.0, math.inf, math.nan])
def test_a_latency_that_is_none_is_passed_over(latency: float) -> None:
    one = measured(Clock(), a=1.0)
    one.observe(one.members[0], latency)
    assert one.stats().members[0].latency == 1.0


def test_the_fastest_that_is_out_was_preferred() -> None:
    three = measured(Clock(), a=0.5, b=0.1, c=0.3)
    choice = three.choose(waits(b=2))
    assert (key_of(choice), choice.preferred.key) == ("c", "b")


def test_a_member_of_another_pool_is_not_observed() -> None:
    with pytest.raises(KeyError):
        pool("a").observe(member("b"), 1.0)


# ── residency ────────────────────────────────────────────────────────────────────────────


def residents(strategy: Strategy = "priority") -> Pool:
    return pool(
        member("a", 0, 1, "us"),
        member("b", 1, 1, "EU", "de"),
        member("c", 2, 1, "eu"),
        member("d"),
        strategy=strategy,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_members_of_the_residency_are_ever_chosen(strategy: Strategy) -> None:
    mixed = residents(strategy)
    assert set(keys(mixed, 5, residency="eu")) == {"b"}
    assert set(keys(mixed, 5, residency=" De ")) == {"b"}
    assert set(keys(mixed, 5, waits(b=1), residency="EU")) == {"c"}
    choice = mixed.choose(waits(b=4, c=math.inf), residency="eu")
    assert (key_of(choice), choice.wait, set(choice.reasons)) == ("b", 4, {"b", "c"})
    assert mixed.choose(waits(b=math.inf, c=math.inf), residency="eu").member is None


def test_what_is_preferred_is_of_the_residency_too() -> None:
    assert residents().choose(waits(b=1), residency="eu").preferred.key == "b"


def test_a_residency_that_nobody_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="'mars'; there are: 'de', 'eu', 'us'") as caught:
        residents().choose(healthy, residency="mars")
    assert caught.value.field == "residency"
    with pytest.raises(ConfigError, match="there are: none"):
        pool("a").choose(healthy, residency="eu")
    with pytest.raises(ConfigError):
        residents().choose(healthy, residency="")


def test_a_session_does_not_leave_the_residency() -> None:
    mixed = residents()
    assert keys(mixed, 1, session="s") == "a"
    assert keys(mixed, 1, session="s", residency="eu") == "b"


# ── sessions ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("strategy", ROTATING)
def test_a_session_stays_where_it_was_served(strategy: Strategy) -> None:
    three = pool("a", "b", "c", strategy=strategy)
    assert keys(three, 1, session="one") == "a"
    assert keys(three, 1, session="two") == "b"
    assert keys(three, 5, session="one") == "aaaaa"
    assert keys(three, 5, session="two") == "bbbbb"


def test_calls_of_a_session_that_stays_take_nobodys_turn() -> None:
    three = pool("a", "b", "c", strategy="round-robin")
    assert keys(three, 9, session="one") == "a" * 9
    assert keys(three, 3) == "bca"


def test_a_session_moves_when_its_member_is_out_and_then_stays_there() -> None:
    three = pool("a", "b", "c", strategy="round-robin")
    keys(three, 1, session="s")
    choice = three.choose(waits(a=5), session="s")
    assert (key_of(choice), choice.preferred.key, dict(choice.reasons)) == ("b", "a", {"a": "a is out"})
    assert keys(three, 3, session="s") == "bbb"


def test_a_session_moves_when_its_member_failed_in_this_call() -> None:
    two = pool("a", "b", strategy="round-robin")
    assert keys(two, 1, session="s") == "a"
    assert keys(two, 1, session="s", tried=["a"]) == "b"
    assert keys(two, 2, session="s") == "bb"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sessions_go_back_when_a_higher_priority_recovers(strategy: Strategy) -> None:
    tiers = pool(member("a"), member("b", 1), member("c", 1), strategy=strategy)
    spilled = keys(tiers, 1, waits(a=1), session="s")
    assert keys(tiers, 3, waits(a=1), session="s") == spilled * 3
    choice = tiers.choose(waits(a=1), session="s")
    assert choice.preferred.key == "a"
    assert keys(tiers, 3, session="s") == "aaa"


def test_a_session_is_not_moved_by_a_choice_that_is_only_to_be_waited_for() -> None:
    two = pool("a", "b", strategy="round-robin")
    keys(two, 1, session="s")
    assert key_of(two.choose(waits(a=5, b=2), session="s")) == "b"
    assert keys(two, 1, session="s") == "a"


def test_a_session_stays_with_whoever_answered_it() -> None:
    two = pool("a", "b", strategy="round-robin")
    keys(two, 1, session="s")
    keys(two, 1, session="s", tried=["a"])  # asked as well, as a hedge
    two.observe(two.members[0], 0.1, session="s")
    assert keys(two, 2, session="s") == "aa"


def test_stickiness_can_be_turned_off() -> None:
    assert keys(pool("a", "b", strategy="round-robin", sticky=False), 4, session="s") == "abab"


def test_ten_thousand_sessions_are_remembered_and_the_oldest_is_forgotten() -> None:
    two = pool("a", "b", strategy="round-robin")
    two.choose(healthy, session="first")  # a
    two.choose(healthy, session="second")  # b
    for number in range(9_998):
        two.choose(healthy, session=str(number))
    assert keys(two, 1, session="first") == "a"  # seen again: now the second is the oldest
    two.choose(healthy, session="one more")  # a
    assert two.stats().sessions == 10_000
    assert keys(two, 1) == "b"
    assert keys(two, 1, session="second") == "a"  # forgotten: it was on b
    assert keys(two, 1, session="first") == "a"


# ── threads ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("strategy", ["round-robin", "weighted"])
def test_shares_are_exact_under_threads(strategy: Strategy) -> None:
    weights = {"a": 3, "b": 2, "c": 1} if strategy == "weighted" else dict.fromkeys("abc", 1)
    made = pool(*(member(key, 0, weight) for key, weight in weights.items()), strategy=strategy)
    counts: Counter[str] = Counter()
    gate = threading.Barrier(6)

    def work(number: int) -> None:
        gate.wait()
        chosen = Counter(keys(made, 500))
        made.choose(healthy, session=f"s{number}")
        with lock:
            counts.update(chosen)

    lock = threading.Lock()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    share = 3006 // sum(weights.values())
    assert {one.key: one.chosen for one in made.stats().members} == {
        key: weight * share for key, weight in weights.items()
    }
    assert sum(counts.values()) == 3000


def test_a_condition_may_use_the_pool_itself() -> None:
    two = pool("a", "b", strategy="round-robin")

    def condition(member: Member) -> Condition:
        return Condition(in_flight=two.stats().members[0].chosen)

    assert keys(two, 2, condition) == "ab"


# ── the pool itself ──────────────────────────────────────────────────────────────────────


def test_stats_tell_how_often_each_was_chosen_and_its_latency() -> None:
    two = pool("a", member("b", 1))
    keys(two, 3, session="s")
    keys(two, 2, waits(a=1))
    two.choose(waits(a=1, b=2))  # not called yet
    two.observe(two.members[1], 0.25)
    stats = two.stats()
    assert (stats.strategy, stats.sessions) == ("priority", 1)
    assert [(one.key, one.name, one.priority, one.chosen, one.latency) for one in stats.members] == [
        ("a", "A", 0, 3, None),
        ("b", "B", 1, 2, 0.25),
    ]


@pytest.mark.parametrize(
    ("members", "strategy", "field"),
    [
        ([], "priority", "deployments"),
        ([member("a"), member("a")], "priority", "deployments"),
        ([member("a")], "fastest", "strategy"),
        ([member("a", 0, 0)], "weighted", "weight"),
        ([member("a", 0, math.nan)], "weighted", "weight"),
        ([member("a", 0, math.inf)], "weighted", "weight"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(members: list[Member], strategy: Any, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Pool(members, strategy)
    assert caught.value.field == field


def test_a_condition_that_raises_changes_nothing() -> None:
    two = pool("a", "b", strategy="round-robin")

    def broken(member: Member) -> Condition:
        raise RuntimeError(member.key)

    with pytest.raises(RuntimeError):
        two.choose(broken, session="s")
    assert (keys(two, 2), two.stats().sessions) == ("ab", 0)
