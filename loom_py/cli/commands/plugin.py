"""``loom plugin``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def plugin() -> None:
    """Write packages that bring further providers."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The provider's name, such as my-llm.")],
    folder: Annotated[Path, typer.Option("--in", metavar="DIR", help="Where to put it.")] = Path(),
) -> None:
    """Write a provider package loom-NAME that works and passes the conformance suite at once."""
    from loom_py.cli.screen import out, safe
    from loom_py.scaffold import PluginNames, new_plugin

    target = new_plugin(name, folder)
    names = PluginNames.of(name)
    console = out()
    for path in sorted(each for each in target.rglob("*") if each.is_file()):
        console.print(f"  {safe(str(path))}", style="dim", soft_wrap=True)
    console.print(
        f"{names.distribution} is written, and works as it is. Next:\n\n"
        f"  cd {safe(str(target))}\n"
        f"  pip install -e '.[test]'\n"
        f"  pytest\n"
        f"  loom conformance {names.module}.testing:{names.prefix}Adapter\n\n"
        "Then make it yours, room by room: README.md says what is where.",
        markup=False,
        soft_wrap=True,
    )
