"""``loom config``: API keys, and where settings come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from loom_py.cli.options import ChangesOption, DeploymentOption, EndpointOption, LlmOption, yaml_files

app = typer.Typer(help="Keep API keys, and see where settings come from.", no_args_is_help=True)


def _names(incomplete: str) -> list[str]:
    return [name for name in ("azure-openai", "openai", "anthropic") if name.startswith(incomplete)]


NameArgument: Any = Annotated[
    str, typer.Argument(metavar="NAME", help="The provider the key is for.", autocompletion=_names)
]
FileOption: Any = Annotated[
    bool,
    typer.Option("--file", help="In a file only you can read, in place of the keyring. It is plain text."),
]
StoreOption: Any = Annotated[
    str | None, typer.Option("--store", metavar="PLACE", help="keyring, file, or file:PATH.")
]


@app.command("set-key")
def set_key(
    name: NameArgument,
    file: FileOption = False,
    store: StoreOption = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the key from standard input.")] = False,
) -> None:
    """Keep an API key. It is asked for without being shown; it is never an argument."""
    from loom_py.cli.keeping import set_key

    set_key(name, _place(file, store), stdin=stdin)


@app.command("get-key")
def get_key(
    name: NameArgument,
    file: FileOption = False,
    store: StoreOption = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the whole key.")] = False,
) -> None:
    """Show a key, masked: its first and last four characters, or of a short one nothing."""
    from loom_py.cli.keeping import get_key

    get_key(name, _place(file, store), reveal=reveal)


@app.command("list-keys")
def list_keys(
    file: FileOption = False,
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of names.")] = False,
) -> None:
    """List the names of all keys, and where they are kept."""
    from loom_py.cli.keeping import list_keys

    list_keys(_place(file, store), as_json=as_json)


@app.command("delete-key")
def delete_key(name: NameArgument, file: FileOption = False, store: StoreOption = None) -> None:
    """Forget a key."""
    from loom_py.cli.keeping import delete_key

    delete_key(name, _place(file, store))


@app.command()
def show(
    agent: Annotated[
        Path | None, typer.Argument(metavar="AGENT.yaml", help="The agent.", autocompletion=yaml_files)
    ] = None,
    llm: LlmOption = None,
    endpoint: EndpointOption = None,
    deployment: DeploymentOption = None,
    changes: ChangesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False,
) -> None:
    """Show every setting and where it comes from: flag, environment, file, keyring or default."""
    from loom_py.cli.models import ModelFlags
    from loom_py.cli.showing import show_settings

    show_settings(agent, ModelFlags(llm, endpoint, deployment), tuple(changes or ()), as_json=as_json)


def _place(file: bool, store: str | None) -> str | None:
    if file and store is not None:
        raise typer.BadParameter("--file and --store are two places for a key")
    return "file" if file else store
