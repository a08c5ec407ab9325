"""What ``loom providers``, ``loom models`` and ``loom prices`` show: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from loom_py.cli.exits import ExitCode
from loom_py.cli.screen import err, out, print_table, safe
from loom_py.cli.streams import write_json
from loom_py.errors import ConfigError
from loom_py.llm.models import family_of, resolve_model
from loom_py.llm.prices import ModelPrice, PriceRow, PriceTable
from loom_py.llm.profiles import UNKNOWN_PROFILE, ModelProfile, profile_for, profiled_models
from loom_py.llm.registry import PACKAGES, available_providers

__all__ = ["LISTS", "show_models", "show_prices", "show_providers"]

LISTS = {"azure-openai": PriceTable.bundled, "openai": PriceTable.openai}
"""The price lists that come along, by provider."""


def show_providers(*, as_json: bool) -> ExitCode:
    """Print every provider that can be asked for; `ExitCode.FAILED` if one of them is broken."""
    found = available_providers(load=True)
    missing = [name for name in PACKAGES if name not in found]
    if as_json:
        write_json([{**asdict(info), "installed": True} for info in found.values()])
    else:
        table = _table("provider", "from", "")
        for info in found.values():
            table.add_row(info.name, info.origin, Text(safe(info.error or "ready"), _style(info.error)))
        for name in missing:
            table.add_row(Text(name, "dim"), "", Text(f"pip install loom-{name}", "dim"))
        print_table(table)
    return ExitCode.FAILED if any(info.error for info in found.values()) else ExitCode.OK


def show_models(pattern: str, provider: str, *, as_json: bool) -> None:
    """Print what the models whose name holds ``pattern`` can do and cost. Raises `ConfigError` for none."""
    prices = _list(provider)
    names = [name for name in sorted({*profiled_models(), *prices.models}) if pattern.lower() in name]
    if not names:
        raise _unknown(pattern, sorted({*profiled_models(), *prices.models}))
    known = {name: (profile_for(name), prices.get(name)) for name in names}
    if as_json:
        write_json([_model(name, *facts) for name, facts in known.items()])
        return
    table = _table("model", "input", "output", "takes", "in", "out")
    _hold_figures(*table.columns[1:3], *table.columns[4:])
    for name, (profile, price) in known.items():
        money = ("?", "?") if price is None else (_usd(price.input), _usd(price.output))
        limits = (_count(profile.context_window), _count(profile.max_output))
        table.add_row(name, *limits, _abilities(profile), *money)
    print_table(table)
    err().print(
        Text(f"USD per million tokens by {provider}'s list of {prices.date}; ? is not known.", style="dim")
    )


def show_prices(model: str, provider: str | None, *, as_json: bool) -> None:
    """Print every listed price of ``model``. Raises `ConfigError` for a model that is in no list."""
    tables = {provider: _list(provider)} if provider else {name: make() for name, make in LISTS.items()}
    found = {name: rows for name, table in tables.items() if (rows := _rows(table, model))}
    if not found:
        raise _unknown(model, sorted({name for table in tables.values() for name in table.models}))
    if as_json:
        write_json([{"provider": name, **_row(row)} for name, rows in found.items() for row in rows])
        return
    for name, rows in found.items():
        table = _table("deployment", "tier", "input", "cached", "cache\nwrite", "output", "from\ninput of")
        _hold_figures(*table.columns[2:])
        for row in rows:
            for line in _lines(row):
                table.add_row(*line)
        table.title = f"{rows[0].model} · {name} · USD per million tokens"
        table.title_justify = "left"
        print_table(table)
        for source in dict.fromkeys(f"{row.source} ({row.date})" for row in rows):
            out().print(Text(f"  {source}", style="dim"), soft_wrap=True)


def _rows(table: PriceTable, model: str) -> Sequence[PriceRow]:
    names = dict.fromkeys(
        name.lower() for name in (model.strip(), resolve_model(model), family_of(model)) if name
    )
    for name in names:
        if rows := [row for row in table.rows if row.model.lower() == name]:
            return rows
    return []


def _lines(row: PriceRow) -> Iterable[Sequence[str]]:
    """A row of the list, and below it what a long context costs."""
    price = row.price
    until = "" if row.max_input is None else f"at most {row.max_input:,}"
    yield (
        row.type or "all",
        row.tier or "all",
        _usd(price.input),
        "?" if row.lacks_cached else _usd(price.cached_input),
        _usd(price.cache_write),
        _usd(price.output),
        until,
    )
    if price.above_tokens is not None:
        above = (price.above_input, price.above_cached_input, price.above_cache_write, price.above_output)
        yield ("", "", *map(_usd, above), f"{price.above_tokens:,}")


def _list(provider: str) -> PriceTable:
    if provider not in LISTS:
        raise ConfigError(
            f"no price list of {provider!r}",
            field="provider",
            hint=f"There are those of {' and '.join(LISTS)}; a plugin has its own prices.",
        )
    return LISTS[provider]()


def _unknown(model: str, known: Sequence[str]) -> ConfigError:
    close = get_close_matches(model.lower(), known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]}?" if close else "loom models lists them."
    return ConfigError(f"no model {model!r} is listed", field="model", hint=hint)


def _model(name: str, profile: ModelProfile, price: ModelPrice | None) -> dict[str, Any]:
    money = None if price is None else {"input": str(price.input), "output": str(price.output)}
    is_known = profile != UNKNOWN_PROFILE
    return {"model": name, "profile": asdict(profile) if is_known else None, "usd_per_million": money}


def _row(row: PriceRow) -> Mapping[str, Any]:
    return {name: value for name, value in asdict(row).items() if value is not None}


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", min_width=6)
    return table


def _hold_figures(*columns: Column) -> None:
    """Where the screen is narrow, figures are not cut: half a price would be another price."""
    for column in columns:
        column.justify, column.no_wrap = "right", True


def _style(error: str | None) -> str:
    return "bold red" if error else "green"


def _abilities(profile: ModelProfile) -> str:
    """What a model takes and does, in words; "json" is output that keeps to a schema."""
    if profile == UNKNOWN_PROFILE:
        return "?"
    has = {
        "tools": profile.tools,
        "images": profile.vision,
        "json": profile.structured_output,
        "thinks": profile.reasoning,
    }
    return " ".join(word for word, is_so in has.items() if is_so)


def _count(tokens: int | None) -> str:
    """So many tokens, short: ``16K``, ``1.05M``."""
    if tokens is None:
        return "?"
    if tokens >= 1_000_000:
        return f"{round(tokens / 1_000_000, 2):g}M"
    return f"{round(tokens / 1000):g}K" if tokens >= 1000 else str(tokens)


def _usd(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:f}"
