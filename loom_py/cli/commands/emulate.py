"""``loom emulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loom_py.cli.options import yaml_files

app = typer.Typer()


@app.command()
def emulate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The resource as YAML or JSON: deployments, quotas, faults.",
            autocompletion=yaml_files,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8080,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a host that other machines can reach.")
    ] = False,
    deployment: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="A deployment and its model. May be repeated."),
    ] = None,
    key: Annotated[list[str] | None, typer.Option(help="An accepted key. May be repeated.")] = None,
    region: Annotated[str | None, typer.Option(help="The Azure region in the headers.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="What answers: echo, scripted:FILE, replay:FILE, upstream:URL, or a provider.",
        ),
    ] = None,
    cassette: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where an upstream is recorded.")
    ] = None,
    faults: Annotated[Path | None, typer.Option(metavar="FILE", help="A fault plan, as JSON.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON, a line each: first the endpoint, then every request.")
    ] = False,
) -> None:
    """Run an Azure OpenAI of your own on this machine, and watch what it is asked.

    It keeps quotas, fails as a fault plan says, and needs no network. Ctrl-C stops it.
    """
    from loom_py.cli.emulating import EmulateRequest
    from loom_py.cli.emulating import emulate as serve

    request = EmulateRequest(
        file=file,
        host=host,
        port=port,
        allow_remote=allow_remote,
        deployments=tuple(deployment or ()),
        keys=tuple(key or ()),
        region=region,
        engine=engine,
        cassette=cassette,
        faults=faults,
        as_json=as_json,
    )
    raise typer.Exit(serve(request))
