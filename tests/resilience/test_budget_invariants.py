"""What holds for a budget whatever happens: by hypothesis, and with threads and tasks at once."""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from loom_py.clock import VirtualClock
from loom_py.errors import BudgetExceededError
from loom_py.resilience.budget import Budget, BudgetConfig, Reservation, Scope

UNIT = Decimal("1E-12")
LIMIT_USD = 1_000
LIMIT_TOKENS = 800
SCOPES = (Scope("a", "one"), Scope("a", "two"))


class Machine(RuleBasedStateMachine):
    """Any order of reserving, ending and extending, against sums kept by hand."""

    held: Bundle[tuple[Scope, Reservation, int, int]] = Bundle("held")

    def open(self) -> Budget:
        return Budget(BudgetConfig(usd=LIMIT_USD * UNIT, tokens=LIMIT_TOKENS), clock=VirtualClock())

    def __init__(self) -> None:
        super().__init__()
        self.budget = self.open()
        self.spent = {scope: [0, 0] for scope in SCOPES}
        self.unsure = {scope: [0, 0] for scope in SCOPES}
        self.reserved = {scope: [0, 0] for scope in SCOPES}
        self.limit = {scope: [LIMIT_USD, LIMIT_TOKENS] for scope in SCOPES}

    @rule(target=held, scope=st.sampled_from(SCOPES), usd=st.integers(0, 700), tokens=st.integers(0, 500))
    def reserve(self, scope: Scope, usd: int, tokens: int) -> tuple[Scope, Reservation, int, int]:
        room = [
            limit - spent - reserved
            for limit, spent, reserved in zip(
                self.limit[scope], self.spent[scope], self.reserved[scope], strict=True
            )
        ]
        try:
            reservation = self.budget.reserve(scope, usd * UNIT, tokens)
        except BudgetExceededError:
            assert usd > room[0] or tokens > room[1]
            return scope, self.budget.reserve(scope, Decimal(0), 0), 0, 0
        assert usd <= room[0]
        assert tokens <= room[1]
        self.add(self.reserved, scope, usd, tokens)
        return scope, reservation, usd, tokens

    @rule(one=consumes(held), share=st.fractions(0, 1), known=st.booleans())
    def settle(self, one: tuple[Scope, Reservation, int, int], share: Decimal, known: bool) -> None:
        scope, reservation, usd, tokens = one
        cost, used = (int(usd * share), int(tokens * share)) if known else (usd, int(tokens * share))
        reservation.settle(cost * UNIT if known else None, used)
        self.add(self.reserved, scope, -usd, -tokens)
        self.add(self.spent, scope, cost, used)
        if not known:
            self.add(self.unsure, scope, usd, 0)
        reservation.uncertain()

    @rule(one=consumes(held))
    def release(self, one: tuple[Scope, Reservation, int, int]) -> None:
        one[1].release()
        self.add(self.reserved, one[0], -one[2], -one[3])

    @rule(one=consumes(held))
    def uncertain(self, one: tuple[Scope, Reservation, int, int]) -> None:
        one[1].uncertain()
        self.add(self.reserved, one[0], -one[2], -one[3])
        self.add(self.spent, one[0], one[2], one[3])
        self.add(self.unsure, one[0], one[2], one[3])

    @rule(scope=st.sampled_from(SCOPES), amount=st.integers(0, 300), tokens=st.booleans())
    def extend(self, scope: Scope, amount: int, tokens: bool) -> None:
        if tokens:
            self.budget.extend(scope, "tokens", amount)
        else:
            self.budget.extend(scope, "usd", amount * UNIT)
        self.limit[scope][int(tokens)] += amount

    @invariant()
    def the_sums_are_exact_and_within_the_limit(self) -> None:
        for scope in SCOPES:
            status = self.budget.status(scope)
            for number, (unit, one) in enumerate(((UNIT, status.usd), (Decimal(1), status.tokens))):
                assert one.limit == self.limit[scope][number] * unit
                assert one.spent == self.spent[scope][number] * unit
                assert one.reserved == self.reserved[scope][number] * unit
                assert one.uncertain == self.unsure[scope][number] * unit
                assert one.spent + one.reserved <= one.limit
                assert one.remaining == one.limit - one.spent - one.reserved

    def add(self, sums: dict[Scope, list[int]], scope: Scope, usd: int, tokens: int) -> None:
        sums[scope][0] += usd
        sums[scope][1] += tokens


