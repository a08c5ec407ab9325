"""Costs of calls, and their sums."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from loom_py.errors import IncompleteResponseError
from loom_py.llm.costs import Cost, CostLedger, CostReport, Pricing, added
from loom_py.llm.prices import (
    DEPLOYMENT_TYPES,
    DeploymentType,
    GenAIPrices,
    ModelPrice,
    PriceOverride,
    PriceRow,
    PriceTable,
)
from loom_py.messages import Response, TokenUsage

TABLE = PriceTable.bundled()
USAGE = TokenUsage(1000, 500)


def cost(usage: TokenUsage = USAGE, served: str = "gpt-4o-2024-11-20", **pricing: Any) -> Cost:
    return Pricing("prod-chat", **pricing).cost(usage, served)


# ── the golden table ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "type_", "tier", "usage", "usd"),
    [
        ("gpt-4o", "global", None, TokenUsage(1245, 387, 0, 0), "0.0069825"),
        ("gpt-4o-2024-11-20", "global", None, TokenUsage(12345, 678, 10240, 0), "0.0248425"),
        ("gpt-4o-2024-05-13", "global", None, TokenUsage(1000, 1000, 0, 0), "0.02"),
        ("gpt-4o-mini", "global", None, TokenUsage(999, 1, 512, 0), "0.00011205"),
        ("gpt-4o", "data-zone-us", None, TokenUsage(1000, 500, 0, 0), "0.00825"),
        ("gpt-4o", "data-zone-eu", None, TokenUsage(8192, 77, 4096, 0), "0.017743"),
        ("gpt-4o", "batch", None, TokenUsage(100000, 20000, 0, 0), "0.225"),
        ("gpt-4o-mini", "data-zone-eu", None, TokenUsage(3333, 111, 3072, 0), "0.000371301"),
        ("gpt-4o-2024-05-13", "data-zone-us", None, TokenUsage(1234, 567, 0, 0), "0.0161425"),
        ("gpt-4.1", "priority", None, TokenUsage(2000, 300, 1024, 0), "0.008512"),
        ("gpt-4.1", "data-zone-us", "priority", TokenUsage(2000, 300, 1024, 0), "0.009363712"),
        ("gpt-4.1", "batch", None, TokenUsage(2000, 300, 1024, 0), "0.0032"),
        ("gpt-4.1-mini", "data-zone-eu", "batch", TokenUsage(777, 333, 0, 0), "0.00046398"),
        ("gpt-4.1-nano", "data-zone-us", None, TokenUsage(10001, 13, 9984, 0), "0.000287142"),
        ("gpt-5", "global", None, TokenUsage(1024, 2048, 0, 0), "0.02176"),
        ("gpt-5", "data-zone-eu", None, TokenUsage(1, 1, 0, 0), "0.000012375"),
        ("gpt-5", "priority", None, TokenUsage(5000, 5000, 4992, 0), "0.101268"),
        ("gpt-5", "batch", None, TokenUsage(5000, 5000, 4992, 0), "0.025317"),
        ("gpt-5-mini", "data-zone-us", "priority", TokenUsage(4321, 1234, 3200, 0), "0.005599935"),
        ("gpt-5-nano", "data-zone-eu", "batch", TokenUsage(100, 10, 0, 0), "0.00000495"),
        ("gpt-5-pro", "global", None, TokenUsage(150, 9000, 0, 0), "1.08225"),
        ("gpt-5.1", "us-gov", None, TokenUsage(1000, 1000, 128, 0), "0.01527075"),
        ("gpt-5.1", "data-zone-eu", "batch", TokenUsage(640, 80, 512, 0), "0.0005632"),
        ("gpt-5.2", "data-zone-us", None, TokenUsage(9999, 3, 0, 0), "0.019294275"),
        ("gpt-5.2-pro", "data-zone-eu", "batch", TokenUsage(10, 10, 0, 0), "0.0010395"),
        ("gpt-5.3-codex", "priority", None, TokenUsage(20000, 4000, 16384, 0), "0.1303904"),
        ("gpt-5.4", "global", None, TokenUsage(272000, 1000, 0, 0), "0.695"),
        ("gpt-5.4", "global", None, TokenUsage(272001, 1000, 0, 0), "1.382505"),
        ("gpt-5.4", "global", None, TokenUsage(300000, 2000, 256000, 0), "0.393"),
        ("gpt-5.4", "data-zone-eu", None, TokenUsage(300000, 2000, 256000, 0), "0.4323"),
        ("gpt-5.4", "batch", None, TokenUsage(300000, 2000, 256000, 0), "0.1965"),
        ("gpt-5.4", "batch", None, TokenUsage(2000, 2000, 1024, 0), "0.01635312"),
        ("gpt-5.4", "priority", None, TokenUsage(272001, 1, 1, 0), "2.720046"),
        ("gpt-5.4", "flex", None, TokenUsage(272001, 7, 200000, 0), "0.23008125"),
        ("gpt-5.4", "flex", None, TokenUsage(1000, 7, 0, 0), "0.0013025"),
        ("gpt-5.4-pro", "data-zone-us", "batch", TokenUsage(400000, 10, 0, 0), "13.201485"),
        ("gpt-5.5", "data-zone-us", None, TokenUsage(272001, 50, 0, 0), "2.994486"),
        ("gpt-5.5", "priority", None, TokenUsage(500, 50, 128, 0), "0.00856"),
        ("gpt-5.6-sol", "global", None, TokenUsage(10000, 100, 4000, 5000), "0.0326"),
        ("gpt-5.6-sol", "flex", None, TokenUsage(300000, 100, 4000, 5000), "1.1921"),
        ("gpt-5.6-luna", "priority", None, TokenUsage(300000, 100, 4000, 5000), "0.23848"),
        ("gpt-5.6-terra", "data-zone-eu", "priority", TokenUsage(100, 100, 40, 50), "0.0029766"),
        ("gpt-6-astra", "data-zone-eu", None, TokenUsage(280000, 1000, 0, 279000), "8.484"),
        ("gpt-6-sol", "data-zone-us", "priority", TokenUsage(280000, 1000, 139999, 0), "1.38820792"),
        ("gpt-6-luna", "data-zone-us", None, TokenUsage(17, 3, 0, 5), "0.0000036575"),
        ("gpt-6.1-sol", "data-zone-apac", None, TokenUsage(1000, 100, 400, 500), "0.002988"),
        ("gpt-6.1-terra", "data-zone-apac", None, TokenUsage(272001, 9, 272001, 0), "0.03272112"),
        ("o3", "data-zone-us", None, TokenUsage(4000, 6000, 2048, 0), "0.0582208"),
        ("o3-mini", "us-gov", None, TokenUsage(4000, 6000, 2048, 0), "0.040803712"),
        ("o4-mini", "data-zone-eu", "batch", TokenUsage(123, 456, 0, 0), "0.001177935"),
        ("o1", "data-zone-eu", None, TokenUsage(10, 2000, 0, 0), "0.132165"),
        ("codex-mini", "data-zone-us", None, TokenUsage(1000, 10, 999, 0), "0.000480237"),
        ("text-embedding-3-large", "us-gov", None, TokenUsage(8191, 0, 0, 0), "0.001335133"),
        ("text-embedding-3-small", "data-zone-eu", None, TokenUsage(8191, 0, 0, 0), "0.000180202"),
        ("text-embedding-3-small", "regional", None, TokenUsage(8191, 0, 0, 0), "0.000180202"),
        ("gpt-4-turbo", "regional", None, TokenUsage(1000, 1000, 0, 0), "0.044"),
    ],
)
def test_a_call_costs_what_the_list_says_to_the_last_digit(
    model: str, type_: DeploymentType, tier: str | None, usage: TokenUsage, usd: str
) -> None:
    found = Pricing("prod-chat", deployment_type=type_).cost(usage, model, tier=tier)
    assert str(found.usd) == usd
    assert (found.model, found.deployment_type) == (model, type_)


# ── one call ─────────────────────────────────────────────────────────────────────────────


def test_a_cost_names_its_parts_its_price_and_its_source() -> None:
    found = Pricing("prod", deployment_type="data-zone-us").cost(
        TokenUsage(1000, 100, 400, 500), "gpt-6.1-sol-2026-09-29", tier="default"
    )
    assert found.parts == {
        "uncached_input": Decimal("0.00022"),
        "cached_input": Decimal("0.000044"),
        "cache_writes": Decimal("0.001375"),
        "output": Decimal("0.0011"),
        "fee": Decimal(0),
        "other": Decimal(0),
    }
    assert found.usd == Decimal("0.002739")
    assert (found.tier, found.date, found.reason) == ("standard", "2026-11", None)
    assert found.source.startswith("litellm 1.109.1, which cites https://learn.microsoft.com/")


@pytest.mark.parametrize(
    ("pricing", "served", "tier", "reason"),
    [
        (
            {"deployment_type": "provisioned"},
            "gpt-4o",
            None,
            "provisioned throughput is paid by the hour: it has no price per token",
        ),
        ({"deployment_type": "us-gov"}, "gpt-4o", None, "no price of gpt-4o is listed for us-gov"),
        (
            {"deployment_type": "data-zone-us"},
            "gpt-6-astra",
            "priority",
            "no price of gpt-6-astra is listed for data-zone-us priority",
        ),
        ({}, "gpt-4o", "fast", "no price of gpt-4o is listed for global fast"),
        ({}, "", None, "no model is known for prod-chat"),
        ({}, "house-model", None, "no model is known for house-model"),
        ({"model_name": "house-model"}, "", None, "no price of house-model is listed"),
        ({}, "o1-pro", None, "no price of o1-pro is listed"),
        ({"model_name": "model-router"}, "", None, "the model that the router chose is not known"),
        (
            {"model_name": "model-router"},
            "model-router",
            None,
            "the model that the router chose is not known",
        ),
    ],
)
def test_a_price_that_is_not_known_says_why(
    pricing: Mapping[str, Any], served: str, tier: str | None, reason: str
) -> None:
    found = Pricing("prod-chat", **pricing).cost(USAGE, served, tier=tier)
    assert (found.usd, found.reason) == (None, reason)
    assert not found.is_known
    assert set(found.parts.values()) == {Decimal(0)}
    assert found.usage == USAGE


@pytest.mark.parametrize("usage", [None, TokenUsage()])
def test_without_reported_tokens_the_cost_is_not_known(usage: TokenUsage | None) -> None:
    found = Pricing("prod").cost(usage, "gpt-4o")
    assert (found.usd, found.reason, found.model) == (None, "the server reported no tokens", "gpt-4o")


def test_the_reason_tells_when_only_the_day_is_not_listed() -> None:
    found = Pricing("prod", deployment_type="data-zone-eu").cost(USAGE, "o3", at=date(2025, 1, 1))
    assert found.reason == "no price of o3 is listed for data-zone-eu on the day of the call"
    assert Pricing("prod").cost(USAGE, "o3", at=date(2025, 6, 1)).usd == Decimal("0.03")


def test_a_long_context_without_a_price_in_its_tier_is_not_priced_as_a_short_one() -> None:
    pricing = Pricing("prod", deployment_type="data-zone-us")
    found = pricing.cost(TokenUsage(272_001, 1), "gpt-5.5", tier="priority")
    assert found.reason == (
        "no price of gpt-5.5 is listed for more than 272,000 input tokens in data-zone-us priority"
    )
    assert pricing.cost(TokenUsage(272_000, 1), "gpt-5.5", tier="priority").usd == Decimal("3.7400825")
    flex = Pricing("prod", deployment_type="flex").cost(TokenUsage(100, 1, 64), "gpt-5.4")
    assert flex.reason == "no price of gpt-5.4 is listed for cached input in global flex"


def test_the_model_is_what_the_user_says_then_what_was_served_then_what_the_name_suggests() -> None:
    assert cost(served="gpt-4o-mini").model == "gpt-4o-mini"
    assert Pricing("my-gpt-4o").cost(USAGE, "").model == "gpt-4o"
    assert Pricing("my-gpt-4o").cost(USAGE, "my-gpt-4o").model == "gpt-4o"
    assert Pricing("my-gpt-4o", model_name="gpt-4.1").cost(USAGE, "gpt-4o-mini").model == "gpt-4.1"
    assert Pricing("my-gpt-4o", model_name="house").cost(USAGE, "").reason == "no price of house is listed"


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"deployment_type must be one of global, data-zone-us, .*'zonal'"):
        Pricing("prod", deployment_type="zonal")  # type: ignore[arg-type]


@pytest.mark.parametrize("tier", [7, {}, ["priority"]])
def test_a_tier_that_is_no_text_counts_as_not_reported(tier: Any) -> None:
    assert Pricing("prod").cost(USAGE, "gpt-4o", tier=tier).usd == Decimal("0.0075")


# ── the router ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pricing", [Pricing("model-router"), Pricing("prod", model_name="model-router")])
def test_the_router_costs_its_fee_on_top_of_the_model_it_chose(pricing: Pricing) -> None:
    found = pricing.cost(TokenUsage(10_000, 1_000, 4_000), "gpt-5-mini-2025-08-07")
    assert found.fee == Decimal("0.0014")
    assert found.usd == Decimal("0.0015") + Decimal("0.0001") + Decimal("0.002") + Decimal("0.0014")
    assert found.model == "gpt-5-mini-2025-08-07"


def test_the_routers_fee_is_the_same_in_a_data_zone() -> None:
    found = Pricing("model-router", deployment_type="data-zone-eu").cost(USAGE, "gpt-5-mini")
    assert found.fee == Decimal("0.00014")
    assert found.usd == Decimal("0.000275") + Decimal("0.0011") + Decimal("0.00014")


def test_a_price_of_ones_own_for_the_router_is_the_whole_price() -> None:
    own = Pricing("model-router", prices={"model-router": ModelPrice(1, 2)}).cost(USAGE, "gpt-5-mini")
    assert (own.usd, own.fee) == (Decimal("0.002"), Decimal(0))


def test_a_price_of_ones_own_for_the_model_the_router_chose_leaves_the_fee() -> None:
    own = Pricing("model-router", prices={"gpt-5-mini": ModelPrice(1, 2)}).cost(USAGE, "gpt-5-mini")
    assert own.usd == Decimal("0.00214")


def test_a_discount_on_the_router_is_on_its_fee_too() -> None:
    found = Pricing("model-router", prices={"model-router": {"multiplier": "0.5"}}).cost(USAGE, "gpt-5-mini")
    assert found.usd == (Decimal("0.00025") + Decimal("0.001") + Decimal("0.00014")) / 2


def test_no_other_deployment_pays_the_fee() -> None:
    assert cost(served="gpt-5-mini").fee == 0
    assert Pricing("model-router", model_name="gpt-5-mini").cost(USAGE, "").fee == 0


# ── prices of the user's own ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["prod-chat", "PROD-Chat", "gpt-4o", "gpt-4o-2024-11-20"])
def test_a_price_of_ones_own_holds_by_deployment_and_by_model(name: str) -> None:
    found = cost(prices={name: ModelPrice(1, 2)})
    assert (found.usd, found.source) == (Decimal("0.002"), "the user's own price")


def test_the_deployments_own_price_comes_before_the_models() -> None:
    prices = {"gpt-4o": ModelPrice(9, 9), "prod-chat": ModelPrice(1, 2)}
    assert cost(prices=prices).usd == Decimal("0.002")


def test_a_price_of_ones_own_holds_for_a_model_known_by_the_deployments_name_alone() -> None:
    found = Pricing("our-gpt4o", prices={"gpt-4o": ModelPrice(1, 2)}).cost(USAGE, "")
    assert found.usd == Decimal("0.002")


def test_a_price_of_ones_own_holds_for_every_type() -> None:
    for type_ in DEPLOYMENT_TYPES:
        found = cost(deployment_type=type_, prices={"prod-chat": ModelPrice(1, 2)})
        assert (found.usd, found.deployment_type) == (Decimal("0.002"), type_)


def test_an_override_names_the_model_the_type_and_the_discount() -> None:
    override = {"model": "gpt-5.4", "type": "data-zone-eu", "multiplier": "0.9"}
    found = cost(served="", prices={"prod-chat": override})
    assert found.usd == (Decimal("0.00275") + Decimal("0.00825")) * Decimal("0.9")
    assert (found.model, found.deployment_type) == ("gpt-5.4", "data-zone-eu")
    assert found.source.endswith(", times 0.9")
    assert sum(found.parts.values()) == found.usd


def test_a_discount_may_stand_on_a_price_of_ones_own() -> None:
    override = PriceOverride(price=ModelPrice(1, 2), multiplier="0.25")
    assert cost(prices={"prod-chat": override}).usd == Decimal("0.0005")
    as_mapping = {"price": {"input": 1, "output": 2}, "multiplier": "0.25"}
    assert cost(prices={"prod-chat": as_mapping}).usd == Decimal("0.0005")


def test_the_fields_of_a_price_may_stand_in_a_mapping() -> None:
    assert cost(prices={"prod-chat": {"input": "1", "output": "2"}}).usd == Decimal("0.002")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({}, "it is empty"),
        ({"modle": "gpt-4o"}, "no such field: modle; there are model, multiplier, price, type"),
        ({"type": "zonal"}, "type must be one of global, .*, not 'zonal'"),
        ({"model": " "}, "model must name a model"),
        ({"multiplier": "-1"}, "multiplier must not be negative"),
        ({"multiplier": "half"}, "multiplier must be a number, not 'half'"),
        ({"input": 1}, "output"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused_by_its_name(setting: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"prices\['prod-chat'\].*{message}"):
        Pricing("prod-chat", prices={"prod-chat": setting})


def test_what_is_no_price_at_all_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"prices\['prod'\] must be a ModelPrice, a PriceOverride or a mapping"
    ):
        Pricing("prod", prices={"prod": "cheap"})  # type: ignore[dict-item]


def test_overrides_in_a_pydantic_config_are_checked_as_well() -> None:
    class Config(BaseModel):
        prices: dict[str, ModelPrice | PriceOverride]

    given = {"a": {"model": "gpt-5.4", "multiplier": 0.9}, "b": {"input": 1, "output": 2}}
    config = Config.model_validate({"prices": given})
    assert config.prices == {"a": PriceOverride("gpt-5.4", None, "0.9"), "b": ModelPrice(1, 2)}
    with pytest.raises(ValidationError, match="modle"):
        Config.model_validate({"prices": {"a": {"modle": "gpt-5.4"}}})


# ── the second source ────────────────────────────────────────────────────────────────────


class OtherList:
    """A list that knows every model, for one dollar."""

    def find(
        self, model: str, type: DeploymentType = "global", *, tier: str | None = None, at: object = None
    ) -> PriceRow | None:
        return PriceRow(model, ModelPrice(1, 1), source="the other list")


def test_the_second_source_is_asked_for_models_the_table_does_not_know() -> None:
    found = cost(served="house-model", second=OtherList())
    assert (found.usd, found.source, found.model) == (Decimal("0.0015"), "the other list", "house-model")


def test_the_second_source_is_not_asked_where_the_table_knows_the_model() -> None:
    assert cost(second=OtherList()).source.startswith("litellm")
    assert cost(second=OtherList(), deployment_type="us-gov").usd is None


def test_genai_prices_is_such_a_source() -> None:
    pytest.importorskip("genai_prices", reason="the extra `prices` is not installed")
    found = cost(served="o1-pro-2025-03-19", second=GenAIPrices())
    assert found.usd == Decimal("0.45")
    assert found.source.startswith("genai-prices ")
    assert cost(served="o1-pro", second=GenAIPrices(), deployment_type="data-zone-us").usd is None


# ── a cost as data ───────────────────────────────────────────────────────────────────────


def test_a_cost_survives_as_json() -> None:
    for found in (cost(), cost(served=""), Pricing("model-router").cost(USAGE, "gpt-4.1")):
        assert Cost.from_json(found.to_json()) == found


def test_a_cost_is_its_parts_or_has_a_reason() -> None:
    with pytest.raises(ValueError, match="must add up to usd = 3"):
        Cost(Decimal(3), output=Decimal(2))
    with pytest.raises(ValueError, match="either usd or the reason"):
        Cost(None)
    with pytest.raises(ValueError, match="either usd or the reason"):
        Cost(Decimal(0), reason="free")


def test_the_cost_of_a_response_is_what_the_provider_put_on_it() -> None:
    found = cost()
    response = Response("hi", USAGE, found.usd, model="gpt-4o", metadata={"cost": found.to_dict()})
    assert Cost.of_response(response) == found
    assert Cost.of_response(Response.from_json(response.to_json())) == found


def test_the_cost_of_a_response_without_detail_is_one_sum() -> None:
    told = Cost.of_response(Response("hi", USAGE, Decimal("0.5"), model="needle"))
    assert (told.usd, told.other, told.model, told.usage) == (Decimal("0.5"), Decimal("0.5"), "needle", USAGE)
    assert Cost.of_response(Response("hi", USAGE)).reason == "the provider did not say what the call cost"


def test_the_cost_of_an_error_is_what_it_says() -> None:
    error = IncompleteResponseError("cut off")
    error.tokens_used, error.cost_usd = USAGE, Decimal("0.0075")
    told = Cost.of_error(error)
    assert (told.usd, told.usage) == (Decimal("0.0075"), USAGE)


# ── the report ───────────────────────────────────────────────────────────────────────────


def example() -> CostReport:
    report = CostReport()
    pricing = Pricing("west")
    report.add(pricing.cost(USAGE, "gpt-4o"), deployment="west", chat="1", session="a")
    report.add(pricing.cost(USAGE, "gpt-4o"), deployment="west", chat="1", session="a", failed=True)
    report.add(pricing.cost(USAGE, "gpt-4.1"), deployment="east", chat="2", session="a")
    report.add(Pricing("east").cost(USAGE, "house"), deployment="east", chat="3", session="b")
    return report


def test_a_report_adds_up_what_it_is_given() -> None:
    report = example()
    assert report.total == Decimal("0.0075") * 2 + Decimal("0.006")
    assert report.calls == 4
    assert report.usage == TokenUsage(4000, 2000)
    assert {name: part.total for name, part in report.by_deployment.items()} == {
        "west": Decimal("0.015"),
        "east": Decimal("0.006"),
    }
    assert {name: part.total for name, part in report.by_model.items()} == {
        "gpt-4o": Decimal("0.015"),
        "gpt-4.1": Decimal("0.006"),
        "house": Decimal(0),
    }
    assert report.by_session["a"].by_chat["2"].total == Decimal("0.006")


def test_calls_without_a_price_are_counted_and_never_taken_for_free() -> None:
    report = example()
    assert not report.is_complete
    assert report.unpriced_calls == 1
    assert report.unpriced_reasons == {"no model is known for house": 1}
    assert report.by_deployment["west"].is_complete


def test_attempts_that_failed_after_billing_are_in_the_total_and_counted_apart() -> None:
    report = example()
    assert (report.failed_calls, report.failed_total) == (1, Decimal("0.0075"))
    other = report.by_model["gpt-4.1"]
    assert (other.failed_calls, other.failed_total) == (0, Decimal(0))


def test_an_empty_report_is_zero_and_complete() -> None:
    report = CostReport()
    assert (str(report.total), report.calls, report.is_complete) == ("0", 0, True)
    assert str(report).splitlines()[-1].split() == ["total", "0", "0", "0", "0", "0"]


def test_a_report_survives_as_json() -> None:
    report = example()
    assert CostReport.from_json(report.to_json()) == report
    assert report.to_dict()["total"] == "0.021"


def test_a_report_reads_as_a_table() -> None:
    assert str(example()).splitlines() == [
        "model    deployment  type    calls  input  cached  output              USD",
        "-------  ----------  ------  -----  -----  ------  ------  ---------------",
        "gpt-4o   west        global      2  2,000       0   1,000            0.015",
        "gpt-4.1  east        global      1  1,000       0     500            0.006",
        "house    east        global      1  1,000       0     500        not known",
        "-------  ----------  ------  -----  -----  ------  ------  ---------------",
        "total                            4  4,000       0   2,000  more than 0.021",
        "failed after they were billed, 1 call: 0.0075 USD",
        "not priced, 1 call: no model is known for house",
    ]


def test_the_table_names_a_tier_that_the_type_does_not() -> None:
    report = CostReport()
    report.add(Pricing("p", deployment_type="data-zone-us").cost(USAGE, "gpt-5", tier="priority"))
    report.add(Pricing("p", deployment_type="batch").cost(USAGE, "gpt-5"))
    assert "data-zone-us priority" in str(report)
    assert "batch" in {part.strip() for line in str(report).splitlines() for part in line.split("  ")}


def test_what_distinguishes_a_price_that_is_not_known_cannot_be_merged_away() -> None:
    assert example().merged("chat", "session").total == example().total
    with pytest.raises(ValueError, match="cannot merge by reason: only by agent, chat, session, source"):
        example().merged("reason")


def test_two_reports_add_up() -> None:
    both = example() + example()
    assert (both.total, both.calls, both.unpriced_calls) == (example().total * 2, 8, 2)


# ── the ledger ───────────────────────────────────────────────────────────────────────────


def test_a_ledger_reports_by_chat_by_session_and_in_all() -> None:
    ledger = CostLedger(agent="analyst")
    for chat, session in (("1", "a"), ("2", "a"), ("3", "b"), ("4", None)):
        ledger.add(cost(), deployment="west", chat=chat, session=session)
    assert ledger.report().total == Decimal("0.03")
    assert ledger.report(session="a").total == Decimal("0.015")
    assert ledger.report(chat="4").total == Decimal("0.0075")
    assert ledger.report(chat="1", session="a").calls == 1
    with pytest.raises(KeyError):
        ledger.report(chat="1", session="b")
    assert ledger.report().by_agent["analyst"].calls == 4
    with pytest.raises(KeyError, match="5"):
        ledger.report(chat="5")
    with pytest.raises(KeyError, match="c"):
        ledger.report(session="c")


def test_a_report_taken_from_a_ledger_does_not_change_any_more() -> None:
    ledger = CostLedger()
    ledger.add(cost())
    before = ledger.report()
    ledger.add(cost())
    assert (before.calls, ledger.report().calls) == (1, 2)


def test_a_ledger_forgets_the_oldest_chats_and_no_money() -> None:
    ledger = CostLedger(keep_chats=2, keep_sessions=2)
    for number in range(5):
        ledger.add(cost(), chat=f"c{number}", session=f"s{number}")
        ledger.add(cost(), chat=f"d{number}", session="kept", failed=True)
    assert ledger.report().total == Decimal("0.075")
    assert ledger.report(session="kept").total == Decimal("0.0375")
    assert ledger.report().failed_calls == 5
    assert len(ledger.report()) <= 8
    with pytest.raises(KeyError):
        ledger.report(session="s0")
    with pytest.raises(KeyError):
        ledger.report(chat="c0")


def test_a_chat_beyond_those_kept_counts_for_its_session_alone() -> None:
    ledger = CostLedger(keep_chats=2)
    for chat in ("1", "2", "3"):
        ledger.add(cost(), chat=chat, session="a")
        ledger.add(cost(), chat=chat)
    with pytest.raises(KeyError):
        ledger.report(chat="2")
    assert ledger.report(chat="3").calls == 2
    assert {name: part.calls for name, part in ledger.report(session="a").by_chat.items()} == {
        None: 2,
        "3": 1,
    }
    assert ledger.report().calls == 6


def test_a_session_that_is_deleted_is_told_apart_no_more() -> None:
    ledger = CostLedger()
    ledger.add(cost(), chat="1", session="a")
    ledger.add(cost(), session="a")
    ledger.forget("a")
    ledger.forget("never there")
    assert ledger.report().total == Decimal("0.015")
    assert list(ledger.report().by_session) == [None]
    with pytest.raises(KeyError):
        ledger.report(session="a")


def test_a_ledger_keeps_at_least_one_of_each() -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        CostLedger(keep_chats=0)


def test_a_ledger_counts_right_from_many_threads() -> None:
    ledger = CostLedger(keep_chats=3, keep_sessions=3)
    one, start = cost(), threading.Barrier(8)

    def work(thread: int) -> None:
        start.wait()
        for number in range(200):
            ledger.add(one, chat=f"{thread}-{number % 7}", session=f"{thread % 3}")
            if number % 50 == 0:
                seen = ledger.report()
                assert seen.total == Decimal("0.0075") * seen.calls

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        sys.setswitchinterval(interval)
    report = ledger.report()
    assert report.calls == 1600
    assert report.total == Decimal("0.0075") * 1600


# ── invariants ───────────────────────────────────────────────────────────────────────────

COUNTS = st.integers(min_value=0, max_value=600_000)
USAGES = st.builds(TokenUsage, COUNTS, COUNTS, COUNTS, COUNTS)
PRICINGS = st.builds(
    Pricing,
    st.sampled_from(["west", "model-router"]),
    deployment_type=st.sampled_from(DEPLOYMENT_TYPES),
    prices=st.sampled_from([{}, {"west": PriceOverride(multiplier="0.87")}]),
)
COSTS = st.builds(
    Pricing.cost,
    PRICINGS,
    USAGES,
    st.sampled_from([*TABLE.models, "house"]),
    tier=st.sampled_from([None, "default", "priority", "flex"]),
)
NAMES = st.sampled_from(["x", "y", "z"])
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "cost": COSTS,
            "deployment": NAMES,
            "chat": NAMES,
            "session": NAMES | st.none(),
            "failed": st.booleans(),
        }
    ),
    max_size=12,
)


@given(COSTS)
def test_the_parts_of_every_cost_are_its_whole(found: Cost) -> None:
    if found.usd is None:
        assert found.reason
    else:
        assert found.usd == sum(found.parts.values())
        assert min(found.parts.values()) >= 0
    assert Cost.from_json(found.to_json()) == found


@given(CALLS)
def test_however_calls_are_grouped_the_sums_are_those_of_the_calls(calls: list[dict[str, Any]]) -> None:
    report, ledger = CostReport(), CostLedger(keep_chats=2, keep_sessions=1)
    for call in calls:
        report.add(**call)
        ledger.add(**call)
    exact = sum((call["cost"].usd or Decimal(0) for call in calls), Decimal(0))
    assert report.total == exact
    assert sum(report.parts.values()) == exact
    groupings: list[Mapping[Any, CostReport]] = [
        report.by_model,
        report.by_deployment,
        report.by_chat,
        report.by_session,
        report.by_agent,
    ]
    for groups in groupings:
        assert sum((part.total for part in groups.values()), Decimal(0)) == exact
        assert sum(part.calls for part in groups.values()) == len(calls)
        assert sum(part.failed_total for part in groups.values()) == report.failed_total
    for everything in (ledger.report(), report.merged("chat", "session", "source")):
        assert (everything.total, everything.calls) == (exact, len(calls))
        assert everything.unpriced_calls == sum(not call["cost"].is_known for call in calls)
        assert everything.usage == report.usage
    assert CostReport.from_json(report.to_json()) == report


@given(CALLS)
def test_sums_do_not_depend_on_the_callers_decimal_context(calls: list[dict[str, Any]]) -> None:
    plain, narrow = CostReport(), CostReport()
    for call in calls:
        plain.add(**call)
    with localcontext() as context:
        context.prec = 2
        for call in calls:
            narrow.add(**call)
        total = narrow.total
    assert (total, narrow.parts) == (plain.total, plain.parts)


# ── two costs ────────────────────────────────────────────────────────────────────────────


def test_a_sum_with_a_cost_that_is_not_known_is_not_known() -> None:
    assert added(Decimal("0.1"), None) is added(None, Decimal("0.1")) is added(None, None) is None


def test_costs_are_added_exactly_whatever_precision_the_program_works_with() -> None:
    with localcontext() as context:
        context.prec = 2
        assert added(Decimal("100.25"), Decimal("0.000001")) == Decimal("100.250001")


_dollars = st.decimals(0, 10, places=6)
_costs = st.builds(
    lambda uncached, output, model, usage, told: (
        Cost(told, other=told, model=model, usage=usage)
        if told is not None
        else Cost(uncached + output, uncached_input=uncached, output=output, model=model, usage=usage)
    ),
    _dollars,
    _dollars,
    st.sampled_from(["gpt-4o", "gpt-5"]),
    st.builds(TokenUsage, *[st.integers(0, 9)] * 5),
    st.none() | _dollars,
)


@given(st.lists(st.tuples(_costs, st.sampled_from("ab"), st.sampled_from("st"), st.booleans()), max_size=12))
def test_a_ledger_adds_up_as_a_report_does_that_was_given_every_call(
    calls: list[tuple[Cost, str, str, bool]],
) -> None:
    ledger, plain = CostLedger(agent="ada", keep_chats=50), CostReport()
    for each, chat, session, failed in calls:
        ledger.add(each, deployment="west", chat=chat, session=session, failed=failed)
        plain.add(each, deployment="west", chat=chat, session=session, agent="ada", failed=failed)
    report = ledger.report()
    assert {line.key: line for line in report} == {line.key: line for line in plain}
    assert (report.total, report.usage, report.failed_total) == (plain.total, plain.usage, plain.failed_total)
