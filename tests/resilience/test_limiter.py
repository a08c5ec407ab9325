"""The rate limiter: reserves before a call, settles after it, and listens to the server."""

from __future__ import annotations

import gc
import math
import time
import timeit
from typing import Any

import pytest

from loom_py.errors import ConfigError, QueueError, QueueFullError, QueueTimeoutError
from loom_py.resilience.limiter import RateLimitConfig, RateLimiter, Ticket


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


def limiter(clock: Clock, tokens: int | None = 1000, requests: int | None = None, **more: Any) -> RateLimiter:
    return RateLimiter(RateLimitConfig(tokens, requests, **more), clock=clock)


def sent(limits: RateLimiter, tokens: int, **more: Any) -> Ticket:
    ticket = limits.enter(tokens, **more)
    assert ticket.wait() == 0.0
    return ticket


def headers(limit: object, remaining: object, kind: str = "tokens") -> dict[str, object]:
    return {f"limit_{kind}": limit, f"remaining_{kind}": remaining}


def taken(limits: RateLimiter) -> int:
    stats = limits.stats()
    return stats.tokens_used + stats.tokens_reserved


@pytest.fixture
def clock() -> Clock:
    return Clock()


# ── reserving and settling ───────────────────────────────────────────────────────────────


def test_a_call_reserves_its_estimate_and_settles_with_its_usage(clock: Clock) -> None:
    limits = limiter(clock)
    ticket = sent(limits, 600)
    assert (limits.stats().tokens_used, limits.stats().tokens_reserved) == (0, 600)
    ticket.settle(150)
    assert (limits.stats().tokens_used, limits.stats().tokens_reserved) == (150, 0)
    assert limits.stats().remaining_share == pytest.approx(0.85)


@pytest.mark.parametrize("estimates", [(600, 600, 100), (0, -5, 1000), (5000, 1), (400, 400, 400)])
def test_starting_a_call_is_entering_and_asking_at_once(estimates: tuple[int, ...]) -> None:
    clock = Clock()
    one, other = limiter(clock, requests=60), limiter(clock, requests=60)
    for tokens in estimates:
        ticket, wait = one.start(tokens, timeout=30)
        twin = other.enter(tokens, timeout=30)
        assert (wait, ticket.wait()) == (twin.wait(), twin.wait())
        assert one.stats() == other.stats()
        clock.advance(2)
    clock.advance(61)
    assert one.stats() == other.stats()


def test_a_call_does_not_start_before_those_that_wait(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 900)
    waiting, wait = limits.start(500)
    assert wait > 0
    small, behind = limits.start(100)  # there would be room for it
    assert behind > wait
    clock.advance(wait)
    assert (waiting.wait(), small.wait()) == (0.0, 0.0)


def test_a_call_that_was_started_and_refused_gives_everything_back(clock: Clock) -> None:
    limits = limiter(clock, requests=60)
    ticket, _ = limits.start(1000)
    assert limits.room()[0] == 0.0
    ticket.release()
    assert (taken(limits), limits.stats().requests_used) == (0, 0)


def test_a_call_of_unknown_usage_keeps_its_estimate(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 600).settle(None)
    assert limits.stats().tokens_used == 600


def test_a_call_that_used_more_than_estimated_counts_what_it_used(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 100).settle(900)
    assert limits.stats().tokens_used == 900
    assert limits.enter(200).wait() == pytest.approx(60)


def test_what_is_given_back_is_free_at_once(clock: Clock) -> None:
    limits = limiter(clock, requests=600)
    first = limits.enter(600)
    first.release()
    second = sent(limits, 700)
    second.release()
    assert (taken(limits), limits.stats().requests_used) == (0, 0)


def test_a_ticket_ends_once(clock: Clock) -> None:
    limits = limiter(clock)
    ticket = sent(limits, 600)
    ticket.settle(150)
    ticket.settle(900)
    ticket.release()
    assert limits.stats().tokens_used == 150
    assert ticket.wait() == 0.0


