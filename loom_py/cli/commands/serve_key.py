"""``loom serve-key``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

FileOption = Annotated[
    Path, typer.Option("--keys", metavar="FILE", help="The file of keys, for loom serve --keys.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Who it is: in logs and metrics.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]

DEFAULT = Path("serve-keys.json")


@app.callback()
def serve_key() -> None:
    """Keep the keys of those who may call a server. A file holds only their hashes."""


@app.command()
def add(
    name: NameArgument,
    file: FileOption = DEFAULT,
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    usd_per_day: Annotated[str | None, typer.Option(metavar="AMOUNT")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and print it: this once."""
    from loom_py.cli.serving import add_key

    add_key(
        file,
        name,
        requests=requests_per_minute,
        tokens=tokens_per_minute,
        usd=usd_per_day,
        as_json=as_json,
    )


@app.command(name="list")
def list_all(file: FileOption = DEFAULT, as_json: JsonOption = False) -> None:
    """Show who may call, and how much."""
    from loom_py.cli.serving import list_keys

    list_keys(file, as_json=as_json)


@app.command()
def remove(name: NameArgument, file: FileOption = DEFAULT) -> None:
    """Take a key back. A running server refuses it within a second."""
    from loom_py.cli.serving import remove_key

    remove_key(file, name)
