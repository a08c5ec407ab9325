"""``loom doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loom_py.cli.options import ChangesOption, DeploymentOption, EndpointOption, LlmOption, yaml_files

app = typer.Typer()


@app.command()
def doctor(
    agent: Annotated[
        Path | None,
        typer.Argument(
            metavar="AGENT.yaml", help="Whose models; without it, your own.", autocompletion=yaml_files
        ),
    ] = None,
    llm: LlmOption = None,
    endpoint: EndpointOption = None,
    deployment: DeploymentOption = None,
    changes: ChangesOption = None,
    call: Annotated[
        bool, typer.Option("--call/--no-call", help="Ask for one short reply, which costs a few tokens.")
    ] = True,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="For each step.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object of all findings.")] = False,
) -> None:
    """Find out why a model does not answer: settings, DNS, TLS, credential, deployment, quota.

    Each step is tried in turn, and what is wrong comes with what to do. Exits with the code of
    the worst finding: 0 if nothing is in the way, 4 also for a deployment that throttles (429).
    """
    from loom_py.cli.agents import chosen_agent
    from loom_py.cli.doctor import examine_all
    from loom_py.cli.models import ModelFlags, no_model

    chosen = chosen_agent(agent, ModelFlags(llm, endpoint, deployment), None, tuple(changes or ()))
    if chosen.is_demo:
        raise no_model()
    raise typer.Exit(examine_all(chosen.builder, timeout=timeout, call=call, as_json=as_json))
