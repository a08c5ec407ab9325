from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from loom_py.llm.models import FAMILIES, resolve_model
from loom_py.llm.prices import Amount, ModelPrice, PriceTable
from loom_py.messages import TokenUsage

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "build_prices.py"
BUNDLED = ROOT / "loom_py" / "llm" / "data" / "azure_prices.json"
ROWS = ROOT.parent / "shared" / "prices" / "azure_prices.json"
MILLION = 1_000_000

TABLE = PriceTable.bundled()
MODELS = st.sampled_from([model for model in TABLE.models if TABLE.get(model)])
COUNTS = st.integers(min_value=0, max_value=2 * MILLION)
USAGES = st.builds(TokenUsage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
AMOUNTS = st.decimals(min_value=0, max_value=1000, places=6)


def price(model: str) -> ModelPrice:
    found = TABLE.get(model)
    assert found is not None, model
    return found


@pytest.mark.parametrize(
    ("model", "input_price", "cached", "output"),
    [
        ("gpt-4o", "2.5", "1.25", "10"),
        ("gpt-4o-mini", ".15", ".075", ".6"),
        ("gpt-4.1", "2", ".5", "8"),
        ("gpt-4.1-mini", ".4", ".1", "1.6"),
        ("gpt-4.1-nano", ".1", ".025", ".4"),
        ("o1", "15", "7.5", "60"),
        ("o3", "2", ".5", "8"),
        ("o3-mini", "1.1", ".55", "4.4"),
        ("o4-mini", "1.1", ".275", "4.4"),
        ("o3-pro", "20", None, "80"),
        ("gpt-5", "1.25", ".125", "10"),
        ("gpt-5-codex", "1.25", ".125", "10"),
        ("gpt-5.1", "1.25", ".125", "10"),
        ("gpt-5.1-codex", "1.25", ".125", "10"),
        ("gpt-5-mini", ".25", ".025", "2"),
        ("gpt-5-nano", ".05", ".005", ".4"),
        ("gpt-5-pro", "15", None, "120"),
        ("gpt-5.2", "1.75", ".175", "14"),
        ("gpt-5.3-codex", "1.75", ".175", "14"),
        ("gpt-5.2-pro", "21", None, "168"),
        ("gpt-5.4", "2.5", ".25", "15"),
        ("gpt-5.4-mini", ".75", ".075", "4.5"),
        ("gpt-5.4-nano", ".2", ".02", "1.25"),
        ("gpt-5.4-pro", "30", "3", "180"),
        ("gpt-5.5-pro", "30", "3", "180"),
        ("gpt-5.5", "5", ".5", "30"),
        ("gpt-5.6-sol", "4", ".4", "20"),
        ("gpt-5.6-terra", "2", ".2", "12"),
        ("gpt-5.6-luna", ".2", ".02", "1.2"),
        ("gpt-6-astra", "10", "1", "50"),
        ("gpt-6-sol", "2", ".2", "10"),
        ("gpt-6-luna", ".1", ".01", ".5"),
        ("gpt-6.1-sol", "2", ".1", "10"),
        ("gpt-6.1-terra", "1", ".05", "5"),
        ("gpt-chat-latest", "5", ".5", "30"),
        ("text-embedding-3-small", ".02", None, "0"),
        ("text-embedding-3-large", ".13", None, "0"),
        ("text-embedding-ada-002", ".1", None, "0"),
        ("gpt-4-turbo", "10", None, "30"),
        ("gpt-4-turbo-preview", "10", None, "30"),
        ("gpt-4-turbo-2024-04-09", "10", None, "30"),
        ("gpt-4-1106-preview", "10", None, "30"),
        ("gpt-4", "30", None, "60"),
        ("gpt-4-0613", "30", None, "60"),
        ("gpt-35-turbo", ".5", None, "1.5"),
        ("gpt-3.5-turbo", ".5", None, "1.5"),
    ],
)
def test_the_bundled_table_holds_the_published_prices(
    model: str, input_price: str, cached: str | None, output: str
) -> None:
    found = price(model)
    assert found.input == Decimal(input_price)
    assert found.output == Decimal(output)
    assert found.cached_input == (None if cached is None else Decimal(cached))


@pytest.mark.parametrize(
    ("model", "tokens_in", "tokens_out", "cost"),
    [
        ("gpt-4o", 1245, 387, "0.0069825"),
        ("gpt-4o", 1000, 500, "0.0075"),
        ("gpt-4o-mini", 1000, 500, "0.00045"),
        ("gpt-35-turbo", 1000, 500, "0.00125"),
        ("gpt-4o", 15, 10, "0.0001375"),
        ("gpt-4o-2024-05-13", 1000, 1000, "0.02"),
        ("gpt-4o-2024-11-20", 1000, 1000, "0.0125"),
    ],
)
def test_costs_are_exact(model: str, tokens_in: int, tokens_out: int, cost: str) -> None:
    got = price(model).cost(TokenUsage(tokens_in, tokens_out))
    assert got == Decimal(cost)
    assert str(got) == cost


def test_cached_input_and_cache_writes_are_priced_apart_and_reasoning_is_inside_the_output() -> None:
    found = price("gpt-6.1-sol")
    usage = TokenUsage(input=1000, output=100, cached_input=400, cache_writes=500, reasoning=90)
    assert found.cost(usage) == Decimal("0.0002") + Decimal("0.00004") + Decimal("0.00125") + Decimal("0.001")


def test_without_prices_of_the_cache_its_tokens_cost_as_input() -> None:
    plain = ModelPrice(2, 8)
    assert plain.cost(TokenUsage(1000, 0, 300, 200)) == plain.cost(TokenUsage(1000, 0))


def test_a_free_cache_is_free() -> None:
    assert ModelPrice(2, 8, cached_input=0).cost(TokenUsage(1000, 0, cached_input=1000)) == 0


def test_more_cached_tokens_than_input_count_only_up_to_the_input() -> None:
    found = ModelPrice(2, 8, cached_input=1, cache_write=3)
    assert found.cost(TokenUsage(100, 0, cached_input=500, cache_writes=70)) == Decimal("0.0001")


def test_a_long_context_costs_its_own_price_throughout() -> None:
    found = price("gpt-5.4")
    assert found.cost(TokenUsage(272_000, 1000)) == Decimal("0.695")
    assert found.cost(TokenUsage(272_001, 1000)) == Decimal("1.382505")
    assert found.cost(TokenUsage(300_000, 0, cached_input=300_000)) == Decimal("0.15")


def test_no_tokens_cost_a_plain_zero() -> None:
    assert str(price("gpt-4o").cost(TokenUsage())) == "0"
    assert str(ModelPrice("50", "0").cost(TokenUsage(MILLION))) == "50"


def test_a_cost_does_not_depend_on_the_callers_decimal_context() -> None:
    with localcontext() as context:
        context.prec = 3
        assert price("gpt-4o").cost(TokenUsage(1245, 387)) == Decimal("0.0069825")


@pytest.mark.parametrize("amount", [Decimal("0.15"), "0.15", 0.15, " .15 "])
def test_amounts_may_be_decimal_text_or_float(amount: Amount) -> None:
    assert ModelPrice(amount, 1).input == Decimal("0.15")


@pytest.mark.parametrize("amount", [-1, "-0.5", Decimal(-2), -0.1, "nan", float("inf"), "much"])
def test_an_amount_that_is_no_price_is_refused_by_its_name(amount: Amount) -> None:
    with pytest.raises(ValueError, match="cached_input must"):
        ModelPrice(1, 2, cached_input=amount)


@pytest.mark.parametrize("amount", [None, True, [1]])
def test_something_that_is_no_amount_is_refused(amount: object) -> None:
    with pytest.raises(TypeError, match="input must be an amount in USD per 1M tokens"):
        ModelPrice(amount, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", ["1e13", "1e400", "1e-41", Decimal("1e-1000")])
def test_an_amount_out_of_all_proportion_is_refused(amount: Amount) -> None:
    with pytest.raises(ValueError, match="output must be an amount in USD per 1M tokens below 1E"):
        ModelPrice(1, amount)


def test_a_cost_of_absurdly_many_tokens_is_still_exact() -> None:
    usage = TokenUsage(input=10**300 + 1, output=1)
    exact = (Fraction(10**300 + 1, 10) + Fraction(1, 10**30)) / MILLION
    assert Fraction(ModelPrice("0.1", "1e-30").cost(usage)) == exact


def test_half_a_tier_is_refused() -> None:
    with pytest.raises(ValueError, match="give above_tokens too"):
        ModelPrice(1, 2, above_input=2)
    with pytest.raises(ValueError, match="needs above_input and above_output"):
        ModelPrice(1, 2, above_tokens=1000, above_input=2)
    with pytest.raises(ValueError, match="above_tokens must be at least 1"):
        ModelPrice(1, 2, above_tokens=0, above_input=2, above_output=4)


def test_a_price_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        ModelPrice(1, 2).input = Decimal(3)  # type: ignore[misc]


def test_prices_in_a_pydantic_config_are_checked_as_well() -> None:
    class Config(BaseModel):
        prices: dict[str, ModelPrice]

    mine = ModelPrice("1.5", 2)
    assert Config(prices={"x": mine}).prices["x"] == mine
    assert Config.model_validate({"prices": {"x": {"input": "1.5", "output": 2}}}).prices["x"] == mine
    with pytest.raises(ValidationError, match="input must not be negative"):
        Config.model_validate({"prices": {"x": {"input": -1, "output": 2}}})


# ── the table ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["", "custom-name", "gpt-4o-prod", "gpt-4.2", "gpt-5-ultra-2027-01-01"])
def test_a_model_that_is_not_listed_has_no_price(name: str) -> None:
    assert TABLE.get(name) is None


@pytest.mark.parametrize(
    "name", ["model-router", "gpt-4o-realtime-preview", "gpt-4o-audio-preview", "o1-pro"]
)
def test_a_model_whose_whole_price_is_not_in_the_list_has_none(name: str) -> None:
    assert TABLE.get(name) is None


def test_a_version_without_a_price_of_its_own_has_its_familys() -> None:
    assert TABLE.get("gpt-4.1-2026-01-01") == price("gpt-4.1")
    assert TABLE.get(" GPT-4.1 ") == price("gpt-4.1")
    assert TABLE.get("gpt-5.2-chat-latest") == price("gpt-5.2-chat")


def test_overlaid_prices_come_first_and_the_rest_stays() -> None:
    mine = ModelPrice(1, 2)
    table = TABLE.overlaid({"GPT-4o": mine, "House-Model": mine, "gpt-3.5-turbo": mine})
    assert table.get("gpt-4o") == mine
    assert table.get("gpt-4o-2024-11-20") == mine
    assert table.get("house-model") == mine
    assert table.get("gpt-35-turbo") == mine
    assert table.get("gpt-4o-mini") == price("gpt-4o-mini")
    assert TABLE.get("gpt-4o") != mine
    assert TABLE.get("house-model") is None
    assert (table.source, table.date) == (TABLE.source, TABLE.date)


def test_the_last_overlay_wins() -> None:
    first, second = ModelPrice(1, 1), ModelPrice(2, 2)
    assert TABLE.overlaid({"gpt-4o": first}).overlaid({"gpt-4o": second}).get("gpt-4o") == second


def test_the_table_says_where_it_comes_from() -> None:
    assert "litellm" in TABLE.source
    assert TABLE.date.startswith("20")
    assert repr(TABLE).startswith(f"PriceTable({len(TABLE.models)} models")
    assert PriceTable.bundled() is TABLE


def test_every_priced_name_is_a_known_model() -> None:
    assert [name for name in TABLE.models if resolve_model(name) is None] == []


def test_few_families_are_without_a_price() -> None:
    unpriced = {family for family in FAMILIES if TABLE.get(family) is None}
    heard = {family for family in FAMILIES if any(w in family for w in ("audio", "real", "scribe", "tts"))}
    assert unpriced == heard | {"model-router", "o1-preview", "o1-pro", "o4-mini-deep-research"}


# ── invariants ───────────────────────────────────────────────────────────────────────────


@given(MODELS, COUNTS, COUNTS, COUNTS)
def test_cached_input_never_costs_more_than_input(model: str, tokens: int, cached: int, output: int) -> None:
    found = price(model)
    assert found.cost(TokenUsage(tokens, output, cached)) <= found.cost(TokenUsage(tokens, output))


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), max_size=4))
def test_the_cost_of_a_sum_is_the_sum_of_the_costs_where_there_is_no_tier(
    i: Decimal, o: Decimal, c: Decimal, w: Decimal, calls: list[tuple[int, int, int, int]]
) -> None:
    found = ModelPrice(i, o, c, w)
    usages = [TokenUsage(a + b + plain, out, a, b) for plain, out, a, b in calls]
    total = sum(usages, TokenUsage())
    assert found.cost(total) == sum((found.cost(usage) for usage in usages), Decimal(0))


