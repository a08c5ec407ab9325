"""A budget on a clock that a test moves on: limits, prices, thresholds, days."""

from __future__ import annotations

import datetime as dt
import decimal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from loom_py.clock import VirtualClock
from loom_py.errors import BudgetExceededError, ConfigError, PriceUnknownError
from loom_py.llm import Cost, ModelPrice, PriceTable
from loom_py.messages import TokenUsage
from loom_py.resilience.budget import Budget, BudgetAlert, BudgetConfig, Scope, dearest_price

ME = Scope("flights", "chat-1", "ada")
UNKNOWN = Cost.unknown("no price of model x", model="x")


def budget(clock: VirtualClock | None = None, **settings: Any) -> Budget:
    return Budget(BudgetConfig(**settings), clock=clock or VirtualClock())


def usd(text: str) -> Decimal:
    return Decimal(text)


# ── configuration ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "usd"),
        ({"usd": 0}, "usd"),
        ({"usd": "-1"}, "usd"),
        ({"usd": "much"}, "usd"),
        ({"usd": float("nan")}, "usd"),
        ({"usd": Decimal("Infinity")}, "usd"),
        ({"usd": True}, "usd"),
        ({"usd": "1E-13"}, "usd"),
        ({"tokens": 0}, "tokens"),
        ({"tokens": 1.5}, "tokens"),
        ({"tokens": True}, "tokens"),
        ({"usd": 1, "per": "month"}, "per"),
        ({"usd": 1, "soft": 0}, "soft"),
        ({"usd": 1, "soft": 1.01}, "soft"),
        ({"usd": 1, "soft": float("nan")}, "soft"),
        ({"usd": 1, "on_unknown_price": "guess"}, "on_unknown_price"),
        ({"usd": 1, "assumed_price": ModelPrice(1, 2)}, "assumed_price"),
        ({"usd": 1, "on_unknown_price": "assume", "assumed_price": 3}, "assumed_price"),
        ({"usd": 1, "approve": 5}, "approve"),
        ({"usd": 1, "ledger": 5}, "ledger"),
        ({"usd": 1, "ledger": " "}, "ledger"),
    ],
)
def test_nonsense_is_refused_by_the_name_of_its_setting(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BudgetConfig(**settings)
    assert caught.value.field == field


@pytest.mark.parametrize("given", [Decimal("0.1"), "0.1", 0.1])
def test_money_may_be_given_in_any_form_and_is_exact(given: Any) -> None:
    assert BudgetConfig(usd=given).usd == Decimal("0.1")
    assert BudgetConfig(usd=3).usd == Decimal(3)


def test_a_ledgers_password_is_not_shown() -> None:
    config = BudgetConfig(usd=1, ledger="postgresql+psycopg://me:hunter2@127.0.0.1/x")
    assert "hunter2" not in repr(config)


def test_a_ledger_counts_to_a_million_usd(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1,000,000") as caught:
        budget(usd=1_000_001, ledger=tmp_path / "l.db")
    assert caught.value.field == "usd"


# ── reserving and ending ─────────────────────────────────────────────────────────────────


def test_the_worst_case_is_reserved_and_the_real_cost_stays() -> None:
    one = budget(usd="0.50", tokens=10_000)
    reservation = one.reserve(ME, usd("0.30"), 6_000)
    status = one.status(ME)
    assert (status.usd.reserved, status.usd.remaining) == (usd("0.3"), usd("0.2"))
    assert (status.tokens.reserved, status.tokens.remaining) == (usd("6000"), usd("4000"))
    reservation.settle(usd("0.0123"), 700)
    status = one.status(ME)
    assert (status.usd.spent, status.usd.remaining) == (usd("0.0123"), usd("0.4877"))
    assert status.usd.reserved == status.tokens.reserved == 0
    assert (status.tokens.spent, status.calls) == (usd("700"), 1)


def test_a_call_that_might_overspend_is_refused_with_all_amounts() -> None:
    one = budget(usd="0.50")
    one.reserve(ME, usd("0.10"), 1).settle(usd("0.05"), 1)
    one.reserve(ME, usd("0.40"), 1)
    with pytest.raises(BudgetExceededError, match=r"0\.05 left, with 0\.4 held") as caught:
        one.reserve(ME, usd("0.050000000001"), 1)
    error = caught.value
    assert (error.scope, error.unit, error.limit) == ("chat", "usd", usd("0.5"))
    assert (error.spent, error.reserved, error.needed) == (usd("0.05"), usd("0.4"), usd("0.050000000001"))
    assert error.ledger is None
    assert error.retry_after is None
    one.reserve(ME, usd("0.05"), 1)


def test_tokens_are_limited_by_themselves_and_a_refusal_reserves_neither() -> None:
    one = budget(usd="1", tokens=100)
    with pytest.raises(BudgetExceededError) as caught:
        one.reserve(ME, usd("0.5"), 101)
    assert (caught.value.unit, caught.value.needed, caught.value.limit) == ("tokens", usd("101"), usd("100"))
    assert one.status(ME).usd.reserved == 0
    assert one.status(ME).calls == 0


@pytest.mark.parametrize("verb", ["settle", "release", "uncertain"])
def test_a_reservation_ends_once_however_often_it_is_told(verb: str) -> None:
    one = budget(usd="1", tokens=1_000)
    reservation = one.reserve(ME, usd("0.5"), 500)
    verbs = {
        "settle": lambda: reservation.settle(usd("0.2"), 200),
        "release": reservation.release,
        "uncertain": reservation.uncertain,
    }
    verbs[verb]()
    after = one.status(ME)
    for other in verbs.values():
        other()
    assert one.status(ME) == after
    spent = {"settle": usd("0.2"), "release": usd("0"), "uncertain": usd("0.5")}[verb]
    unsure = usd("0.5") if verb == "uncertain" else usd("0")
    assert (after.usd.spent, after.usd.uncertain, after.usd.reserved) == (spent, unsure, usd("0"))
    assert after.calls == (verb != "release")


def test_a_cost_that_is_not_known_after_all_keeps_the_worst_case_as_uncertain() -> None:
    one = budget(usd="1", tokens=1_000)
    one.reserve(ME, usd("0.5"), 500).settle(None, 20)
    status = one.status(ME)
    assert (status.usd.spent, status.usd.uncertain) == (usd("0.5"), usd("0.5"))
    assert (status.tokens.spent, status.tokens.uncertain) == (usd("20"), usd("0"))


def test_a_cost_above_the_worst_case_is_charged_in_full_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    one = budget(usd="1", tokens=1_000)
    one.reserve(ME, usd("0.5"), 500).settle(usd("1.25"), 501)
    seen = logged(caplog)
    assert one.status(ME).usd.spent == usd("1.25")
    assert one.status(ME).usd.remaining == 0
    assert [(each["event"], each["unit"]) for each in seen] == [
        ("budget_reservation_exceeded", "usd"),
        ("budget_reservation_exceeded", "tokens"),
    ]
    assert (seen[0]["level"], seen[0]["spent"], seen[0]["reserved"]) == ("warning", "1.25", "0.5")


@pytest.mark.parametrize("cost", ["NaN", "-1", "Infinity"])
def test_a_cost_that_is_no_amount_keeps_the_worst_case(caplog: pytest.LogCaptureFixture, cost: str) -> None:
    one = budget(usd="1")
    one.reserve(ME, usd("0.5"), 1).settle(Decimal(cost), 1)
    seen = logged(caplog)
    assert one.status(ME).usd.uncertain == usd("0.5")
    assert seen[0]["event"] == "budget_cost_unusable"
    with pytest.raises(ValueError, match="finite"):
        one.reserve(ME, Decimal(cost), 1)


def test_what_is_finer_than_the_unit_is_rounded_up_in_any_decimal_context() -> None:
    one = budget(usd="1")
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_DOWN)):
        one.reserve(ME, usd("0.1234567890123"), 1).settle(usd("0.1234567890121"), 1)
        assert one.status(ME).usd.spent == usd("0.123456789013")