def test_a_ticket_that_was_settled_without_asking_counts_all_the_same(clock: Clock) -> None:
    limits = limiter(clock)
    limits.enter(600).settle(150)
    assert limits.stats().tokens_used == 150


def test_tokens_are_free_again_a_minute_after_the_answer(clock: Clock) -> None:
    limits = limiter(clock)
    ticket = sent(limits, 600)
    clock.advance(0.2)
    ticket.settle(600)
    clock.advance(59.9)
    waiting = limits.enter(600)
    assert waiting.wait() == pytest.approx(0.1)
    clock.advance(0.1)
    assert taken(limits) == 0
    assert waiting.wait() == 0.0


def test_without_an_answer_they_are_free_a_minute_and_half_a_second_after_sending(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 600)
    assert limits.enter(600).wait() == pytest.approx(60.5)


def test_a_slow_answer_changes_nothing_once_its_minute_is_over(clock: Clock) -> None:
    limits = limiter(clock)
    ticket = sent(limits, 600)
    clock.advance(61)
    assert taken(limits) == 0
    ticket.settle(5000, headers(1000, 10))
    assert taken(limits) == 0


def test_what_was_granted_counts_from_when_the_caller_heard_of_it(clock: Clock) -> None:
    limits = limiter(clock)
    late = limits.enter(600)
    clock.advance(50)
    assert late.wait() == 0.0
    clock.advance(20)
    assert limits.enter(600).wait() == pytest.approx(40.5)


# ── the queue ────────────────────────────────────────────────────────────────────────────


def test_only_the_head_has_a_time_to_wait(clock: Clock) -> None:
    limits = limiter(clock, queue_timeout=None)
    sent(limits, 900)
    head, second = limits.enter(300), limits.enter(50)
    assert head.wait() == pytest.approx(60.5)
    assert second.wait() == math.inf
    assert (head.ahead, second.ahead, limits.stats().queued) == (0, 1, 2)


def test_a_small_call_does_not_overtake_a_large_one(clock: Clock) -> None:
    limits = limiter(clock)
    running = sent(limits, 500)
    large, small = limits.enter(800), limits.enter(10)
    assert small.wait() > 0
    running.settle(0)
    assert large.signal.is_set
    assert small.signal.is_set
    assert large.wait() == small.wait() == 0.0


def test_lower_numbers_go_first_and_then_the_first_come(clock: Clock) -> None:
    limits = limiter(clock)
    running = sent(limits, 1000)
    tickets = [limits.enter(1000, priority=priority) for priority in (1, 0, 1, 0)]
    assert [ticket.ahead for ticket in tickets] == [2, 0, 3, 1]
    order = []
    for _ in tickets:
        running.settle(0)
        running = next(ticket for ticket in tickets if ticket.signal.is_set and ticket not in order)
        assert running.wait() == 0.0
        order.append(running)
    assert [tickets.index(ticket) for ticket in order] == [1, 3, 0, 2]


def test_an_urgent_call_goes_at_once_where_only_a_large_one_waits(clock: Clock) -> None:
    limits = limiter(clock, max_queue=1)
    sent(limits, 500)
    large = limits.enter(900)
    assert large.wait() > 0
    assert sent(limits, 100, priority=-1).wait() == 0.0


def test_a_settled_call_grants_as_many_as_fit(clock: Clock) -> None:
    limits = limiter(clock)
    running = sent(limits, 1000)
    waiting = [limits.enter(300) for _ in range(5)]
    assert all(ticket.wait() > 0 for ticket in waiting)
    signals = [ticket.signal for ticket in waiting]
    running.settle(100)
    assert [signal.is_set for signal in signals] == [True, True, True, False, False]
    assert [ticket.wait() for ticket in waiting[:3]] == [0.0, 0.0, 0.0]


def test_when_the_head_gives_up_the_next_is_woken_to_take_over(clock: Clock) -> None:
    limits = limiter(clock, queue_timeout=None)
    sent(limits, 900)
    head, second = limits.enter(300), limits.enter(400)
    head.wait()
    assert second.wait() == math.inf
    signal = second.signal
    head.release()
    assert signal.is_set
    assert second.wait() == pytest.approx(60.5)
    assert not second.signal.is_set


