"""Several real processes act as one, and outlive each other."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loom_py.resilience.breaker import BreakerConfig
from loom_py.resilience.shared import (
    BudgetClaim,
    EnterReply,
    EnterRequest,
    LeaveReport,
    SharedState,
    Spending,
)

ASK = """
    from dataclasses import asdict
    CONFIG = BreakerConfig(open_seconds=0.3)
    say("ready")
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        if command == "enter":
            permit, budgets = arguments
            claims = tuple(BudgetClaim(*each) for each in budgets)
            reply = shared.enter(EnterRequest(permit, "gpt", CONFIG, 400, 1000, None, claims))
            say([reply.verdict, reply.is_probe, reply.wait])
        else:
            permit, outcome, more = arguments
            spent = tuple(Spending(*each) for each in more.pop("spent", ()))
            shared.leave(LeaveReport(permit, "gpt", outcome, CONFIG, spent=spent, **more))
            say("told")
"""

CONFIG = BreakerConfig(open_seconds=0.3)

ASK_LONG_OPEN = ASK.replace("open_seconds=0.3", "open_seconds=30")
"""With a breaker that is still open when a slow machine asks again."""


class Asker:
    """A process that asks and tells on command."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        assert peer.hear() == "ready"
        self.count = 0

    def enter(self, *budgets: BudgetClaim) -> tuple[str, bool, float]:
        self.count += 1
        self.peer.tell(["enter", f"{self.peer.process.pid}-{self.count}", budgets])
        verdict, is_probe, wait = self.peer.hear()
        return verdict, is_probe, wait

    def leave(self, outcome: str, **more: Any) -> None:
        self.peer.tell(["leave", f"{self.peer.process.pid}-{self.count}", outcome, more])
        assert self.peer.hear() == "told"


@pytest.fixture
def shared(redis_server: Any) -> Iterator[SharedState]:
    with contextlib.closing(SharedState(redis_server.url, timeout=5, heartbeat=0.2, lease=1.0)) as state:
        yield state


def reply_of(shared: SharedState, permit: str, *budgets: BudgetClaim, tokens: int = 400) -> EnterReply:
    reply = shared.enter(EnterRequest(permit, "gpt", CONFIG, tokens, 1000, None, budgets))
    assert reply is not None
    return reply


def granted_within(seconds: float, ask: Callable[[], EnterReply]) -> EnterReply:
    deadline = time.monotonic() + seconds
    while True:
        reply = ask()
        if reply.is_granted:
            return reply
        assert time.monotonic() < deadline, f"not granted within {seconds} s: {reply}"
        time.sleep(0.02)


# ── as one ───────────────────────────────────────────────────────────────────────────────


def test_failures_seen_by_two_processes_open_the_breaker_of_both(peers: Callable[..., Any]) -> None:
    askers = [Asker(peers(ASK_LONG_OPEN)) for _ in range(2)]
    for number in range(5):
        asker = askers[number % 2]
        assert asker.enter()[0] == "granted"
        asker.leave("failure", tokens=0)
    assert [asker.enter()[0] for asker in askers] == ["circuit_open", "circuit_open"]


def test_one_429_pauses_both_processes(peers: Callable[..., Any]) -> None:
    first, second = (Asker(peers(ASK)) for _ in range(2))
    first.enter()
    first.leave("neutral", throttled=True, throttle_seconds=7.0)
    verdict, _, wait = second.enter()
    assert verdict == "throttled"
    assert 6 < wait <= 7.001


def test_four_processes_never_exceed_their_joint_tokens_a_minute(peers: Callable[..., Any]) -> None:
    started = [
        peers("""
            say("ready")
            hear()
            granted = 0
            for number in range(60):
                reply = shared.enter(
                    EnterRequest(f"{os.getpid()}-{number}", "gpt", None, 500, 60_000, None)
                )
                granted += reply.is_granted
            say(granted)
        """)
        for _ in range(4)
    ]
    for peer in started:
        assert peer.hear() == "ready"
    for peer in started:
        peer.tell()
    granted = [peer.hear() for peer in started]
    assert sum(granted) * 500 == 60_000  # of 120,000 asked for
    assert all(granted), "one process got nothing at all"