def test_only_tokens_may_be_limited_and_then_no_price_is_needed() -> None:
    one = budget(tokens=100)
    assert one.worst(UNKNOWN, 10, 10) is None
    one.reserve(ME, None, 100).settle(None, 40)
    one.reserve(ME, usd("5"), 60).settle(usd("2"), 10)
    status = one.status(ME)
    assert (status.tokens.spent, status.usd.spent) == (usd("50"), usd("2"))
    assert status.usd.limit is status.usd.remaining is None


# ── whose money it is ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("per", "other", "shared"),
    [
        ("chat", Scope("flights", "chat-2", "ada"), False),
        ("session", Scope("flights", "chat-2", "ada"), True),
        ("session", Scope("flights", "chat-1", "bob"), False),
        ("session", Scope("flights", "ada", None), False),
        ("agent", Scope("flights", "chat-2", "bob"), True),
        ("agent", Scope("trains", "chat-1", "ada"), False),
        ("day", Scope("flights", "chat-2", "bob"), True),
    ],
)
def test_each_scope_has_its_own_money(per: Any, other: Scope, shared: bool) -> None:
    one = budget(usd="1", per=per)
    one.reserve(ME, usd("0.75"), 1)
    if not shared:
        one.reserve(other, usd("0.75"), 1).release()
        return
    with pytest.raises(BudgetExceededError) as caught:
        one.reserve(other, usd("0.75"), 1)
    assert caught.value.scope == per


