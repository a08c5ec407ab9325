"""Build the tables of prices and of model profiles that the package carries.

::

    python scripts/build_prices.py            write loom_py/llm/data/*.json
    python scripts/build_prices.py --check    say whether they are up to date; exit status 1 if not

The rows come from the price list of litellm (its ``azure/*`` rows, which transcribe Azure's price
list), read from ``../shared/prices/azure_prices.json`` or the file named with ``--rows``. What is
taken from elsewhere is listed in `CORRECTIONS`, with the reason, and lands in the files' notes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT.parent / "shared" / "prices" / "azure_prices.json"
DATA = ROOT / "loom_py" / "llm" / "data"

SOURCE = "litellm 1.109.1, its azure/* rows for global standard deployments, and the corrections in notes"
DATE = "2026-11"
MODES = ("chat", "responses", "completion", "embedding")
LONG_CONTEXT = 272_000

REGIONAL = "the row is 10 % above the price other lists give, as regional deployments are"
CORRECTIONS: dict[str, tuple[str, str, str]] = {
    "gpt-4-turbo": ("10", "30", REGIONAL),
    "gpt-4-turbo-2024-04-09": ("10", "30", REGIONAL),
    "gpt-4-turbo-preview": ("10", "30", "the list has no row of this name; the price of gpt-4-turbo"),
    "text-embedding-3-small": ("0.02", "0", REGIONAL),
    "text-embedding-3-large": ("0.13", "0", REGIONAL),
    "text-embedding-ada-002": ("0.1", "0", REGIONAL),
}
"""Model -> input and output in USD per 1M tokens, and why the row is not taken as it is."""

LEFT_OUT = {
    "ada": "a second name of text-embedding-ada-002",
    "container": "a price per session, not per token",
    "gpt-3.5-turbo": "Azure's name is gpt-35-turbo",
    "gpt-3.5-turbo-instruct-0914": "Azure's name is gpt-35-turbo-instruct-0914",
    "gpt-4-turbo-vision-preview": "a preview of gpt-4-turbo, and priced as that",
    "gpt-4-0125-preview": "a preview of gpt-4-turbo, and priced as that",
    "gpt-4-1106-preview": "a preview of gpt-4-turbo, and priced as that",
    "model-router": "the row is a fee on top of the chosen model's price, 0.14 USD per 1M input tokens",
}
"""Rows that are no price of a model's tokens, and why."""

NO_TOOLS = ("o1-mini", "o1-preview")
"""Azure's documentation of reasoning models lists no tools for these; the rows say otherwise."""

