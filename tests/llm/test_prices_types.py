"""Prices by type of deployment, service tier and day."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.llm.prices import (
    DEPLOYMENT_TYPES,
    SERVICE_TIERS,
    DeploymentType,
    ModelPrice,
    PriceRow,
    PriceTable,
)
from loom_py.messages import TokenUsage

TABLE = PriceTable.bundled()
ROWS = st.sampled_from(TABLE.rows)
COUNTS = st.integers(min_value=0, max_value=600_000)


@pytest.mark.parametrize(
    ("type_", "input_price"),
    [
        ("global", "2"),
        ("data-zone-us", "2.2"),
        ("data-zone-eu", "2.4"),
        ("data-zone-apac", "2.4"),
        ("us-gov", None),
        ("regional", None),
        ("priority", None),
        ("batch", None),
        ("flex", None),
        ("provisioned", None),
    ],
)
def test_each_type_has_the_price_of_its_own_row_or_none(
    type_: DeploymentType, input_price: str | None
) -> None:
    found = TABLE.get("gpt-6.1-sol", type_)
    assert (found and found.input) == (input_price and Decimal(input_price))


@pytest.mark.parametrize("tier", ["priority", "batch", "flex"])
def test_a_type_that_is_a_service_tier_is_global_in_that_tier(tier: DeploymentType) -> None:
    assert TABLE.find("gpt-5.4", tier) == TABLE.find("gpt-5.4", "global", tier=tier)
    assert TABLE.find("gpt-5.4", tier) != TABLE.find("gpt-5.4")


def test_a_data_zone_has_service_tiers_of_its_own() -> None:
    found = TABLE.get("gpt-5.2", "data-zone-eu", tier="priority")
    assert found == ModelPrice("3.85", "30.8", "0.385")


def test_a_priority_call_that_was_served_as_standard_costs_standard() -> None:
    assert TABLE.get("gpt-5.2", "priority", tier="default") == TABLE.get("gpt-5.2")
    assert TABLE.get("gpt-5.2", "priority", tier="auto") == TABLE.get("gpt-5.2", "priority")


def test_a_batch_stays_a_batch_whatever_tier_is_reported() -> None:
    assert TABLE.get("gpt-5.2", "batch", tier="default") == TABLE.get("gpt-5.2", "batch")


def test_a_tier_nobody_knows_has_no_price() -> None:
    assert TABLE.get("gpt-5.2", tier="fast") is None


def test_regional_is_listed_only_where_the_list_has_it() -> None:
    assert TABLE.get("gpt-4-turbo", "regional") == ModelPrice(11, 33)
    assert TABLE.get("text-embedding-3-small", "regional") == ModelPrice("0.022", 0)
    assert TABLE.get("gpt-4o", "regional") is None


def test_half_a_row_of_the_list_is_no_price() -> None:
    assert TABLE.get("gpt-5.5", "flex") is None  # the list has no output price
    assert TABLE.get("gpt-6-astra", "flex") is None  # only the long context
    assert TABLE.get("gpt-4o-mini", "data-zone-us", tier="batch") is None


def test_a_version_takes_its_familys_row_of_a_type_only_where_the_two_cost_the_same() -> None:
    assert TABLE.find("gpt-4.1-2025-04-14", "data-zone-eu") == TABLE.find("gpt-4.1", "data-zone-eu")
    dear, cheap = ModelPrice(5, 15), ModelPrice(2, 10)
    table = PriceTable(
        rows=[
            PriceRow("gpt-4o", cheap),
            PriceRow("gpt-4o", cheap, type="us-gov"),
            PriceRow("gpt-4o-2024-05-13", dear),
        ]
    )
    assert table.get("gpt-4o-2024-05-13", "us-gov") is None
    assert table.get("gpt-4o-2024-11-20", "us-gov") == cheap


def test_a_version_whose_own_price_is_over_does_not_take_its_familys() -> None:
    price = ModelPrice(5, 15)
    ended = PriceRow("gpt-4o-2024-05-13", price, valid_to=date(2026, 1, 31))
    table = PriceTable(rows=[PriceRow("gpt-4o", price), ended])
    assert table.find("gpt-4o-2024-05-13", at=date(2026, 1, 31)) == ended
    assert table.find("gpt-4o-2024-05-13", at=date(2026, 2, 1)) is None


def test_the_day_of_the_call_chooses_the_price() -> None:
    assert TABLE.get("o3", at=date(2025, 6, 9)) == ModelPrice(10, 40, "0.5")
    assert TABLE.get("o3", at=date(2025, 6, 10)) == ModelPrice(2, 8, "0.5")
    assert TABLE.get("o3", "data-zone-us", at=date(2025, 6, 9)) is None
    assert TABLE.get("o3-2025-04-16", at=date(2025, 6, 9)) == ModelPrice(10, 40, "0.5")


def test_days_are_those_of_utc() -> None:
    last_evening = datetime(2025, 6, 9, 20, tzinfo=timezone(timedelta(hours=-5)))
    assert TABLE.get("o3", at=last_evening) == ModelPrice(2, 8, "0.5")
    assert TABLE.get("o3", at=datetime(2025, 6, 9, 23, 59)) == ModelPrice(10, 40, "0.5")
    assert TABLE.get("o3", at=datetime(2025, 6, 9, 23, 59, tzinfo=UTC)) == ModelPrice(10, 40, "0.5")


def test_of_two_rows_that_hold_the_later_one_does() -> None:
    old, new = ModelPrice(2, 2), ModelPrice(1, 1)
    rows = [PriceRow("m", new, valid_from=date(2026, 5, 1)), PriceRow("m", old)]
    table = PriceTable(rows=rows)
    assert table.get("m", at=date(2026, 4, 30)) == old
    assert table.get("m", at=date(2026, 5, 1)) == new


def test_a_price_that_is_over_or_yet_to_come_is_none() -> None:
    row = PriceRow("m", ModelPrice(1, 1), valid_from=date(2026, 5, 1), valid_to=date(2026, 5, 31))
    table = PriceTable(rows=[row])
    days = [date(2026, 4, 30), date(2026, 5, 1), date(2026, 5, 31), date(2026, 6, 1)]
    assert [table.find("m", at=day) for day in days] == [None, row, row, None]


def test_a_row_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="valid_to 2026-01-01 is before valid_from 2026-01-02"):
        PriceRow("m", ModelPrice(1, 1), valid_from=date(2026, 1, 2), valid_to=date(2026, 1, 1))


def test_a_row_may_name_a_service_tier_as_its_type() -> None:
    row = PriceRow("m", ModelPrice(1, 1), type="batch")
    assert (row.type, row.tier) == ("global", "batch")
    table = PriceTable(rows=[row])
    assert (table.find("m", "batch"), table.find("m")) == (row, None)


@pytest.mark.parametrize("label", [{"type": "zonal"}, {"tier": "fast"}])
def test_a_row_of_a_type_or_tier_that_does_not_exist_is_refused(label: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be one of .*, not '(zonal|fast)'"):
        PriceRow("m", ModelPrice(1, 1), **label)


def test_overlaid_rows_hold_for_their_type_and_the_table_beneath_for_the_others() -> None:
    mine = PriceRow("gpt-4o", ModelPrice(1, 1), type="regional", source="contract")
    table = TABLE.overlaid([mine])
    assert table.find("gpt-4o-2024-11-20", "regional") == mine
    assert table.get("gpt-4o") == TABLE.get("gpt-4o")
    assert table.fee("model-router") == TABLE.fee("model-router")


def test_a_plain_price_holds_for_every_type_and_tier() -> None:
    mine = ModelPrice(1, 1)
    table = PriceTable({"gpt-4o": mine})
    found = {table.get("gpt-4o", type_, tier=tier) for type_ in DEPLOYMENT_TYPES for tier in SERVICE_TIERS}
    assert found == {mine}


def test_the_router_has_a_fee_and_no_other_model() -> None:
    fee = TABLE.fee("model-router")
    assert fee is not None
    assert fee.price == ModelPrice("0.14", 0)
    assert TABLE.fee("model-router-2025-11-18") == fee
    assert TABLE.fee("gpt-4o") is None


def test_every_bundled_row_says_who_stated_it_and_when() -> None:
    assert [row for row in TABLE.rows if not row.source or row.date != "2026-11"] == []
    assert {row.source.split(",")[0] for row in TABLE.rows} <= {
        "litellm 1.109.1",
        "genai-prices 0.2.3",
        "the makers' list price",
    }


def test_no_two_bundled_rows_hold_for_the_same_call() -> None:
    for row in TABLE.rows:
        day = row.valid_from or date(2000, 1, 1)
        same = [
            one
            for one in TABLE.rows
            if one.model == row.model and one.covers(str(row.type), str(row.tier), day)
        ]
        assert same == [row]


def test_a_tier_without_a_long_context_price_holds_up_to_that_context_only() -> None:
    row = TABLE.find("gpt-5.5", "data-zone-us", tier="priority")
    assert row is not None
    assert row.gap(TokenUsage(272_000, 10)) is None
    assert row.gap(TokenUsage(272_001, 10)) == "more than 272,000 input tokens"


def test_a_row_without_the_price_of_cached_input_says_so_where_it_matters() -> None:
    row = TABLE.find("gpt-5.4", "flex")
    assert row is not None
    assert row.gap(TokenUsage(1000, 10)) is None
    assert row.gap(TokenUsage(1000, 10, cached_input=1)) == "cached input"
    assert row.gap(TokenUsage(272_001, 10, cached_input=1)) is None


def test_without_its_package_the_second_list_says_which_extra_has_it() -> None:
    code = """
