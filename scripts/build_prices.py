"""Build the tables of prices and of model profiles that the package carries.

::

    python scripts/build_prices.py            write loom_py/llm/data/*.json
    python scripts/build_prices.py --check    say whether they are up to date; exit status 1 if not

The rows come from the price list of litellm (its ``azure/*`` rows, which transcribe Azure's price
list), read from ``../shared/prices/azure_prices.json`` or the file named with ``--rows``. What is
taken from elsewhere is listed in `CORRECTIONS` and `CHANGES`, with the reason, and lands in the files'
notes. A row of the list becomes one row of the table for each service tier it has a whole price for.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT.parent / "shared" / "prices" / "azure_prices.json"
DATA = ROOT / "loom_py" / "llm" / "data"

PROFILE_SOURCE = (
    "litellm 1.109.1, its azure/* rows for global standard deployments, and the corrections in notes"
)
LIST = "litellm 1.109.1"
SOURCE = f"{LIST}, its azure/* rows, and the corrections in notes"
DATE = "2026-11"
MODES = ("chat", "responses", "completion", "embedding")

TYPES = {
    "azure": "global",
    "azure/us": "data-zone-us",
    "azure/eu": "data-zone-eu",
    "azure/apac": "data-zone-apac",
    "azure/us-gov": "us-gov",
    "azure/global": "global",
    "azure/global-standard": "global",
}
"""What stands before a model's name -> the type of deployment; the first that has a model's price counts."""

TIERS = {"": "standard", "_priority": "priority", "_batches": "batch", "_flex": "flex"}
"""What stands behind a price's name -> the service tier."""

_MONEY = ("input", "output", "cached_input", "cache_write")
FIELD_ORDER = [*_MONEY, "above_tokens", *(f"above_{name}" for name in _MONEY)]

FIELDS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
}
PRICE = re.compile(rf"({'|'.join(FIELDS)})(?:_above_(\d+)k_tokens)?({'|'.join(TIERS)})")

REGIONAL = "the row is 10 % above the price other lists give, as regional deployments are"
OTHER_LISTS = "the makers' list price, as genai-prices 0.2.3 and others have it"
CORRECTIONS: dict[str, tuple[str, str, str]] = {
    "gpt-4-turbo": ("10", "30", REGIONAL),
    "gpt-4-turbo-2024-04-09": ("10", "30", REGIONAL),
    "gpt-4-turbo-preview": ("10", "30", "the list has no row of this name; the price of gpt-4-turbo"),
    "text-embedding-3-small": ("0.02", "0", REGIONAL),
    "text-embedding-3-large": ("0.13", "0", REGIONAL),
    "text-embedding-ada-002": ("0.1", "0", REGIONAL),
}
"""Model -> input and output in USD per 1M tokens, and why the row is not taken as the global price."""

MAKERS = "genai-prices 0.2.3, its prices of OpenAI, which it has for Azure as well"
_LONG = {"above_tokens": 272_000}
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "o3": ("2025-06-10", {"input": "10", "output": "40", "cached_input": "0.5"}),
    "gpt-5.6-luna": (
        "2026-07-30",
        {"input": "1", "output": "6", "cached_input": "0.1", "cache_write": "1.25"}
        | _LONG
        | {"above_input": "2", "above_output": "9", "above_cached_input": "0.2", "above_cache_write": "2.5"},
    ),
    "gpt-5.6-terra": (
        "2026-07-30",
        {"input": "2.5", "output": "15", "cached_input": "0.25", "cache_write": "3.125"}
        | _LONG
        | {
            "above_input": "5",
            "above_output": "22.5",
            "above_cached_input": "0.5",
            "above_cache_write": "6.25",
        },
    ),
    "gpt-5.6-sol": (
        "2026-08-21",
        {"input": "5", "output": "30", "cached_input": "0.5", "cache_write": "6.25"}
        | _LONG
        | {"above_input": "10", "above_output": "45", "above_cached_input": "1", "above_cache_write": "12.5"},
    ),
}
"""Model -> the first day of the price the rows have, and the global price before it."""