def test_four_processes_never_overspend_their_joint_budget(
    peers: Callable[..., Any], shared: SharedState
) -> None:
    started = [
        peers("""
            say("ready")
            hear()
            spent = 0
            for number in range(25):
                permit = f"{os.getpid()}-{number}"
                claim = BudgetClaim("agent:a", "usd", 1000, 30)
                reply = shared.enter(EnterRequest(permit, "gpt", budgets=(claim,)))
                if reply.is_granted:
                    cost = 10 + number % 21
                    spent += cost
                    shared.leave(
                        LeaveReport(permit, "gpt", "success", spent=(Spending("agent:a", "usd", cost),))
                    )
            say(spent)
        """)
        for _ in range(4)
    ]
    for peer in started:
        assert peer.hear() == "ready"
    for peer in started:
        peer.tell()
    spent = [peer.hear() for peer in started]
    sums = shared.balance("agent:a", "usd")
    assert sums is not None
    assert (sums.spent, sums.reserved) == (sum(spent), 0)
    assert 970 < sum(spent) <= 1000  # of up to 2,000 asked for


def test_half_open_lets_one_probe_through_over_all_processes(peers: Callable[..., Any]) -> None:
    askers = [Asker(peers(ASK)) for _ in range(4)]
    for _ in range(5):
        askers[0].enter()
        askers[0].leave("failure", tokens=0)
    time.sleep(0.35)
    for asker in askers:  # all ask before anyone is answered
        asker.count += 1
        asker.peer.tell(["enter", f"{asker.peer.process.pid}-{asker.count}", []])
    answers = [asker.peer.hear() for asker in askers]
    assert sorted(verdict for verdict, _, _ in answers) == ["circuit_open"] * 3 + ["granted"]
    assert [is_probe for _, is_probe, _ in answers].count(True) == 1


def test_what_each_may_use_alone_is_one_part_of_as_many_as_there_are(
    peers: Callable[..., Any], shared: SharedState
) -> None:
    askers = [Asker(peers(ASK, heartbeat=0.2, lease=1.0)) for _ in range(2)]
    for asker in askers:
        asker.enter()
    reply_of(shared, "mine")
    assert shared.health().processes == 3
    assert shared.share() == pytest.approx(1 / 3)
    askers[0].peer.kill()
    deadline = time.monotonic() + 5
    while shared.health().processes != 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────

LEASE = 1.0
GRACE = 1.5


def test_the_probe_of_a_killed_process_goes_to_another_within_the_lease(
    peers: Callable[..., Any], shared: SharedState
) -> None:
    victim = Asker(peers(ASK, heartbeat=0.2, lease=LEASE))
    for _ in range(5):
        victim.enter()
        victim.leave("failure", tokens=0)
    time.sleep(0.35)
    assert victim.enter()[:2] == ("granted", True)
    assert reply_of(shared, "too-early").verdict == "circuit_open"
    time.sleep(1.2 * LEASE)
    assert reply_of(shared, "still-too-early").verdict == "circuit_open"  # it lives, and holds the probe
    victim.peer.kill()
    reply = granted_within(LEASE + GRACE, lambda: reply_of(shared, "probe"))
    assert reply.is_probe


def test_the_tokens_of_a_killed_process_go_to_another_within_the_lease(
    peers: Callable[..., Any], shared: SharedState
) -> None:
    victim = Asker(peers(ASK, heartbeat=0.2, lease=LEASE))
    victim.enter()
    assert not reply_of(shared, "too-early", tokens=1000).is_granted
    victim.peer.kill()
    granted_within(LEASE + GRACE, lambda: reply_of(shared, "later", tokens=1000))


def test_the_reserved_money_of_a_killed_process_counts_as_spent(
    peers: Callable[..., Any], shared: SharedState
) -> None:
    victim = Asker(peers(ASK, heartbeat=0.2, lease=LEASE))
    claim = BudgetClaim("agent:a", "usd", 100, 60)
    victim.enter(claim)
    assert reply_of(shared, "too-early", claim).verdict == "budget"
    victim.peer.kill()
    deadline = time.monotonic() + LEASE + GRACE
    while (sums := shared.balance("agent:a", "usd")) is None or sums.reserved:
        assert time.monotonic() < deadline, sums
        time.sleep(0.02)
    assert (sums.spent, sums.uncertain) == (60, 60)
    assert reply_of(shared, "later", BudgetClaim("agent:a", "usd", 100, 40)).is_granted