def test_a_head_that_may_go_sooner_is_woken_to_ask_again(clock: Clock) -> None:
    limits = limiter(clock)
    first = sent(limits, 500)
    clock.advance(10)
    second = sent(limits, 500)
    clock.advance(1)
    head = limits.enter(600)
    assert head.wait() == pytest.approx(59.5)  # until the second of them leaves
    signal = head.signal
    second.settle(300)
    assert signal.is_set
    assert head.wait() == pytest.approx(49.5)
    first.settle(500)
    clock.advance(49.5)
    assert head.wait() == 0.0


def test_a_head_behind_a_call_that_was_not_sent_yet_is_woken_when_it_is(clock: Clock) -> None:
    limits = limiter(clock, queue_timeout=None)
    slow, head = limits.enter(900), limits.enter(900)
    assert head.wait() == math.inf
    signal = head.signal
    assert slow.wait() == 0.0
    assert signal.is_set
    assert head.wait() == pytest.approx(60.5)


def test_asking_twice_is_harmless(clock: Clock) -> None:
    limits = limiter(clock)
    ticket = sent(limits, 900)
    assert ticket.wait() == 0.0
    assert taken(limits) == 900
    waiting = limits.enter(900)
    assert waiting.wait() == waiting.wait()
    assert limits.stats().queued == 1


def test_anyone_who_asks_keeps_the_queue_moving(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 900)
    head, second = limits.enter(300), limits.enter(300)
    head.wait()
    second.wait()
    clock.advance(60.5)
    assert second.wait() == 0.0
    assert head.signal.is_set
    assert head.wait() == 0.0


def test_a_full_queue_refuses_and_says_when_to_come_again(clock: Clock) -> None:
    limits = limiter(clock, max_queue=1)
    sent(limits, 900)
    limits.enter(300)
    with pytest.raises(QueueFullError, match=r"1 calls wait .* 1,000 tokens a minute") as caught:
        limits.enter(300)
    assert caught.value.retry_after == pytest.approx(60.5)
    assert limits.stats().queued == 1


def test_without_a_queue_a_call_goes_now_or_not_at_all(clock: Clock) -> None:
    limits = limiter(clock, max_queue=0)
    sent(limits, 900)
    with pytest.raises(QueueFullError):
        limits.enter(300)
    assert sent(limits, 100).wait() == 0.0


def test_a_call_waits_no_longer_than_it_may(clock: Clock) -> None:
    limits = limiter(clock, queue_timeout=30)
    sent(limits, 900)
    ticket, patient = limits.enter(300, timeout=5), limits.enter(300, timeout=500)
    assert ticket.wait() == pytest.approx(5)
    assert patient.wait() == pytest.approx(30)
    clock.advance(5)
    with pytest.raises(QueueTimeoutError, match="waited 5 s for its turn"):
        ticket.wait()
    assert limits.stats().queued == 1
    assert patient.signal.is_set
    with pytest.raises(QueueTimeoutError):
        ticket.wait()


def test_a_call_that_may_not_wait_goes_at_once_or_fails(clock: Clock) -> None:
    limits = limiter(clock)
    assert sent(limits, 900, timeout=0).wait() == 0.0
    with pytest.raises(QueueTimeoutError):
        limits.enter(300, timeout=0).wait()


def test_a_caller_that_went_away_without_a_word_does_not_block_the_queue(clock: Clock) -> None:
    limits = limiter(clock, queue_timeout=30)
    sent(limits, 900)
    gone = limits.enter(300)
    clock.advance(20)
    ticket = limits.enter(300)
    clock.advance(11)
    assert ticket.wait() == pytest.approx(19)
    assert ticket.ahead == 0
    with pytest.raises(QueueTimeoutError):
        gone.wait()


def test_a_call_that_left_the_queue_may_not_go(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 900)
    ticket = limits.enter(300)
    ticket.release()
    with pytest.raises(QueueError, match="has left"):
        ticket.wait()
    assert ticket.settle(300) is None
    assert taken(limits) == 900