@given(MODELS, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), COUNTS)
def test_the_parts_of_a_call_cost_what_the_whole_costs(
    model: str, plain: int, cached: int, written: int, output: int
) -> None:
    found = price(model)
    parts = (
        TokenUsage(input=plain),
        TokenUsage(input=cached, cached_input=cached),
        TokenUsage(input=written, cache_writes=written),
        TokenUsage(output=output),
    )
    assert found.cost(sum(parts, TokenUsage())) == sum(map(found.cost, parts), Decimal(0))


@given(MODELS, USAGES)
def test_a_cost_is_never_negative_and_survives_as_text(model: str, usage: TokenUsage) -> None:
    cost = price(model).cost(usage)
    assert cost >= 0
    assert Decimal(str(cost)) == cost
    assert "E+" not in str(cost)


# ── the script ───────────────────────────────────────────────────────────────────────────


def build(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not ROWS.is_file(), reason="the price list the tables are made from is not here")
def test_the_bundled_tables_are_what_the_script_makes() -> None:
    done = build("--check")
    assert (done.returncode, done.stdout) == (0, "up to date\n")


def test_the_script_tells_stale_tables_and_writes_them_but_once(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    row = {"mode": "chat", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 0.000168}
    names = ("azure/gpt-4o", "azure/us/gpt-4o", "azure/model-router", "azure/us/o1-preview")
    rows.write_text(json.dumps(dict.fromkeys(names, row)))
    where = ("--rows", str(rows), "--out", str(tmp_path))
    assert build("--check", *where).returncode == 1
    assert "written" in build(*where).stdout
    assert build("--check", *where).stdout == "up to date\n"
    made = json.loads((tmp_path / "azure_prices.json").read_text())
    price = {"input": "2.5", "output": "168", "source": 0}
    assert [row for row in made["rows"] if row["model"] == "gpt-4o"] == [
        {"model": "gpt-4o", **price},
        {"model": "gpt-4o", "type": "data-zone-us", **price},
    ]
    assert [row["model"] for row in made["fees"]] == ["model-router"]
    assert not [row for row in made["rows"] if row["model"] == "model-router"]


@pytest.mark.skipif(not ROWS.is_file(), reason="the price list the tables are made from is not here")
def test_every_price_of_a_text_model_in_the_list_is_in_the_table_or_named_in_its_notes() -> None:
    notes = " ".join(json.loads(BUNDLED.read_text())["notes"])
    fields = {
        "input_cost_per_token": "input",
        "output_cost_per_token": "output",
        "cache_read_input_token_cost": "cached_input",
        "cache_creation_input_token_cost": "cache_write",
    }
    zones = {
        "azure/us": "data-zone-us",
        "azure/eu": "data-zone-eu",
        "azure/apac": "data-zone-apac",
        "azure/us-gov": "us-gov",
    }
    tiers = {"priority": "priority", "batches": "batch", "flex": "flex"}
    seen = 0
    for key, row in json.loads(ROWS.read_text(), parse_float=Decimal).items():
        before, _, name = key.rpartition("/")
        if row["mode"] not in ("chat", "responses", "completion", "embedding") or "audio" in str(list(row)):
            continue
        for field, value in row.items():
            found = re.fullmatch(rf"({'|'.join(fields)})(_above_272k_tokens)?(?:_(.*))?", field)
            if found is None or f"{name} is left out" in notes or name == "model-router":
                continue
            zone, tier = zones.get(before, "global"), tiers.get(found[3], "standard")
            if f"{name} ({zone}): no {tier} price, as" in notes:
                continue
            zone = "regional" if zone == "global" and f"{name}: the row is 10 %" in notes else zone
            rows = [one for one in TABLE.rows if (one.model, one.type, one.tier) == (name, zone, tier)]
            listed = getattr(rows[-1].price, ("above_" if found[2] else "") + fields[found[1]])
            assert listed == Decimal(value) * 1_000_000, (key, field)
            seen += 1
    assert seen > 1000


def test_the_script_says_when_there_is_no_price_list(tmp_path: Path) -> None:
    done = build("--rows", str(tmp_path / "none.json"))
    assert done.returncode == 2
    assert "name one with --rows" in done.stderr
