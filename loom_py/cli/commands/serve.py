"""``loom serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from loom_py.cli.options import ChangesOption, DeploymentOption, EndpointOption, LlmOption, yaml_files

app = typer.Typer()

_LIMITS = "Limits"
_SHARED = "Several processes"


@app.command()
def serve(
    agents: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="AGENT.yaml",
            help="The agents; without any, a bare model.",
            autocompletion=yaml_files,
        ),
    ] = None,
    llm: LlmOption = None,
    endpoint: EndpointOption = None,
    deployment: DeploymentOption = None,
    changes: ChangesOption = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on. One that others can reach needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8000,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who may call; see loom serve-key.")
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="A page's origin that may call. May be repeated."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A Host header to accept. May be repeated.")
    ] = None,
    events: Annotated[
        bool, typer.Option("--events/--no-events", help="Tell callers that ask of tools, policies and cost.")
    ] = True,
    public_metrics: Annotated[
        bool, typer.Option("--public-metrics", help="Open /metrics to all, where there are keys.")
    ] = False,
    log: Annotated[
        Literal["auto", "console", "json", "none"],
        typer.Option(help="On standard error; auto is console on a terminal, else json."),
    ] = "auto",
    max_concurrency: Annotated[
        int | None, typer.Option(min=1, help="Chats under way; one more gets 503.", rich_help_panel=_LIMITS)
    ] = None,
    max_body: Annotated[
        int | None,
        typer.Option(min=1, metavar="BYTES", help="Of a request's body.", rich_help_panel=_LIMITS),
    ] = None,
    request_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="For a whole answer.", rich_help_panel=_LIMITS)
    ] = None,
    drain_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="For answers under way to finish at the end.", rich_help_panel=_LIMITS
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.", rich_help_panel=_SHARED)] = 1,
    shared_state: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Redis, where keys' rates are counted for all processes.",
            rich_help_panel=_SHARED,
        ),
    ] = None,
    budget_ledger: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL", help="Where the money of keys is counted.", rich_help_panel=_SHARED),
    ] = None,
) -> None:
    """Serve agents over HTTP: OpenAI's API, a chat page, health and metrics.

    Any OpenAI client can talk to them. Ctrl-C or SIGTERM ends it once what is being answered is done.
    """
    from loom_py.cli.models import ModelFlags
    from loom_py.cli.serving import ServeRequest, serve_agents

    settings = {
        "host": host,
        "port": port,
        "keys_file": keys,
        "cors_origins": tuple(cors) if cors else None,
        "allowed_hosts": tuple(allowed_host) if allowed_host else None,
        "show_events": events,
        "public_metrics": public_metrics,
        "max_concurrency": max_concurrency,
        "max_body": max_body,
        "request_timeout": request_timeout,
        "drain_timeout": drain_timeout,
        "shared_state": shared_state,
        "budget_ledger": budget_ledger,
    }
    request = ServeRequest(
        files=tuple(agents or ()),
        flags=ModelFlags(llm, endpoint, deployment),
        changes=tuple(changes or ()),
        workers=workers,
        log=log,
        settings={name: value for name, value in settings.items() if value is not None},
    )
    raise typer.Exit(serve_agents(request))