def test_a_session_budget_counts_by_chat_where_there_is_no_session() -> None:
    one = budget(usd="1", per="session")
    one.reserve(Scope("flights", "a"), usd("0.75"), 1)
    one.reserve(Scope("flights", "b"), usd("0.75"), 1)
    with pytest.raises(BudgetExceededError):
        one.reserve(Scope("flights", "a"), usd("0.75"), 1)
    assert {status.key for status in one.statuses()} == {"chat a", "chat b"}


def test_a_day_begins_at_midnight_utc_and_late_calls_count_for_their_own_day() -> None:
    before_midnight = dt.datetime(2026, 2, 28, 23, 59, 30, tzinfo=dt.UTC).timestamp()
    clock = VirtualClock(epoch=before_midnight)
    one = budget(clock, usd="1", per="day")
    late = one.reserve(ME, usd("0.9"), 1)
    with pytest.raises(BudgetExceededError) as caught:
        one.reserve(ME, usd("0.9"), 1)
    assert caught.value.retry_after == pytest.approx(30)
    clock.advance(30)
    one.reserve(ME, usd("0.9"), 1).settle(usd("0.2"), 1)
    late.settle(usd("0.5"), 1)
    spent = {status.key: status.usd.spent for status in one.statuses()}
    assert spent == {"2026-02-28": usd("0.5"), "2026-03-01": usd("0.2")}


def test_chats_are_forgotten_after_ten_thousand_others_but_never_while_they_run() -> None:
    one = budget(usd="1")
    one.reserve(Scope("a", "idle"), usd("0.9"), 1).settle(usd("0.9"), 1)
    running = one.reserve(Scope("a", "running"), usd("0.9"), 1)
    for number in range(10_000):
        one.reserve(Scope("a", f"{number}"), usd("0.9"), 1).settle(usd("0.9"), 1)
    assert len(one.statuses(limit=20_000)) == 10_000
    assert one.status(Scope("a", "idle")).usd.spent == 0
    assert one.status(Scope("a", "running")).usd.reserved == usd("0.9")
    running.settle(usd("0.4"), 1)
    assert one.status(Scope("a", "running")).usd.spent == usd("0.4")
    assert one.status(Scope("a", "9999")).usd.spent == usd("0.9")


def test_a_deleted_session_is_forgotten_unless_it_is_in_use() -> None:
    one = budget(usd="1", per="session")
    reservation = one.reserve(ME, usd("0.9"), 1)
    one.forget(ME)
    assert one.status(ME).usd.reserved == usd("0.9")
    reservation.settle(usd("0.9"), 1)
    one.forget(ME)
    assert one.statuses() == ()


# ── prices nobody knows ──────────────────────────────────────────────────────────────────


def test_a_known_price_is_reserved_as_it_is() -> None:
    assert budget(usd=1).worst(Cost(usd("0.25"), other=usd("0.25")), 1, 1) == usd("0.25")


def test_refuse_names_every_remedy() -> None:
    one = budget(usd=1)
    for call in (
        lambda: one.worst(UNKNOWN, 10, 10, deployment="west"),
        lambda: one.reserve(ME, None, 10),
    ):
        with pytest.raises(PriceUnknownError) as caught:
            call()
        for remedy in ("model_name=", "prices=", "on_unknown_price="):
            assert remedy in str(caught.value)
    assert one.actual(UNKNOWN, TokenUsage(10, 10)) is None
    assert one.statuses() == ()


def test_warn_counts_nothing_and_says_so_once_for_each_deployment(caplog: pytest.LogCaptureFixture) -> None:
    one = budget(usd=1, on_unknown_price="warn")
    for deployment in ("west", "east", "west"):
        assert one.worst(UNKNOWN, 10, 10, deployment=deployment) == 0
    one.reserve(ME, usd("0"), 20).settle(one.actual(UNKNOWN, TokenUsage(10, 10)), 20)
    seen = logged(caplog)
    assert [(each["event"], each["deployment"]) for each in seen] == [
        ("budget_price_unknown", "west"),
        ("budget_price_unknown", "east"),
    ]
    assert one.status(ME).usd.spent == 0


