"""``loom providers``, ``models``, ``prices``, ``conformance`` and ``plugin``, as processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loom_py.llm.prices import PriceTable
from tests.cli.terminal import Loom


def test_providers_are_listed_with_where_they_come_from(loom: Loom) -> None:
    done = loom("providers", "--json")
    assert done.returncode == 0, done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)}
    assert found["azure-openai"]["distribution"] == "loom-py"
    assert found["ollama"]["distribution"] == "loom-ollama"
    shown = loom("providers").stdout
    assert "azure-openai" in shown
    assert "ready" in shown


def test_a_broken_provider_is_told_and_is_a_failure(loom: Loom, tmp_path: Path) -> None:
    info = tmp_path / "loom_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loom-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[loom_py.providers]\nbroken = no_such_module:x\n")
    done = loom("providers", more={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "No module named 'no_such_module'" in " ".join(done.stdout.split())
    assert "azure-openai" in done.stdout


def test_models_show_what_they_can_do_and_cost(loom: Loom) -> None:
    done = loom("models", "gpt-4o-mini")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("gpt-4o-mini ")]
    assert line.split() == ["gpt-4o-mini", "128K", "16K", "tools", "images", "json", "0.15", "0.6"]
    narrow = loom("models", more={"COLUMNS": "50"}).stdout
    assert all(len(line) <= 50 for line in narrow.splitlines())
    assert "…" not in narrow + loom("models").stdout
    (model, *_) = json.loads(loom("models", "gpt-4o-mini", "--json").stdout)
    assert model["profile"]["context_window"] == 128_000


@pytest.mark.parametrize("model", ["gpt-4o", "GPT-4o", "gpt-4o-2024-11-20"])
def test_prices_are_every_row_of_the_lists(loom: Loom, model: str) -> None:
    rows = json.loads(loom("prices", model, "--provider", "azure-openai", "--json").stdout)
    named = {row["model"] for row in rows}
    listed = [row for row in PriceTable.bundled().rows if row.model in named]
    assert len(rows) == len(listed)
    assert rows[0]["price"]["input"] == str(listed[0].price.input)
    assert all(row["source"] and row["date"] for row in rows)


def test_prices_name_their_source(loom: Loom) -> None:
    shown = loom("prices", "gpt-4o").stdout
    assert "USD per million tokens" in shown
    assert "azure-openai" in shown
    assert "openai" in shown
    assert "litellm" in shown


@pytest.mark.parametrize("arguments", [("prices", "gpt4oo"), ("models", "gpt4oo")])
def test_an_unknown_model_is_told_with_a_guess(loom: Loom, arguments: tuple[str, ...]) -> None:
    done = loom(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no model 'gpt4oo' is listed" in done.stderr
    assert "Did you mean gpt-4o" in done.stderr


def test_an_unknown_list_is_told(loom: Loom) -> None:
    done = loom("prices", "gpt-4o", "--provider", "ebay")
    assert done.returncode == 2
    assert "no price list of 'ebay'" in done.stderr


def test_conformance_prints_the_scorecard_and_writes_json(loom: Loom, tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    done = loom("conformance", "scripted", "--only", "chat/text*", "--json", str(file), "--plain")
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout
    assert json.loads(file.read_text())
    assert loom("conformance", "--list").stdout.count("\n") > 100
    assert loom("conformance", "no-such").returncode == 2
    assert loom("conformance").returncode == 2


def test_plugin_new_writes_a_package(loom: Loom) -> None:
    done = loom("plugin", "new", "house")
    assert done.returncode == 0, done.stderr
    assert (loom.folder / "loom-house" / "loom_house" / "provider.py").is_file()
    assert "loom conformance loom_house.testing:HouseAdapter" in done.stdout
    again = loom("plugin", "new", "house")
    assert again.returncode == 2
    assert "is there already" in again.stderr