def test_a_call_above_the_whole_quota_goes_alone(clock: Clock) -> None:
    limits = limiter(clock)
    running = sent(limits, 10)
    huge, small = limits.enter(50_000), limits.enter(1)
    assert huge.wait() == pytest.approx(60.5)
    running.release()
    assert huge.wait() == 0.0
    assert taken(limits) == 1000
    assert small.wait() > 0


def test_many_that_leave_a_blocked_queue_leave_nothing_behind(clock: Clock) -> None:
    limits = limiter(clock, max_queue=10)
    sent(limits, 1000)
    limits.enter(1000)
    before = len(gc.get_objects())
    for _ in range(5000):
        limits.enter(10).release()
    assert limits.stats().queued == 1
    assert len(gc.get_objects()) - before < 1000


# ── requests ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("requests", [1, 6, 7, 60, 90, 100, 600, 2500])
def test_requests_are_spread_evenly_and_fit_every_slice(clock: Clock, requests: int) -> None:
    limits = limiter(clock, None, requests, queue_timeout=None)
    starts: list[float] = []
    for _ in range(min(3 * requests, 400)):
        ticket = limits.enter(100)
        while (seconds := ticket.wait()) > 0:
            clock.advance(seconds)
        starts.append(clock())
        ticket.settle(None)
    for length in (1, 10, 60):
        share = math.ceil(requests * length / 60)
        gaps = [later - sooner for sooner, later in zip(starts, starts[share:], strict=False)]
        assert all(gap >= length for gap in gaps)
    pace = (starts[-1] - starts[0]) / (len(starts) - 1)
    assert pace <= 60 / requests * 1.06  # and not much is left unused


def test_paced_calls_that_are_sent_late_still_keep_their_distance(clock: Clock) -> None:
    limits = limiter(clock, None, 60)
    first, second = limits.enter(1), limits.enter(1)
    assert second.wait() > 0
    clock.advance(30)
    assert first.wait() == 0.0
    assert second.wait() == pytest.approx(1.05)
    clock.advance(1.05)
    assert second.wait() == 0.0
    assert limits.stats().requests_used == 2


def test_requests_of_other_processes_count_too(clock: Clock) -> None:
    limits = limiter(clock, None, 600, queue_timeout=None)
    sent(limits, 1).settle(None, headers("600", "595", "requests"))
    assert limits.stats().requests_used == 5
    clock.advance(1)
    sent(limits, 1).settle(None, headers("600", "1", "requests"))
    assert limits.stats().requests_used == 599


# ── the server's word ────────────────────────────────────────────────────────────────────


def test_a_server_that_keeps_its_estimate_is_believed(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 600).settle(150, headers("1000", "400"))
    assert limits.stats().tokens_used == 600
    assert limits.enter(500).wait() == pytest.approx(60)


def test_nothing_remaining_does_not_refund_what_the_server_may_hold(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 1000).settle(150, headers("1000", "0"))
    assert limits.enter(800).wait() == pytest.approx(60)


def test_nothing_remaining_is_not_taken_for_the_use_of_others(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 100).settle(50, headers(1000, 0))
    assert sent(limits, 900).wait() == 0.0


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [
        ("-1", "-1"),
        ("0", "0"),
        ("1000", "-1"),
        ("1000", "many"),
        ("many", "10"),
        ("1000", "1001"),
        (None, "10"),
        ("1000", None),
        (1000.5, 10),
        (True, False),
        ("9" * 30, "10"),
        ([], {}),
    ],
)
def test_headers_that_make_no_sense_are_passed_over(clock: Clock, limit: object, remaining: object) -> None:
    limits = limiter(clock)
    sent(limits, 600).settle(150, headers(limit, remaining))
    assert limits.stats().tokens_used == 150
    assert limits.stats().tokens_limit == 1000


def test_what_others_use_is_taken_into_account_for_a_minute(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 100).settle(50, headers(1000, 300))
    assert limits.stats().tokens_used == 700
    ticket = limits.enter(400)
    assert ticket.wait() == pytest.approx(60)
    clock.advance(60)
    assert ticket.wait() == 0.0