def test_assume_counts_at_the_assumed_price_however_much_is_cached() -> None:
    price = ModelPrice("1", "10", cached_input="0.1", cache_write="2")
    one = budget(usd=1, on_unknown_price="assume", assumed_price=price)
    assert one.worst(UNKNOWN, 1_000, 100) == usd("0.003")
    assert one.actual(UNKNOWN, TokenUsage(500, 50)) == usd("0.0015")


def test_assume_without_a_price_takes_at_least_what_the_dearest_model_costs() -> None:
    one = budget(usd=1_000, on_unknown_price="assume")
    usage = TokenUsage(1_000_000, 1_000)
    dearest = max(row.price.cost(usage) for row in PriceTable.bundled().rows)
    worst = one.worst(UNKNOWN, usage.input, usage.output)
    assert worst is not None
    assert worst >= dearest
    assert dearest_price().output >= max(row.price.above_output or 0 for row in PriceTable.bundled().rows)


# ── the soft threshold ───────────────────────────────────────────────────────────────────


def test_the_soft_threshold_is_told_once_and_again_after_an_extension() -> None:
    one = budget(usd="1.00", soft=0.8)
    assert one.reserve(ME, usd("0.799999999999"), 1).alert is None
    crossing = one.reserve(ME, usd("0.000000000001"), 1)
    alert = crossing.alert
    assert isinstance(alert, BudgetAlert)
    assert (alert.unit, alert.per, alert.key, alert.agent) == ("usd", "chat", "chat-1", "flights")
    assert (alert.limit, alert.spent, alert.reserved) == (usd("1"), usd("0"), usd("0.8"))
    assert (alert.needed, alert.remaining, alert.refused) == (usd("0.000000000001"), usd("0.2"), False)
    crossing.release()
    assert one.reserve(ME, usd("0.1"), 1).alert is None
    assert one.extend(ME, "usd", usd("1.5")) == usd("2.5")
    assert one.reserve(ME, usd("1.05"), 1).alert is None  # 1.95 of 2.50
    again = one.reserve(ME, usd("0.06"), 1).alert
    assert again is not None
    assert again.limit == usd("2.5")


def test_both_units_are_told_one_after_the_other() -> None:
    one = budget(usd="1", tokens=100)
    alerts = [
        one.reserve(ME, usd(money), tokens).alert for money, tokens in (("0.9", 90), ("0", 0), ("0", 0))
    ]
    assert [alert and alert.unit for alert in alerts] == ["usd", "tokens", None]


def test_what_was_approved_may_be_spent_and_no_more() -> None:
    one = budget(usd="1", tokens=100)
    one.reserve(ME, usd("1"), 1).settle(usd("1"), 1)
    one.extend(ME, "usd", 0)
    one.extend(ME, "usd", None)
    with pytest.raises(BudgetExceededError) as caught:
        one.reserve(ME, usd("0.5"), 1)
    alert = BudgetAlert.of_refusal(caught.value, one.account(ME))
    assert (alert.key, alert.needed, alert.refused) == ("chat-1", usd("0.5"), True)
    one.extend(ME, alert.unit, alert.needed)
    one.reserve(ME, usd("0.5"), 1)
    with pytest.raises(BudgetExceededError) as caught:
        one.reserve(ME, usd("0.000000000001"), 1)
    assert caught.value.limit == usd("1.5")
    assert one.status(Scope("flights", "chat-2")).usd.limit == 1


@pytest.mark.parametrize(
    ("unit", "amount"), [("usd", True), ("usd", -1), ("tokens", Decimal("1.5")), ("usd", "x")]
)
def test_an_approval_that_is_no_amount_is_refused(unit: Any, amount: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        budget(usd="1", tokens=100).extend(ME, unit, amount)
    assert caught.value.field == "approve"


def test_a_unit_without_a_limit_cannot_be_extended() -> None:
    with pytest.raises(ConfigError, match="no limit in tokens"):
        budget(usd="1").extend(ME, "tokens", 5)


def test_the_status_is_json() -> None:
    one = budget(usd="0.50", per="agent")
    one.reserve(ME, usd("0.0000001"), 7).uncertain()
    assert one.status(ME).to_dict() == {
        "agent": "flights",
        "per": "agent",
        "key": "",
        "calls": 1,
        "usd": {
            "limit": "0.5",
            "spent": "0.0000001",
            "reserved": "0",
            "uncertain": "0.0000001",
            "remaining": "0.4999999",
        },
        "tokens": {"limit": None, "spent": "7", "reserved": "0", "uncertain": "7", "remaining": None},
    }


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The events that were logged."""
    return [record.__dict__["loom_event"] for record in caplog.records if record.name == "loom_py"]
