"""Build the table of OpenAI's own prices that the package carries.

::

    python -m scripts.build_openai_prices            write loom_py/llm/data/openai_prices.json
    python -m scripts.build_openai_prices --check    say whether it is up to date; exit status 1 if not

The rows come from the price list that the package litellm brings along, its rows of OpenAI's own API, which
transcribe OpenAI's price list: of the installed package, or the file named with ``--rows``. What a row is
read as is told in `build_prices`.
"""

from __future__ import annotations

import argparse
import json
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scripts.build_prices import (
    CHANGES,
    DATA,
    DATE,
    LIST,
    MAKERS,
    MODES,
    dated_rows,
    index,
    label,
    row_order,
    table_text,
    tiers_of,
)

PROVIDERS = ("openai", "text-completion-openai")
"""The list's words for OpenAI's own API."""

OUT = DATA / "openai_prices.json"

LEFT_OUT = ("audio", "search-api", "search-preview")
"""Parts of the names of models that cost something beside their tokens of text."""

GUESSED = "Defaulting to base model pricing"
"""What a row says whose price nobody has stated."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the bundled table of OpenAI's own prices.")
    parser.add_argument("--check", action="store_true", help="only say whether the table is up to date")
    parser.add_argument("--rows", type=Path, default=installed_list(), help="litellm's price list")
    arguments = parser.parse_args()
    if arguments.rows is None or not arguments.rows.is_file():
        parser.error(f"no price list: install {LIST.replace(' ', '==')}, or name its list with --rows")
    rows = json.loads(arguments.rows.read_text(encoding="utf-8"), parse_float=Decimal)
    text = table_text(price_table(rows))
    if OUT.is_file() and OUT.read_text(encoding="utf-8") == text:
        print("up to date")
        return 0
    if arguments.check:
        print(f"out of date: {OUT.name}")
        return 1
    OUT.write_text(text, encoding="utf-8")
    print(f"written: {OUT.name}")
    return 0


def installed_list() -> Path | None:
    """The list of the installed litellm, which is not imported for it."""
    found = find_spec("litellm")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).with_name("model_prices_and_context_window_backup.json")


def price_table(rows: dict[str, Any]) -> dict[str, Any]:
    """The table of prices: USD per 1M tokens, as text; one row for a model, tier and time."""
    sources: list[str] = []
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    for name, row in rows.items():
        if row.get("litellm_provider") not in PROVIDERS or row.get("mode") not in MODES:
            continue
        if "/" in name or any(part in name for part in LEFT_OUT):
            continue
        if any("audio" in field for field in row) or "input_cost_per_token" not in row:
            continue
        cited = row.get("source")
        if GUESSED in (cited or ""):
            notes.append(f"{name} is left out: its price is the base model's, by the row's own words.")
            continue
        source = index(sources, f"{LIST}, which cites {cited}" if cited else f"{LIST}, which cites no source")
        tiers, missing = tiers_of(row)
        found += [
            {"model": name, **label("global", tier), **price, "source": source}
            for tier, price in tiers.items()
        ]
        notes += [f"{name}: {what}." for what in missing]
    return {
        "source": f"{LIST}, its rows of OpenAI",
        "date": DATE,
        "unit": "USD per 1M tokens",
        "notes": [
            "Third-party transcriptions of OpenAI's list: check them against your own contract.",
            "A row is for the standard tier where it does not say otherwise; nothing is derived.",
            "Data residency, which OpenAI sells at a surcharge for some models, is not in the list.",
            "Models that hear, speak or search are left out: their text is not all they cost.",
            "ft:MODEL is what a model fine-tuned from MODEL costs.",
            *(
                f"{name}: the price began on {day}, by genai-prices 0.2.3."
                for name, (day, _) in CHANGES.items()
            ),
            *notes,
        ],
        "sources": [*sources, MAKERS],
        "fees": [],
        "rows": sorted((dated for row in found for dated in dated_rows(row, len(sources))), key=row_order),
    }


if __name__ == "__main__":
    raise SystemExit(main())
