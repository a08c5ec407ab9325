"""``loom chat``."""

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
def chat(
    agent: Annotated[
        Path | None, typer.Argument(metavar="AGENT.yaml", help="The agent.", autocompletion=yaml_files)
    ] = None,
    llm: LlmOption = None,
    endpoint: EndpointOption = None,
    deployment: DeploymentOption = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="The system prompt.")] = None,
    changes: ChangesOption = None,
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="The session's id, for logs and budgets.")
    ] = None,
    stream: StreamOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: responses, or with --stream every event.")
    ] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="From a pipe: each line is a question, not the whole.")
    ] = False,
    history: Annotated[
        bool | None, typer.Option("--history/--no-history", help="Remember the questions for the next time.")
    ] = None,
) -> None:
    """Talk with an agent, or with a model.

    Without a file it is the model of --llm, of --endpoint and --deployment, of LOOM_LLM, of your
    settings, or of AZURE_OPENAI_ENDPOINT; with none of these, an offline demo.

    Questions from a pipe are answered without a prompt: printf 'Hello' | loom chat
    """
    from loom_py.cli.chatting import ChatRequest, chat_with
    from loom_py.cli.models import ModelFlags

    request = ChatRequest(
        path=agent,
        flags=ModelFlags(llm, endpoint, deployment),
        system=system,
        changes=tuple(changes or ()),
        session=session,
        stream=stream,
        as_json=as_json,
        lines=lines,
        history=history,
    )
    raise typer.Exit(chat_with(request))
