"""What answers in an emulator, named by a word: for command lines and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from loom_py.emulator.script_file import load_script
from loom_py.llm.provider import LLMProvider

if TYPE_CHECKING:
    from loom_py.emulator.upstream import AzureUpstream

__all__ = ["ENGINES", "engine_of"]

ENGINES = (
    "echo, scripted:FILE.json, replay:FILE, upstream:URL (its key from AZURE_OPENAI_API_KEY) or a provider"
)


def engine_of(spec: str, cassette: Path | None = None) -> LLMProvider | AzureUpstream | None:
    """The engine that ``spec`` names; ``None`` for the echo. An upstream is recorded in ``cassette``.

    Raises `ConfigError` for a script that cannot be read and a provider that there is not.
    """
    if spec == "echo":
        return None
    kind, _, path = spec.partition(":")
    if kind == "scripted":
        return load_script(Path(path))
    if kind in {"upstream", "replay"}:
        from loom_py.emulator.upstream import AzureUpstream

        if kind == "replay":
            return AzureUpstream(replay=path, match="best")
        return AzureUpstream(path, api_key=os.environ.get("AZURE_OPENAI_API_KEY"), cassette=cassette)
    from loom_py.llm.registry import create_provider

    return create_provider(spec)