class StoredMachine(Machine):
    """The same on a ledger in a file, which is closed and opened again at any time."""

    def open(self) -> Budget:
        self.folder = tempfile.TemporaryDirectory()
        self.opened: list[Budget] = []
        return self.reopened()

    def reopened(self) -> Budget:
        config = BudgetConfig(
            usd=LIMIT_USD * UNIT, tokens=LIMIT_TOKENS, ledger=Path(self.folder.name) / "spent.db"
        )
        self.opened.append(Budget(config, clock=VirtualClock()))
        return self.opened[-1]

    @rule()
    def open_again(self) -> None:
        self.budget.close()
        self.budget = self.reopened()

    def teardown(self) -> None:
        for budget in self.opened:  # what was reserved before is ended on the budget of then
            budget.close()
        self.folder.cleanup()


TestInMemory = Machine.TestCase
TestInMemory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestInAFile = StoredMachine.TestCase
TestInAFile.settings = settings(
    max_examples=5, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class Spender:
    """Many runs on one budget; keeps what they really cost."""

    limit = Decimal("1.00")
    worst = Decimal("0.013")

    def __init__(self) -> None:
        self.budget = Budget(BudgetConfig(usd=self.limit, per="agent"), clock=VirtualClock())
        self.refused = self.needless = 0
        self.most = Decimal(0)
        self.charged: list[Decimal] = []
        self._lock = threading.Lock()

    def run(self, seed: int, pause: Callable[[], object] = lambda: None) -> None:
        chance = random.Random(seed)
        for number in range(40):
            try:
                reservation = self.budget.reserve(Scope("a", f"{seed}-{number}"), self.worst, 1)
            except BudgetExceededError as error:
                self.refused += 1
                self.needless += error.spent + error.reserved + error.needed <= self.limit
                continue
            pause()
            cost = chance.choice([self.worst, self.worst / 3, Decimal(0)]).quantize(UNIT)
            self.watch()
            if chance.random() < 0.2:
                reservation.release()
                continue
            reservation.settle(cost, 1)
            with self._lock:
                self.charged.append(cost)

    def watch(self) -> None:
        status = self.budget.status(Scope("a")).usd
        with self._lock:
            self.most = max(self.most, status.spent + status.reserved)

    def check(self) -> None:
        status = self.budget.status(Scope("a")).usd
        assert self.refused > 0
        assert self.needless == 0
        assert self.most <= self.limit
        assert status.spent == sum(self.charged)
        assert status.spent <= self.limit
        assert status.spent > self.limit - self.worst
        assert status.reserved == status.uncertain == 0


def test_fifty_threads_on_one_budget_never_overspend_it() -> None:
    spender = Spender()
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(spender.run, range(50)))
    spender.check()


async def test_fifty_tasks_on_one_budget_never_overspend_it() -> None:
    budget = Budget(BudgetConfig(usd="1.00", per="agent"), clock=VirtualClock())
    worst, cost = Decimal("0.03"), Decimal("0.021")
    refused, under_way, most = 0, 0, 0

    async def run() -> None:
        nonlocal refused, under_way, most
        for _ in range(5):
            try:
                reservation = budget.reserve(Scope("a"), worst, 1)
            except BudgetExceededError:
                refused += 1
                continue
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001)
            under_way -= 1
            reservation.settle(cost, 1)

    await asyncio.gather(*(run() for _ in range(50)))
    status = budget.status(Scope("a")).usd
    assert refused
    assert most == 33  # 33 × 0.03 fit into 1.00
    assert status.spent == cost * budget.status(Scope("a")).calls
    assert Decimal("0.97") < status.spent <= 1


def test_of_two_threads_that_end_one_reservation_only_one_does() -> None:
    budget = Budget(BudgetConfig(usd="1"), clock=VirtualClock())
    scope = Scope("a", "c")
    with ThreadPoolExecutor(4) as pool:
        for _ in range(200):
            reservation = budget.reserve(scope, Decimal("0.5"), 1)
            list(pool.map(lambda _, end=reservation.release: end(), range(4)))
    assert budget.status(scope).usd.reserved == 0
    assert budget.status(scope).calls == 0


@pytest.mark.parametrize("per", ["chat", "session", "agent", "day"])
def test_one_crossing_is_told_to_one_of_many_threads(per: str) -> None:
    budget = Budget(BudgetConfig(usd="1", per=per), clock=VirtualClock())  # type: ignore[arg-type]  # one of the four
    scope = Scope("a", "c", "s")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: budget.reserve(scope, Decimal("0.1"), 1), range(10)))
    assert sum(reservation.alert is not None for reservation in made) == 1
