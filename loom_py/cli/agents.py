"""The agent a command works with: from its file, or from nothing but a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loom_py.cli.models import Chosen, ModelFlags, chosen_model, user_keys
from loom_py.errors import ConfigError

if TYPE_CHECKING:
    from loom_py.agent_file import AgentFile

__all__ = ["agent_file", "chosen_agent", "file_flags"]


def agent_file(path: Path, flags: ModelFlags, changes: Sequence[str] = ()) -> AgentFile:
    """The agent that the file describes; flags come before what it says. Raises `BuilderError`."""
    from loom_py.agent_file import load

    return load(path, keys=user_keys(), flags=file_flags(flags, changes))


def chosen_agent(path: Path | None, flags: ModelFlags, system: str | None, changes: Sequence[str]) -> Chosen:
    """The builder of the agent in the file ``path``; without one, of a bare model.

    ``system`` is a system prompt that replaces the file's. Raises `ConfigError`.
    """
    if path is None:
        if changes:
            raise ConfigError("--set changes an agent's file, and none is named", field="--set")
        chosen = chosen_model(flags)
        builder, label, source = chosen.builder, chosen.label, chosen.source
        is_demo = chosen.is_demo
    else:
        from loom_py.builder import AgentBuilder

        file = agent_file(path, flags, changes)
        builder, label, source, is_demo = file.apply(AgentBuilder()), file.name, str(path), False
    if system is not None:
        builder = builder.with_system_prompt(system)
    return Chosen(builder, label, source, is_demo)


def file_flags(flags: ModelFlags, changes: Sequence[str]) -> dict[str, Any]:
    """Flags as places of an agent's file. Raises `ConfigError` for a ``--set`` that is none."""
    places: Mapping[str, str | None] = {
        "llm": flags.llm,
        "llm.endpoint": flags.endpoint,
        "llm.deployment_id": flags.deployment,
    }
    given: dict[str, Any] = {place: value for place, value in places.items() if value is not None}
    for change in changes:
        place, equals, text = change.partition("=")
        if not equals or not place.strip():
            raise ConfigError(
                f"--set takes PLACE=VALUE, not {place!r}", hint="For example: --set llm.temperature=0"
            )
        given[place.strip()] = _value(text)
    return given


def _value(text: str) -> Any:
    """A value as a file has it: a number, ``true``, a list in brackets; anything else is text."""
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text