VERSION = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{4})\Z")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the bundled tables of prices and profiles.")
    parser.add_argument("--check", action="store_true", help="only say whether the tables are up to date")
    parser.add_argument("--rows", type=Path, default=ROWS, help="the price list (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=DATA, help="the folder to write to (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if not arguments.rows.is_file():
        parser.error(f"no price list at {arguments.rows}; name one with --rows")
    rows = json.loads(arguments.rows.read_text(encoding="utf-8"), parse_float=Decimal)
    tables = {"azure_prices.json": price_table(rows), "model_profiles.json": profile_table(rows)}
    stale = []
    for name, table in tables.items():
        path, text = arguments.out / name, table_text(table)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not arguments.check:
            arguments.out.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if arguments.check:
        print(f"out of date: {', '.join(stale)}" if stale else "up to date")
        return 1 if stale else 0
    print(f"written: {', '.join(stale)}" if stale else "nothing to do")
    return 0


def table_text(table: dict[str, Any]) -> str:
    """JSON with one model a line."""
    models = table["models"]
    head = json.dumps({**table, "models": {}}, indent=2, ensure_ascii=False)
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(models[name])}" for name in sorted(models))
    return head.removesuffix("{}\n}") + "{\n" + lines + "\n  }\n}\n"


def global_rows(rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of global standard deployments of text models, by model name."""
    chosen = {}
    for key, row in rows.items():
        provider, _, name = key.partition("/")
        if provider != "azure" or "/" in name or row.get("mode") not in MODES:
            continue
        speaks = any("audio" in field for field in row)
        if not speaks and "input_cost_per_token" in row:
            chosen[name] = row
    return chosen


# ── prices ───────────────────────────────────────────────────────────────────────────────


def price_table(rows: dict[str, Any]) -> dict[str, Any]:
    """The table of prices: USD per 1M tokens, as text."""
    models = {name: price_of(row) for name, row in global_rows(rows).items() if name not in LEFT_OUT}
    for name, (input_price, output_price, _) in CORRECTIONS.items():
        models[name] = {"input": input_price, "output": output_price}
    return {
        "source": SOURCE,
        "date": DATE,
        "unit": "USD per 1M tokens",
        "notes": [
            "Third-party transcriptions of Azure's list: check them against your own contract and region.",
            "Other tiers (data zone, regional, priority, flex, batch) have other prices.",
            "Models that hear or speak are left out: their audio has another price than their text.",
            *(f"{name}: {reason}." for name, (_, _, reason) in CORRECTIONS.items()),
            *(f"{name} is left out: {reason}." for name, reason in LEFT_OUT.items()),
        ],
        "models": models,
    }


def price_of(row: dict[str, Any]) -> dict[str, Any]:
    """One row's prices; those of a long context where it has them."""
    price: dict[str, Any] = money(
        row,
        input="input_cost_per_token",
        output="output_cost_per_token",
        cached_input="cache_read_input_token_cost",
        cache_write="cache_creation_input_token_cost",
    )
    above = money(
        row,
        above_input="input_cost_per_token_above_272k_tokens",
        above_output="output_cost_per_token_above_272k_tokens",
        above_cached_input="cache_read_input_token_cost_above_272k_tokens",
        above_cache_write="cache_creation_input_token_cost_above_272k_tokens",
    )
    if above:
        price |= {"above_tokens": LONG_CONTEXT, **above}
    return price


def money(row: dict[str, Any], **fields: str) -> dict[str, str]:
    """Prices of one token as prices of a million."""
    return {
        name: f"{(Decimal(row[field]) * 1_000_000).normalize():f}"
        for name, field in fields.items()
        if field in row
    }


# ── profiles ─────────────────────────────────────────────────────────────────────────────


def profile_table(rows: dict[str, Any]) -> dict[str, Any]:
    """The table of what models can do."""
    chosen = {name: row for name, row in global_rows(rows).items() if name not in LEFT_OUT}
    chosen["model-router"] = rows["azure/model-router"]
    chosen["o1-preview"] = rows["azure/us/o1-preview"]
    profiles = {name: profile_of(name, row) for name, row in chosen.items()}
    return {
        "source": SOURCE,
        "date": DATE,
        "unit": "tokens",
        "notes": [
            "context_window is the most input a call may have (the rows' max_input_tokens).",
            "The o-series takes no parallel tool calls (Azure's documentation of reasoning models).",
            "Chat variants of gpt-5 and later take sampling parameters, so they do not count as reasoning.",
            "o1-mini and o1-preview take no tools (same documentation).",
            "o1-preview: from the row of the US data zone, as there is no global one.",
            "A version has a line of its own only where it differs from its family.",
            "Where a row does not say, a chat model takes tools, and takes none in parallel.",
        ],
        "models": {
            name: profile
            for name, profile in profiles.items()
            if profile != profiles.get(VERSION.sub("", name)) or not VERSION.search(name)
        },
    }


def profile_of(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """What one model can do, in the fields of ``ModelProfile``."""
    o_series = name[0] == "o" and name[1].isdigit()
    chats = row["mode"] in ("chat", "responses")
    tools = chats and row.get("supports_function_calling", True) and not name.startswith(NO_TOOLS)
    return {
        "context_window": row.get("max_input_tokens"),
        "max_output": row.get("max_output_tokens"),
        "tools": tools,
        "parallel_tools": tools and not o_series and row.get("supports_parallel_function_calling", False),
        "vision": row.get("supports_vision", False),
        "streaming": row["mode"] != "embedding",
        "reasoning": (o_series or row.get("supports_reasoning", False)) and "chat" not in name,
        "max_tokens_parameter": max_tokens_parameter(name),
    }


def max_tokens_parameter(name: str) -> str:
    """``max_tokens`` for the models from before its successor."""
    old = name in ("gpt-4", "gpt-4-0613") or name.startswith(("gpt-35-turbo", "gpt-3.5-turbo", "gpt-4-32k"))
    return "max_tokens" if old else "max_completion_tokens"


if __name__ == "__main__":
    sys.exit(main())