import sys
sys.modules["genai_prices"] = None
from loom_py.errors import MissingDependencyError
from loom_py.llm.prices import GenAIPrices
assert GenAIPrices.if_installed() is None
try:
    GenAIPrices()
except MissingDependencyError as error:
    assert error.hint == "pip install 'loom-py[prices]'", error.hint
else:
    raise AssertionError("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# ── invariants ───────────────────────────────────────────────────────────────────────────


@given(ROWS, COUNTS, COUNTS, COUNTS)
def test_in_no_row_cached_input_costs_more_than_input(
    row: PriceRow, tokens: int, cached: int, output: int
) -> None:
    plain = row.price.cost(TokenUsage(tokens, output))
    assert row.price.cost(TokenUsage(tokens, output, cached)) <= plain


@given(ROWS, COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 300_000), st.integers(0, 300_000))
def test_in_every_row_more_tokens_never_cost_less(
    row: PriceRow, tokens: int, output: int, cached: int, written: int, more_in: int, more_out: int
) -> None:
    few = row.price.cost(TokenUsage(tokens + cached + written, output, cached, written))
    many = TokenUsage(tokens + cached + written + more_in, output + more_out, cached, written)
    assert row.price.cost(many) >= few


@given(ROWS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_parts_of_a_cost_are_its_whole(
    row: PriceRow, tokens: int, output: int, cached: int, written: int
) -> None:
    usage = TokenUsage(tokens, output, cached, written)
    parts = row.price.parts(usage)
    assert min(parts) >= 0
    assert sum(parts, Decimal(0)) == row.price.cost(usage)