def test_the_newest_request_knows_best_whenever_its_answer_comes(clock: Clock) -> None:
    limits = limiter(clock)
    slow = sent(limits, 100)
    clock.advance(5)
    sent(limits, 100).settle(50, headers(1000, 700))
    assert limits.stats().tokens_used == 200  # and 100 that are under way
    slow.settle(50, headers(1000, 900))
    assert limits.stats().tokens_used == 300


def test_answers_that_crossed_on_their_way_never_free_what_the_server_counts(clock: Clock) -> None:
    limits = limiter(clock)
    tickets = [sent(limits, 100) for _ in range(10)]
    clock.advance(1)
    for arrived, ticket in enumerate(reversed(tickets), 1):
        ticket.settle(20, headers(1000, 1000 - 100 * arrived))
        assert taken(limits) == 1000


def test_a_request_that_may_have_been_overtaken_is_not_missed(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 500)
    clock.advance(0.1)
    sent(limits, 100).settle(10, headers(1000, 900))  # it came first
    assert taken(limits) == 600


def test_a_request_that_has_left_the_servers_window_first_is_not_missed_twice(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 500)
    clock.advance(60.2)
    sent(limits, 100).settle(10, headers(1000, 900))
    clock.advance(0.4)
    assert taken(limits) == 100


def test_others_are_counted_right_when_a_request_leaves_just_before(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 500).settle(500)
    clock.advance(59.98)
    sent(limits, 100)
    clock.advance(0.03)
    sent(limits, 100).settle(100, headers(1000, 500))
    assert taken(limits) == 500


def test_a_connection_that_failed_earlier_does_not_blur_what_the_server_says(clock: Clock) -> None:
    limits = limiter(clock)
    lost = sent(limits, 500)
    clock.advance(0.1)
    sent(limits, 100)
    lost.release()
    clock.advance(1)
    sent(limits, 100).settle(10, headers(1000, 810))
    assert taken(limits) == 190


def test_a_server_that_counts_less_than_we_reserve_leaves_more_room(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 400).settle(40, headers(1000, 800))
    clock.advance(1)
    sent(limits, 400).settle(40, headers(1000, 600))
    assert limits.stats().tokens_used == 400
    clock.advance(59)
    assert limits.stats().tokens_used == 200  # half of what was known has left


def test_the_servers_window_is_followed_as_requests_leave_it(clock: Clock) -> None:
    limits = limiter(clock)
    for minute_used in (300, 600, 900):
        sent(limits, 300).settle(10, headers(1000, 1000 - minute_used))
        clock.advance(10)
    head = limits.enter(400)
    assert head.wait() == pytest.approx(30)
    clock.advance(30)
    assert head.wait() == 0.0
    assert taken(limits) == 1000


def test_a_connection_that_failed_is_not_held_against_the_quota(clock: Clock) -> None:
    limits = limiter(clock)
    lost = sent(limits, 500)
    clock.advance(1)
    sent(limits, 100).settle(10, headers(1000, 900))
    lost.release()
    assert limits.stats().tokens_used == 100


def test_a_lower_limit_of_the_server_holds_while_it_says_so(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 100).settle(100, headers(400, 300))
    assert limits.stats().tokens_limit == 400
    assert limits.enter(400).wait() > 0
    clock.advance(60)
    assert limits.stats().tokens_limit == 1000


def test_a_higher_limit_of_the_server_changes_nothing(clock: Clock) -> None:
    limits = limiter(clock)
    sent(limits, 100).settle(100, headers(250_000, 249_900))
    assert limits.stats().tokens_limit == 1000
    assert limits.enter(1000).wait() > 0


# ── sharing, warning, configuring ────────────────────────────────────────────────────────


