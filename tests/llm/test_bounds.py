"""The most a call can cost, told before it is made: no report of the server may exceed it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.llm.costs import Pricing
from loom_py.llm.prices import (
    DEPLOYMENT_TYPES,
    DeploymentType,
    ModelPrice,
    PriceOverride,
    PriceRow,
    PriceTable,
)
from loom_py.messages import TokenUsage

TABLE = PriceTable.bundled()
MODELS = TABLE.models
TODAY = dt.datetime.now(dt.UTC).date()

EDGES = [0, 1, 128_000, 128_001, 200_000, 200_001, 272_000, 272_001, 1_000_000]
tokens = st.one_of(st.integers(0, 2_000_000), st.sampled_from(EDGES))
shares = st.floats(0, 1)


@st.composite
def reports(draw: st.DrawFn) -> tuple[int, int, TokenUsage]:
    """Two bounds, and a usage within them."""
    most_input, most_output = draw(tokens), draw(tokens)
    input_ = draw(st.one_of(st.just(most_input), st.integers(0, most_input)))
    cached = round(input_ * draw(shares))
    usage = TokenUsage(
        input=input_,
        output=draw(st.one_of(st.just(most_output), st.integers(0, most_output))),
        cached_input=cached,
        cache_writes=round((input_ - cached) * draw(shares)),
    )
    return most_input, most_output, usage


amounts = st.decimals(0, 100, places=4)
prices = st.one_of(
    st.builds(ModelPrice, amounts, amounts, st.none() | amounts, st.none() | amounts),
    st.builds(
        ModelPrice,
        amounts,
        amounts,
        st.none() | amounts,
        st.none() | amounts,
        st.integers(1, 400_000),
        amounts,
        amounts,
        st.none() | amounts,
        st.none() | amounts,
    ),
)


@given(reports(), st.sampled_from(MODELS), st.sampled_from(DEPLOYMENT_TYPES), st.booleans())
def test_no_listed_model_costs_more_than_was_said_before(
    report: tuple[int, int, TokenUsage], model: str, kind: DeploymentType, is_named: bool
) -> None:
    most_input, most_output, usage = report
    pricing = Pricing(model, model_name=model if is_named else None, deployment_type=kind)
    worst = pricing.bound().cost(most_input, most_output).usd
    for served, tier in [("", None), (model, None), (model, "default"), (model, "standard")]:
        real = pricing.cost(usage, served, tier=tier).usd
        assert real is None or worst is None or real <= worst


def test_every_row_of_the_list_is_bounded_at_its_edges() -> None:
    seen = 0
    for row in TABLE.rows:
        pricing = Pricing("prod", model_name=row.model, deployment_type=row.type or "global")
        bound = pricing.bound(asked=row.tier)
        for edge in EDGES:
            worst = bound.cost(edge, 1000).usd
            for input_ in {edge, edge // 2, min(edge, 128_000), min(edge, 200_000), min(edge, 272_000)}:
                for cached, written in ((0, 0), (input_, 0), (0, input_)):
                    usage = TokenUsage(input_, 1000, cached_input=cached, cache_writes=written)
                    real = pricing.cost(usage, tier=row.tier).usd
                    assert real is None or worst is None or real <= worst
                    seen += real is not None and worst is not None
    assert seen > len(TABLE.rows) * 50


@given(reports(), st.sampled_from(MODELS), st.sampled_from(["default", "priority", "flex", "standard"]))
def test_a_call_that_leaves_its_tier_open_costs_no_more_in_any_of_them(
    report: tuple[int, int, TokenUsage], model: str, tier: str
) -> None:
    most_input, most_output, usage = report
    pricing = Pricing("prod", model_name=model)
    worst = pricing.bound(asked="auto").cost(most_input, most_output).usd
    real = pricing.cost(usage, model, tier=tier).usd
    assert real is None or worst is None or real <= worst


@given(reports(), prices, st.decimals(0, 3, places=3))
def test_no_price_of_ones_own_is_exceeded_either(
    report: tuple[int, int, TokenUsage], price: ModelPrice, multiplier: Decimal
) -> None:
    most_input, most_output, usage = report
    pricing = Pricing("prod", prices={"prod": PriceOverride(price=price, multiplier=multiplier)})
    worst, real = pricing.bound().cost(most_input, most_output), pricing.cost(usage)
    assert worst.usd is not None
    assert real.usd is None or real.usd <= worst.usd


@given(reports(), st.sampled_from(MODELS), st.sampled_from(MODELS))
def test_a_model_that_has_served_before_is_reckoned_with(
    report: tuple[int, int, TokenUsage], named: str, served: str
) -> None:
    most_input, most_output, usage = report
    pricing = Pricing(named)
    bound = pricing.bound(served)
    worst = bound.cost(most_input, most_output).usd
    for model in ("", served):
        real = pricing.cost(usage, model).usd
        assert real is None or worst is None or real <= worst


def test_most_listed_models_have_a_bound() -> None:
    named = [(model, Pricing("prod", model_name=model)) for model in MODELS]
    known = [model for model, pricing in named if pricing.bound().cost(1000, 500).is_known]
    priced = [model for model, pricing in named if pricing.cost(TokenUsage(1000, 500)).is_known]
    assert known == priced
    assert len(known) > 100


def test_the_dearest_rate_counts_for_all_of_the_input() -> None:
    pricing = Pricing("prod", prices={"prod": ModelPrice(2, 10, cached_input=1, cache_write="2.5")})
    assert pricing.bound().cost(1_000_000, 1_000_000).usd == Decimal("12.5")


def test_a_long_context_that_is_cheaper_does_not_lower_the_bound() -> None:
    price = ModelPrice(10, 10, above_tokens=1_000_000, above_input=1, above_output=1)
    pricing = Pricing("prod", prices={"prod": price})
    assert pricing.bound().cost(1_000_001, 1_000_000).usd == Decimal(20)
    assert pricing.bound().cost(1_000_000, 1_000_000).usd == Decimal(20)
    assert pricing.bound().cost(500_000, 0).usd == Decimal(5)


def test_before_the_first_answer_any_version_of_the_model_may_come() -> None:
    pricing = Pricing("gpt-4o")
    dear, cheap = (
        pricing.cost(TokenUsage(1000, 500), f"gpt-4o-{day}").usd for day in ("2024-05-13", "2024-11-20")
    )
    assert dear is not None
    assert cheap is not None
    assert dear > cheap
    assert pricing.bound().cost(1000, 500).usd == dear
    assert pricing.bound("gpt-4o-2024-11-20").cost(1000, 500).usd == cheap
    assert Pricing("gpt-4o", model_name="gpt-4o-2024-11-20").bound().cost(1000, 500).usd == cheap


def test_an_unknown_deployment_has_a_bound_once_it_has_answered() -> None:
    pricing = Pricing("prod")
    assert pricing.bound().cost(1, 1).reason == "no model is known for prod"
    assert pricing.bound("gpt-4o-mini-2024-07-18").cost(1_000_000, 0).usd == Decimal("0.15")


def test_a_router_has_no_bound_even_after_an_answer_unless_the_user_gives_its_price() -> None:
    for served in ("", "gpt-4.1-nano-2025-04-14"):
        cost = Pricing("model-router").bound(served).cost(1000, 500)
        assert cost.usd is None
        assert "router" in (cost.reason or "")
    own = Pricing("model-router", prices={"model-router": ModelPrice(1, 1)})
    assert own.bound().cost(1_000_000, 0).usd == Decimal(1)


@pytest.mark.parametrize(
    ("pricing", "asked", "reason"),
    [
        (Pricing("gpt-4o", deployment_type="provisioned"), None, "paid by the hour"),
        (Pricing("gpt-4o"), "no-such-tier", "no-such-tier"),
        (Pricing("x", model_name="my-own-model"), None, "no model is known|no price of"),
    ],
)
def test_what_has_no_price_says_why_beforehand(pricing: Pricing, asked: str | None, reason: str) -> None:
    cost = pricing.bound(asked=asked).cost(10, 10)
    assert cost.usd is None
    assert any(part in (cost.reason or "") for part in reason.split("|"))


def test_a_tier_that_was_reported_before_may_be_so_again() -> None:
    pricing = Pricing("gpt-4.1", model_name="gpt-4.1")
    standard, priority = (pricing.cost(TokenUsage(1000, 500), tier=tier).usd for tier in (None, "priority"))
    assert standard is not None
    assert priority is not None
    assert priority > standard
    assert pricing.bound().cost(1000, 500).usd == standard
    for bound in (
        pricing.bound(reported="priority"),
        pricing.bound(asked="priority"),
        pricing.bound(asked="auto"),
    ):
        assert bound.cost(1000, 500).usd == priority


def test_a_price_that_rises_at_midnight_is_reckoned_with() -> None:
    table = PriceTable(
        rows=[
            PriceRow("m", ModelPrice(1, 1), valid_to=TODAY),
            PriceRow("m", ModelPrice(3, 1), valid_from=TODAY + dt.timedelta(days=1)),
        ]
    )
    bound = Pricing("prod", prices={"prod": PriceOverride(model="m")}, table=table).bound(at=TODAY)
    assert bound.cost(1_000_000, 0).usd == Decimal(3)


def test_input_beyond_what_the_list_has_a_price_for_has_no_bound() -> None:
    pricing = Pricing("prod", model_name="gpt-5.4", deployment_type="data-zone-eu")
    assert pricing.bound(asked="priority").cost(272_000, 1).is_known
    beyond = pricing.bound(asked="priority").cost(272_001, 1)
    assert "more than 272,000 input tokens" in (beyond.reason or "")


def test_tokens_below_none_cost_nothing() -> None:
    assert Pricing("gpt-4o").bound().cost(-5, -5).usd == 0
