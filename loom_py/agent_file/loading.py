"""Loading and checking the files of agents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loom_py.agent_file.context import Context
from loom_py.agent_file.expansion import expanded
from loom_py.agent_file.fields import is_secret
from loom_py.agent_file.file import AgentFile, Keys
from loom_py.agent_file.imports import importable
from loom_py.agent_file.nodes import FLAG, Node
from loom_py.agent_file.problems import FileProblem, Problems
from loom_py.agent_file.reading import agent_of
from loom_py.errors import ConfigError, MissingDependencyError

__all__ = ["check", "load", "load_all"]

AGENT_DIR = "AGENT_DIR"
"""The variable that stands for the file's own folder in ``${AGENT_DIR}``."""


def load(
    path: str | os.PathLike[str],
    *,
    keys: Keys | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> AgentFile:
    """The agent that the file ``path`` describes.

    Arguments:
        path: the file; it holds one document.
        keys: asked last for the API key of a provider, by the provider's name.
        env: the environment, ``os.environ`` by default.
        flags: settings that come before all others, by their place: ``{"llm.temperature": 0}``.

    Modules that the file names are imported, those in its folder first. Nothing connects. Raises
    `BuilderError` with every problem, each a `FileProblem`, and `MissingDependencyError` without the
    extra ``yaml``.
    """
    reading = _read(path, keys, env, flags)
    if len(reading.agents) > 1:
        second = reading.agents[1]
        message = f"the file holds {len(reading.agents)} agents, and one is wanted"
        reading.problems.at(second.line, 1, message, "Load them all with load_all, or keep one.")
    if reading.problems.found:
        raise reading.problems.error()
    return reading.agents[0]


def load_all(
    path: str | os.PathLike[str],
    *,
    keys: Keys | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> list[AgentFile]:
    """The agents that the documents of the file ``path`` describe, at least one, as `load` does.

    Their names must differ. ``flags`` hold for each.
    """
    reading = _read(path, keys, env, flags)
    if reading.problems.found:
        raise reading.problems.error()
    return reading.agents


def check(
    path: str | os.PathLike[str],
    *,
    keys: Keys | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> list[FileProblem]:
    """Everything that is wrong with the file ``path``, in the order of its lines; empty if nothing is.

    Takes what `load` takes. A file of several documents is fine. What a running agent takes from
    elsewhere, such as a key, may be missing. Raises `MissingDependencyError` without the extra ``yaml``.
    """
    return _read(path, keys, env, flags).problems.sorted()


@dataclass(slots=True)
class _Reading:
    problems: Problems
    agents: list[AgentFile] = field(default_factory=list)


def _read(
    path: str | os.PathLike[str],
    keys: Keys | None,
    env: Mapping[str, str] | None,
    flags: Mapping[str, Any] | None,
) -> _Reading:
    documents = _parser()
    file = _checked_path(path)
    reading = _Reading(Problems(file))
    problems = reading.problems
    data = _bytes(file, problems)
    if data is None:
        return reading
    roots = documents(data, problems)
    if not roots and not problems.found:
        problems.at(1, 1, "the file is empty", "Begin with kind: Agent, then name, llm and tools.")
    folder = file.absolute().parent
    environment = os.environ if env is None else env
    own = {AGENT_DIR: str(folder)}
    with importable(folder):
        for root in roots:
            whole = _with_flags(expanded(root, environment, problems, own), flags or {}, problems)
            ctx = Context(file, folder, environment, keys, problems)
            reading.agents.append(agent_of(ctx, whole))
    _check_names(reading)
    return reading


def _parser() -> Any:
    try:
        from loom_py.agent_file.yaml_text import documents
    except ModuleNotFoundError as exc:
        if exc.name != "yaml":
            raise
        raise MissingDependencyError(
            "agents as YAML need the package PyYAML", hint="pip install 'loom-py[yaml]'"
        ) from None
    return documents


def _checked_path(path: object) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigError(f"a path is wanted, not {type(path).__name__}", field="path")
    if "\n" in str(path):
        raise ConfigError(
            "a path is wanted, not the text of a file", field="path", hint="Write the text to a file first."
        )
    return Path(path)


def _bytes(file: Path, problems: Problems) -> bytes | None:
    try:
        if file.is_dir():
            problems.at(1, 1, "this is a folder", "Name a file in it.")
        elif not file.exists():
            problems.at(1, 1, "there is no such file")
        elif not file.is_file():
            problems.at(1, 1, "this is no regular file")
        else:
            return file.read_bytes()
    except (OSError, ValueError) as exc:  # ValueError: a null character in the name
        problems.at(1, 1, f"the file cannot be read: {getattr(exc, 'strerror', None) or exc}")
    return None


def _with_flags(root: Node, flags: Mapping[str, Any], problems: Problems) -> Node:
    """``root`` with what the flags say in its place."""
    if not isinstance(root.value, Mapping):
        return root
    for place, value in flags.items():
        names = tuple(place.split("."))
        if not all(names):
            raise ConfigError(f"{place!r} is no place in a file", field="flags", hint="Write llm.model.")
        if names[0] == "llm" and len(names) > 1:
            root = _with_llm_mapping(root)
        if is_secret(place) and isinstance(value, str):
            problems.hide(value)
        if (obstacle := _obstacle(root, names)) is not None:
            _refuse(place, obstacle, problems)
            continue
        given = _flag(value, place, root)
        root = root.with_entry(names, given)
    return root


def _obstacle(root: Node, names: tuple[str, ...]) -> Node | None:
    """What stands on the way to the place that ``names`` lead to, and would be lost: a list, or a value."""
    node = root
    for depth, name in enumerate(names[:-1], 1):
        entry = node.entries.get(name)
        if entry is None:
            return None
        if not isinstance(entry.value, Mapping) and not _takes_entries(entry):
            return replace(entry, path=".".join(names[:depth]))
        node = entry
    return None


def _takes_entries(node: Node) -> bool:
    """Whether nothing is lost when entries take its place: it is empty, or switches on the defaults."""
    return node.value is None or node.value is True or node.value == ()


def _refuse(place: str, obstacle: Node, problems: Problems) -> None:
    if obstacle.is_broken:
        return  # which has been reported
    kind = "false" if obstacle.value is False else obstacle.kind
    message = f"{obstacle.path} is {kind} here, and {place} has no place in it"
    whole = f"{obstacle.path}={'[…]' if isinstance(obstacle.value, tuple) else '…'}"
    problems.add(obstacle, message, f"Replace it whole: --set '{whole}'.")


def _with_llm_mapping(root: Node) -> Node:
    """``root`` with its ``llm: name:model`` written out, so that one setting of it can be replaced."""
    llm = root.entries.get("llm")
    if llm is None or not isinstance(llm.value, str):
        return root
    name, colon, model = llm.value.partition(":")
    entries = {"provider": replace(llm, value=name, path="llm.provider")}
    if colon:
        entries["model"] = replace(llm, value=model, path="llm.model")
    written_out = replace(llm, value=entries, variables=(), is_filled=False)
    return replace(root, value={**root.entries, "llm": written_out})


def _flag(value: Any, path: str, root: Node) -> Node:
    """A flag's value as a node at the place it belongs to."""
    near = root
    for name in path.split("."):
        near = near.entries.get(name, near)
    line, column = near.line, near.column

    def made(given: Any, place: str) -> Node:
        if isinstance(given, Mapping):
            entries = {str(name): made(each, f"{place}.{name}") for name, each in given.items()}
            return Node(entries, line, column, place, source=FLAG)
        if isinstance(given, (list, tuple)):
            items = tuple(made(each, f"{place}[{index}]") for index, each in enumerate(given))
            return Node(items, line, column, place, source=FLAG)
        is_scalar = given is None or isinstance(given, (bool, int, float, str))
        return Node(given if is_scalar else str(given), line, column, place, source=FLAG)

    return made(value, path)


def _check_names(reading: _Reading) -> None:
    first: dict[str, int] = {}
    for agent in reading.agents:
        if agent.name in first:
            where = first[agent.name]
            message = f"two agents are named {agent.name!r}, the first in line {where}"
            reading.problems.at(agent.line, 1, message, "Give each a name of its own.")
        first.setdefault(agent.name, agent.line)
