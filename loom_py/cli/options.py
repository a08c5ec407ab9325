"""Options that several commands take, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "ChangesOption",
    "DeploymentOption",
    "EndpointOption",
    "LlmOption",
    "StreamOption",
    "yaml_files",
]


def yaml_files(incomplete: str) -> list[str]:
    """The YAML files and folders that ``incomplete`` may become, for the shell's completion."""
    folder, _, begun = incomplete.rpartition("/")
    found = []
    try:
        for each in sorted(Path(folder or ("/" if incomplete.startswith("/") else ".")).iterdir()):
            if each.name.startswith(begun) and (each.is_dir() or each.suffix in (".yaml", ".yml")):
                name = f"{folder}/{each.name}" if incomplete.rpartition("/")[1] else each.name
                found.append(f"{name}/" if each.is_dir() else name)
    except OSError:
        return []
    return found


def _providers(incomplete: str) -> list[str]:
    from loom_py.llm.registry import available_providers

    return [f"{name}:" for name in available_providers() if name.startswith(incomplete)]


_MODEL = "The model"

LlmOption: Any = Annotated[
    str | None,
    typer.Option(
        "--llm",
        metavar="PROVIDER:MODEL",
        help="Any provider, such as ollama:llama3.2.",
        rich_help_panel=_MODEL,
        autocompletion=_providers,
    ),
]
EndpointOption: Any = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL", help="The Azure OpenAI resource.", rich_help_panel=_MODEL),
]
DeploymentOption: Any = Annotated[
    str | None,
    typer.Option("--deployment", metavar="NAME", help="Its deployment.", rich_help_panel=_MODEL),
]
ChangesOption: Any = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PLACE=VALUE",
        help="Change a setting of the file, such as llm.temperature=0. May be repeated.",
    ),
]
StreamOption: Any = Annotated[
    bool | None,
    typer.Option("--stream/--no-stream", help="Show the answer while it comes, or when it is whole."),
]
