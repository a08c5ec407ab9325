"""``loom prices``."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def prices(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Such as gpt-4o or gpt-4.1-mini-2025-04-14.")],
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the list of azure-openai, or of openai.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of the rows.")] = False,
) -> None:
    """Show every listed price of a model, with its source and date."""
    from loom_py.cli.listing import show_prices

    show_prices(model, provider, as_json=as_json)
