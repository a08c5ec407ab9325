"""``loom run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loom_py.cli.options import (
    ChangesOption,
    DeploymentOption,
    EndpointOption,
    LlmOption,
    StreamOption,
    yaml_files,
)

app = typer.Typer()


@app.command()
def run(
    agent: Annotated[
        Path, typer.Argument(metavar="AGENT.yaml", help="The agent.", autocompletion=yaml_files)
    ],
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="The question; without it, standard input.")
    ] = None,
    llm: LlmOption = None,
    endpoint: EndpointOption = None,
    deployment: DeploymentOption = None,
    changes: ChangesOption = None,
    stream: StreamOption = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="The response as a JSON object; with --stream every event, a line each."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the answer to FILE instead.")
    ] = None,
) -> None:
    """Ask an agent one question.

    The answer goes to standard output and nothing else does; the exit code tells how it went.
    """
    from loom_py.cli.models import ModelFlags
    from loom_py.cli.running import RunRequest, run_once

    request = RunRequest(
        path=agent,
        question=question,
        flags=ModelFlags(llm, endpoint, deployment),
        changes=tuple(changes or ()),
        stream=stream,
        as_json=as_json,
        output=output,
    )
    raise typer.Exit(run_once(request))
