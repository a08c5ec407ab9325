"""``loom conformance``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def conformance(
    adapter: Annotated[
        str | None,
        typer.Argument(metavar="ADAPTER", help="azure, openai, scripted, …, or module:attribute of yours."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Ids to run, such as 'errors/*'. May be repeated."),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the results as JSON.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write them as JUnit XML.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the scenarios and run none.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="For each scenario.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Scenarios at a time.")] = 1,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of a table.")] = False,
) -> None:
    """Try a provider against every promise of the provider protocol, and print its scorecard.

    Exits with 0 if all that applies passed, with 1 if something failed.
    """
    from loom_py.conformance.__main__ import main

    given = [] if adapter is None else [adapter]
    for name, values in (("only", only or ()), ("json", [json]), ("junit", [junit]), ("timeout", [timeout])):
        given += [f"--{name}={value}" for value in values if value is not None]
    given += [f"--jobs={jobs}", *(["--list"] if list_only else []), *(["--plain"] if plain else [])]
    raise typer.Exit(main(given, program="loom conformance"))