def test_only_a_share_of_the_quota_is_used_where_others_have_the_rest(clock: Clock) -> None:
    limits = limiter(clock)
    limits.scale(0.25)
    assert limits.stats().tokens_limit == 250
    ticket = sent(limits, 200)
    assert limits.enter(100).wait() > 0
    ticket.settle(200, headers(1000, 100))  # the others have used 700: their share, not ours
    limits.enter(100).release()
    assert limits.stats().queued == 1
    limits.scale(1)
    assert limits.stats().tokens_limit == 1000


@pytest.mark.parametrize("share", [0, -1, 1.5, math.nan])
def test_a_share_is_a_part_of_the_whole(clock: Clock, share: float) -> None:
    with pytest.raises(ConfigError, match="share of a quota"):
        limiter(clock).scale(share)


def test_a_larger_share_lets_those_through_who_waited(clock: Clock) -> None:
    limits = limiter(clock)
    limits.scale(0.5)
    sent(limits, 400)
    ticket = limits.enter(400)
    ticket.wait()
    limits.scale(1.0)
    assert ticket.signal.is_set
    assert ticket.wait() == 0.0


def test_the_token_meter_warns_once_a_minute_from_four_fifths_of_the_quota(clock: Clock) -> None:
    limits = limiter(clock)
    assert sent(limits, 500).settle(799) is None
    assert sent(limits, 1).settle(1) == (800, 1000)
    assert sent(limits, 50).settle(50) is None
    clock.advance(61)
    assert sent(limits, 900).settle(900) == (900, 1000)


def test_what_is_only_reserved_does_not_warn(clock: Clock) -> None:
    limits = limiter(clock, warn_at=0.5)
    sent(limits, 450)
    assert sent(limits, 450).settle(100) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"tokens_per_minute": 0},
        {"tokens_per_minute": 10.5},
        {"tokens_per_minute": True},
        {"requests_per_minute": -1},
        {"tokens_per_minute": 1, "max_queue": -1},
        {"tokens_per_minute": 1, "max_queue": None},
        {"tokens_per_minute": 1, "queue_timeout": 0},
        {"tokens_per_minute": 1, "queue_timeout": math.nan},
        {"tokens_per_minute": 1, "queue_timeout": "5"},
        {"tokens_per_minute": 1, "warn_at": 0},
        {"tokens_per_minute": 1, "warn_at": 80},
    ],
)
def test_nonsense_is_refused_with_the_name_of_its_field(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        RateLimitConfig(**wrong)
    assert caught.value.field == (list(wrong)[-1] if wrong else "tokens_per_minute")


def test_stats_say_when_the_next_call_goes(clock: Clock) -> None:
    limits = limiter(clock, 1000, 60)
    assert limits.stats().next_free_seconds == 0
    sent(limits, 1000)
    assert limits.stats().next_free_seconds == pytest.approx(60.5)
    assert limits.stats().remaining_share == 0


# ── what it costs ────────────────────────────────────────────────────────────────────────


def test_a_hundred_thousand_requests_a_minute_stay_cheap_and_small(clock: Clock) -> None:
    limits = limiter(clock, 10**9)
    said = headers(10**9, 10**8)
    began = time.perf_counter()
    for _ in range(100_000):
        sent(limits, 600).settle(150, said)
        clock.advance(0.0006)
    assert time.perf_counter() - began < 10  # about 0.8 s where nothing else runs
    before = len(gc.get_objects())
    for _ in range(20_000):
        sent(limits, 600).settle(150, said)
        clock.advance(0.0006)
    assert len(gc.get_objects()) - before < 2000


def test_an_uncontended_call_takes_microseconds(clock: Clock) -> None:
    limits = RateLimiter(RateLimitConfig(tokens_per_minute=10**12))

    def call() -> None:
        ticket = limits.enter(600)
        ticket.wait()
        ticket.settle(150)

    best = min(timeit.repeat(call, number=2000, repeat=5)) / 2000
    assert best < 60e-6  # about 4 µs where nothing else runs


def test_a_limiter_shows_its_limits() -> None:
    config = RateLimitConfig(60_000, 360)
    assert repr(RateLimiter(config)) == "RateLimiter(60,000 tokens a minute and 360 requests a minute)"
