"""The bundled table of OpenAI's own prices."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import pytest

from loom_py import TokenUsage
from loom_py.llm.costs import Pricing
from loom_py.llm.models import fine_tuned
from loom_py.llm.prices import PriceTable

ROOT = Path(__file__).parents[3]
MILLION = TokenUsage(1_000_000, 0)


@pytest.mark.skipif(find_spec("litellm") is None, reason="litellm, which brings the price list, is not here")
def test_the_bundled_table_is_what_the_script_makes() -> None:
    command = [sys.executable, "-m", "scripts.build_openai_prices", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "up to date\n")


def test_every_row_says_who_stated_it_and_when() -> None:
    rows = PriceTable.openai().rows
    assert len(rows) > 200
    assert all(row.source and row.date for row in rows)
    assert not any("Defaulting" in row.source for row in rows)


@pytest.mark.parametrize(
    ("model", "tier", "usd"),
    [
        ("gpt-4o", None, "2.5"),
        ("gpt-4o", "default", "2.5"),
        ("gpt-4o", "priority", "4.25"),
        ("gpt-5", "flex", "0.625"),
        ("gpt-4o-2024-05-13", None, "5"),
        ("gpt-3.5-turbo-1106", None, "1"),
        ("ft:gpt-4o-2024-08-06", None, "3.75"),
        ("gpt-4o", "scale", None),
    ],
)
def test_a_price_is_that_of_the_snapshot_and_the_tier(model: str, tier: str | None, usd: str | None) -> None:
    price = PriceTable.openai().get(model, tier=tier)
    assert (None if price is None else price.input) == (None if usd is None else Decimal(usd))


def test_an_exact_name_is_never_taken_for_another_model() -> None:
    guessing, exact = (
        Pricing("gpt-4o-search-preview", table=PriceTable.openai(), exact=exact) for exact in (False, True)
    )
    assert guessing.cost(MILLION, "gpt-4o-search-preview").usd == Decimal("2.5")
    cost = exact.cost(MILLION, "gpt-4o-search-preview")
    assert (cost.usd, cost.reason) == (None, "no price of gpt-4o-search-preview is listed")
    alias = Pricing("chat-default", table=PriceTable.openai(), exact=True)
    assert alias.cost(MILLION, "gpt-4o-2024-05-13").usd == Decimal(5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ft:gpt-4o-mini-2024-07-18:acme:shop:Ab1", "ft:gpt-4o-mini-2024-07-18"),
        ("FT:gpt-4o-mini-2024-07-18:acme::Ab1", "ft:gpt-4o-mini-2024-07-18"),
        ("gpt-4o", None),
        ("ft", None),
    ],
)
def test_a_fine_tuned_model_has_the_price_of_its_kind(name: str, kind: str | None) -> None:
    assert fine_tuned(name) == kind
