"""``loom demo``."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def demo() -> None:
    """Watch an agent answer questions over a real database.

    Offline, unless AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_DEPLOYMENT and AZURE_OPENAI_API_KEY are set: then
    the same agent talks to Azure.
    """
    from loom_py.cli.demo import run_demo
    from loom_py.cli.screen import out

    run_demo(out())
