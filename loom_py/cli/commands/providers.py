"""``loom providers``."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def providers(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of them.")] = False,
) -> None:
    """List the providers that can be asked for by name, where each comes from, and what is wrong with it."""
    from loom_py.cli.listing import show_providers

    raise typer.Exit(show_providers(as_json=as_json))