def test_a_process_that_was_only_cut_off_tells_what_it_really_spent(
    peers: Callable[..., Any], shared: SharedState
) -> None:
    victim = Asker(peers(ASK, heartbeat=0.2, lease=LEASE))
    victim.enter(BudgetClaim("agent:a", "usd", 100, 60))
    victim.peer.process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + LEASE + GRACE
    while (sums := shared.balance("agent:a", "usd")) is None or not sums.spent:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    victim.peer.process.send_signal(signal.SIGCONT)
    victim.leave("success", spent=[("agent:a", "usd", 25)])
    sums = shared.balance("agent:a", "usd")
    assert sums is not None
    assert (sums.spent, sums.reserved, sums.uncertain) == (25, 0, 0)


def test_many_permits_of_a_dead_process_are_taken_back_a_few_at_a_time(
    peers: Callable[..., Any], shared: SharedState
) -> None:
    victim = peers(
        """
        for number in range(300):
            claim = BudgetClaim("agent:a", "usd", 1000, 1)
            shared.enter(EnterRequest(str(number), "gpt", budgets=(claim,)))
        say("all held")
        hear()
        """,
        heartbeat=0.2,
        lease=LEASE,
    )
    victim.hear()
    victim.kill()
    time.sleep(1.1 * LEASE)
    seen = set()
    deadline = time.monotonic() + 5
    while (sums := shared.balance("agent:a", "usd")) is not None and sums.reserved:
        seen.add(sums.reserved)
        assert time.monotonic() < deadline
    assert sums is not None
    assert sums.spent == 300
    assert len(seen) >= 5


# ── one process, and its ends ────────────────────────────────────────────────────────────


def test_a_forked_child_is_a_process_of_its_own(peers: Callable[..., Any]) -> None:
    peer = peers(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        shared.enter(EnterRequest("parent", "gpt", budgets=(BudgetClaim("agent:a", "usd", 100, 10),)))
        if os.fork() == 0:
            shared.enter(EnterRequest("child", "gpt", budgets=(BudgetClaim("agent:a", "usd", 100, 20),)))
            time.sleep(0.7)  # longer than the lease: it has a heartbeat too
            sums = shared.balance("agent:a", "usd")
            say([shared.health().processes, sums.reserved])
            shared.leave(LeaveReport("child", "gpt"))
            shared.close()
            os._exit(0)
        os.wait()
        shared.leave(LeaveReport("parent", "gpt"))
        sums = shared.balance("agent:a", "usd")
        say([shared.health().processes, sums.reserved, sums.spent])
        """,
        heartbeat=0.1,
        lease=0.5,
    )
    assert peer.hear() == [2, 30]
    assert peer.hear() == [1, 0, 0]


def test_a_process_that_closes_is_gone_at_once(redis_server: Any, shared: SharedState) -> None:
    other = SharedState(redis_server.url, timeout=5)
    reply_of(other, "other")
    other.leave(LeaveReport("other", "gpt"))
    reply_of(shared, "mine")
    assert shared.health().processes == 2
    other.close()
    other.close()
    reply_of(shared, "mine-too")
    assert shared.health().processes == 1
    assert other.enter(EnterRequest("late", "gpt")) is None


def test_spent_money_is_told_even_after_closing(redis_server: Any, shared: SharedState) -> None:
    other = SharedState(redis_server.url, timeout=5)
    reply_of(other, "other", BudgetClaim("agent:a", "usd", 100, 60))
    other.close()
    other.leave(LeaveReport("other", "gpt", "success", spent=(Spending("agent:a", "usd", 25),)))
    sums = shared.balance("agent:a", "usd")
    assert sums is not None
    assert (sums.spent, sums.reserved) == (25, 0)
