"""The optional second list of prices."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from decimal import Decimal

import pytest

from loom_py.llm.prices import GenAIPrices, ModelPrice, PriceTable

pytest.importorskip("genai_prices", reason="the extra `prices` is not installed")


@pytest.fixture(scope="module")
def prices() -> GenAIPrices:
    return GenAIPrices()


def test_a_model_our_table_does_not_know_has_its_price_and_its_source(prices: GenAIPrices) -> None:
    assert not PriceTable.bundled().knows("o1-pro")
    row = prices.find("O1-Pro")
    assert row is not None
    assert row.price == ModelPrice(150, 600)
    assert row.source.startswith("genai-prices 0.")
    assert row.source.endswith("its prices of OpenAI")


def test_a_version_has_its_models_price(prices: GenAIPrices) -> None:
    assert prices.get("claude-sonnet-4-5-20250929") == prices.get("claude-sonnet-4-5")
    assert prices.get("o1-pro-2025-03-19") == prices.get("o1-pro")


@pytest.mark.parametrize(
    "name", ["", "custom-name", "deepseek-r1-house", "gpt-5-ultra-2027-01-01", "gpt-4o-prod"]
)
def test_a_name_that_only_resembles_a_model_has_no_price(prices: GenAIPrices, name: str) -> None:
    assert prices.get(name) is None


@pytest.mark.parametrize("name", ["gpt-audio", "gpt-4o-realtime-preview", "gpt-image-1"])
def test_a_model_whose_price_is_not_of_tokens_of_text_alone_has_none(prices: GenAIPrices, name: str) -> None:
    assert prices.get(name) is None


def test_it_answers_for_global_standard_alone(prices: GenAIPrices) -> None:
    assert prices.get("o1-pro", "data-zone-us") is None
    assert prices.get("o1-pro", "batch") is None
    assert prices.get("o1-pro", tier="priority") is None
    assert prices.get("o1-pro", tier="default") == prices.get("o1-pro")


def test_the_day_and_the_long_context_count_there_too(prices: GenAIPrices) -> None:
    before = prices.get("gpt-5.6-sol", at=date(2026, 8, 20))
    after = prices.get("gpt-5.6-sol", at=date(2026, 8, 21))
    assert before == PriceTable.bundled().get("gpt-5.6-sol", at=date(2026, 8, 20))
    assert after == PriceTable.bundled().get("gpt-5.6-sol", at=date(2026, 8, 21))
    assert after is not None
    assert (after.above_tokens, after.above_output) == (272_000, Decimal(30))


def test_it_is_imported_on_first_use_only_and_never_goes_to_the_network() -> None:
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("a connection was opened")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import threading
from loom_py.llm.prices import GenAIPrices
prices = GenAIPrices.if_installed()
assert "genai_prices" not in sys.modules
assert prices.get("o1-pro") is not None
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
