"""``loom validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loom_py.cli.options import yaml_files

app = typer.Typer()


@app.command()
def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|DIR", help="Agent files, or folders of them.", autocompletion=yaml_files
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of all problems.")] = False,
) -> None:
    """Find everything wrong with agent files, each problem with its line.

    Of a folder all YAML files with kind: Agent are checked, also in the folders in it. Exits with 1
    if anything is wrong. The modules that a file names are imported: check only files you trust.
    """
    from loom_py.cli.validating import validate_all

    raise typer.Exit(validate_all(paths, as_json=as_json))