LEFT_OUT = {
    "ada": "a second name of text-embedding-ada-002",
    "container": "a price per session, not per token",
    "gpt-3.5-turbo": "Azure's name is gpt-35-turbo",
    "gpt-3.5-turbo-instruct-0914": "Azure's name is gpt-35-turbo-instruct-0914",
    "gpt-4-turbo-vision-preview": "a preview of gpt-4-turbo, and priced as that",
    "gpt-4-0125-preview": "a preview of gpt-4-turbo, and priced as that",
    "gpt-4-1106-preview": "a preview of gpt-4-turbo, and priced as that",
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
    """JSON with one note, row or model a line."""
    entries = ",\n".join(f"  {json.dumps(name)}: {block(value)}" for name, value in table.items())
    return f"{{\n{entries}\n}}\n"


def block(value: Any) -> str:
    """A list or a mapping with one entry a line, anything else on one."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(f"    {plain_json(item)}" for item in value) + "\n  ]"
    if isinstance(value, dict):
        lines = (f"    {json.dumps(name)}: {plain_json(value[name])}" for name in sorted(value))
        return "{\n" + ",\n".join(lines) + "\n  }"
    return plain_json(value)


def plain_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


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
    """The table of prices: USD per 1M tokens, as text; one row for a model, type, tier and time."""
    sources: list[str] = []
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    for name, type_, row in listed(rows):
        cited = row.get("source")
        source = index(sources, f"{LIST}, which cites {cited}" if cited else f"{LIST}, which cites no source")
        tiers, missing = tiers_of(row)
        found += [
            {"model": name, **label(type_, tier), **price, "source": source} for tier, price in tiers.items()
        ]
        notes += [f"{name} ({type_}): {what}." for what in missing]
    for name, (input_price, output_price, _) in CORRECTIONS.items():
        price = {"input": input_price, "output": output_price}
        found.append({"model": name, **price, "source": index(sources, OTHER_LISTS)})
    found = [dated for row in found for dated in dated_rows(row, index(sources, MAKERS))]
    fee = rows["azure/model-router"]
    cited = f"{LIST}, which cites {fee.get('source', 'no source')}"
    fees = [
        {"model": "model-router", "type": None, "tier": None, **prices(fee), "source": index(sources, cited)}
    ]
    return {
        "source": SOURCE,
        "date": DATE,
        "unit": "USD per 1M tokens",
        "notes": [
            "Third-party transcriptions of Azure's list: check them against your own contract and region.",
            "A row is for global deployments and the standard tier where it does not say otherwise.",
            "Nothing is derived: a type or tier without a row has no price here.",
            "Without a price of cached input or cache writes, that input costs as all input does.",
            "max_input: the list has a long-context price of the model, but none for this tier.",
            "model-router: the fee is flat, whatever the type, on top of the chosen model's price.",
            "Models that hear or speak are left out: their audio has another price than their text.",
            *(f"{name}: {reason}." for name, (_, _, reason) in CORRECTIONS.items()),
            *(f"{name} is left out: {reason}." for name, reason in LEFT_OUT.items()),
            *(
                f"{name}: the price began on {day}, by genai-prices 0.2.3."
                for name, (day, _) in CHANGES.items()
            ),
            "lacks_cached: the list leaves out what cached input costs; a call that has some has no price.",
            *notes,
        ],
        "sources": sources,
        "fees": fees,
        "rows": sorted(found, key=row_order),
    }


def listed(rows: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """The rows of text models: model, type of deployment, and the row. One for each model and type."""
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for prefix, type_ in TYPES.items():
        for key, row in rows.items():
            before, _, name = key.rpartition("/")
            if before != prefix or row.get("mode") not in MODES or name in LEFT_OUT or name == "model-router":
                continue
            if any("audio" in field for field in row) or "input_cost_per_token" not in row:
                continue
            sold = "regional" if type_ == "global" and name in CORRECTIONS else type_
            chosen.setdefault((name, sold), row)
    return [(name, type_, row) for (name, type_), row in chosen.items()]


def tiers_of(row: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The price of each service tier of one row, and what it has but in part."""
    tiers, missing = {}, []
    for suffix, tier in TIERS.items():
        price = prices(row, suffix)
        if "input" in price and "output" not in price and row["mode"] == "embedding":
            price["output"] = "0"
        if not price:
            continue
        if "input" not in price or "output" not in price:
            missing.append(f"no {tier} price, as the row lacks a part of it")
            continue
        longer = {name for name in price if name.startswith("above_") and name != "above_tokens"}
        if longer and not {"above_input", "above_output"} <= longer:
            raise SystemExit(f"half a long-context price: {row}")
        if longer and ("cached_input" in price) != ("above_cached_input" in price):
            if "cached_input" in price:
                raise SystemExit(f"a long-context price without cached input: {row}")
            missing.append(f"no {tier} price of cached input below the long context")
            price["lacks_cached"] = True
        if not longer and (limit := prices(row).get("above_tokens")):
            price["max_input"] = limit
        tiers[tier] = price
    return tiers, missing


def prices(row: dict[str, Any], suffix: str = "") -> dict[str, Any]:
    """The prices of one service tier in one row; those of a long context where it has them."""
    found: dict[str, Any] = {}
    for field, value in row.items():
        match = PRICE.fullmatch(field)
        if match is None or match[3] != suffix:
            continue
        name = FIELDS[match[1]]
        if match[2]:
            name = f"above_{name}"
            limit = int(match[2]) * 1000
            if found.setdefault("above_tokens", limit) != limit:
                raise SystemExit(f"two long-context tiers in one row: {row}")
        found[name] = f"{(Decimal(value) * 1_000_000).normalize():f}"
    return dict(sorted(found.items(), key=lambda item: FIELD_ORDER.index(item[0])))


def dated_rows(row: dict[str, Any], source: int) -> list[dict[str, Any]]:
    """A row with the day its price began, and the price before that where it is known."""
    base = VERSION.sub("", row["model"])
    day, before = CHANGES.get(base, (None, {}))
    if day is None:
        return [row]
    now = {"model": row["model"], "valid_from": day, **row}
    if "type" in row or "tier" in row:
        return [now]
    last = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
    return [{"model": row["model"], "valid_to": last, **before, "source": source}, now]


def label(type_: str, tier: str) -> dict[str, str]:
    """The type and the tier, where they are not the usual."""
    usual = {"type": "global", "tier": "standard"}
    return {name: value for name, value in {"type": type_, "tier": tier}.items() if value != usual[name]}


def index(texts: list[str], text: str) -> int:
    """Where ``text`` stands in ``texts``; it is added where it is new."""
    if text not in texts:
        texts.append(text)
    return texts.index(text)


def row_order(row: dict[str, Any]) -> tuple[str, ...]:
    return (row["model"], *(row.get(name, "") for name in ("type", "tier", "valid_from")))


# ── profiles ─────────────────────────────────────────────────────────────────────────────


def profile_table(rows: dict[str, Any]) -> dict[str, Any]:
    """The table of what models can do."""
    chosen = {name: row for name, row in global_rows(rows).items() if name not in LEFT_OUT}
    chosen["model-router"] = rows["azure/model-router"]
    chosen["o1-preview"] = rows["azure/us/o1-preview"]
    profiles = {name: profile_of(name, row) for name, row in chosen.items()}
    return {
        "source": PROFILE_SOURCE,
        "date": DATE,
        "unit": "tokens",
        "notes": [
            "context_window is the most input a call may have (the rows' max_input_tokens).",
            "The o-series takes no parallel tool calls (Azure's documentation of reasoning models).",
            "Chat variants of gpt-5 and later take sampling parameters, so they do not count as reasoning.",
            "o1-mini and o1-preview take no tools (same documentation).",
            "o1-preview: from the row of the US data zone, as there is no global one.",
            "A version has a line of its own only where it differs from its family.",
            "efforts are low, medium and high, and what the row says it supports beyond (none, minimal,",
            "xhigh, max); gpt-5, gpt-5-mini and gpt-5-nano take minimal (Azure's documentation).",
            "structured_output is supports_response_schema, surface is the row's mode.",
            "From gpt-5.4 on tools with reasoning need the responses API (public issue threads of 2026).",
            "Where a row does not say, a chat model takes tools, and takes none in parallel.",
        ],
        "models": {
            name: profile
            for name, profile in profiles.items()
            if profile != profiles.get(VERSION.sub("", name)) or not VERSION.search(name)
        },
    }


NEED_RESPONSES = re.compile(r"gpt-(5\.[4-9]|[6-9])")
"""From gpt-5.4 on chat completions refuse tools with reasoning (public issue threads of 2026)."""


def profile_of(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """What one model can do, in the fields of ``ModelProfile``."""
    o_series = name[0] == "o" and name[1].isdigit()
    chats = row["mode"] in ("chat", "responses")
    reasoning = (o_series or row.get("supports_reasoning", False)) and "chat" not in name
    tools = chats and row.get("supports_function_calling", True) and not name.startswith(NO_TOOLS)
    return {
        "context_window": row.get("max_input_tokens"),
        "max_output": row.get("max_output_tokens"),
        "tools": tools,
        "parallel_tools": tools and not o_series and row.get("supports_parallel_function_calling", False),
        "vision": row.get("supports_vision", False),
        "streaming": row["mode"] != "embedding",
        "reasoning": reasoning,
        "max_tokens_parameter": max_tokens_parameter(name),
        "structured_output": bool(row.get("supports_response_schema", False)),
        "surface": "responses" if row["mode"] == "responses" else "chat",
        "tools_need_responses": bool(NEED_RESPONSES.match(name)) and "chat" not in name,
        "efforts": efforts_of(name, row) if reasoning else [],
        "unsupported": list(NOT_FOR_REASONING) if reasoning else [],
    }


NOT_FOR_REASONING = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "max_tokens",
)
"""What reasoning models refuse (Azure's documentation of reasoning models)."""


def efforts_of(name: str, row: dict[str, Any]) -> list[str]:
    """The reasoning efforts a model takes, as far as its row says; low, medium and high all do."""
    efforts = ["low", "medium", "high"]
    minimal = name.startswith(("gpt-5-mini", "gpt-5-nano")) or re.fullmatch(r"gpt-5(-20.*)?", name)
    if row.get("supports_minimal_reasoning_effort", bool(minimal)):
        efforts.insert(0, "minimal")
    if row.get("supports_none_reasoning_effort"):
        efforts.insert(0, "none")
    return efforts + [word for word in ("xhigh", "max") if row.get(f"supports_{word}_reasoning_effort")]


def max_tokens_parameter(name: str) -> str:
    """``max_tokens`` for the models from before its successor."""
    old = name in ("gpt-4", "gpt-4-0613") or name.startswith(("gpt-35-turbo", "gpt-3.5-turbo", "gpt-4-32k"))
    return "max_tokens" if old else "max_completion_tokens"


if __name__ == "__main__":
    sys.exit(main())
