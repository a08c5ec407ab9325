"""``loom models``."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(metavar="TEXT", help="Only those with this in their name.")] = "",
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="Whose prices: azure-openai or openai.")
    ] = "azure-openai",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of them.")] = False,
) -> None:
    """List the models that are known, what each can do, and what it costs."""
    from loom_py.cli.listing import show_models

    show_models(pattern, provider, as_json=as_json)
