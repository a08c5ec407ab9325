"""What ``loom validate`` does: all problems of all files, for people or as JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from loom_py.cli.exits import ExitCode
from loom_py.cli.failures import masked_secrets
from loom_py.cli.screen import err, out, safe
from loom_py.cli.streams import write_json
from loom_py.errors import ConfigError

if TYPE_CHECKING:
    from loom_py.agent_file import FileProblem

__all__ = ["agent_files", "validate_all"]

SUFFIXES = (".yaml", ".yml")
_AGENT = re.compile(rb"^[\"']?kind[\"']?\s*:\s*[\"']?agent\b", re.MULTILINE | re.IGNORECASE)
_BEGINNING = 65_536
"""Bytes of a file in a folder that are looked at for ``kind: Agent``."""


def validate_all(paths: Sequence[Path], *, as_json: bool) -> ExitCode:
    """Check all files and print what is wrong; `ExitCode.FAILED` if anything is.

    Raises `ConfigError` where there is nothing to check.
    """
    from loom_py.agent_file import check

    files = list(dict.fromkeys(file for path in paths for file in agent_files(path)))
    problems = {file: check(file) for file in files}
    found = [problem for each in problems.values() for problem in each]
    if as_json:
        write_json([_plain(each) for each in found])
    else:
        for problem in found:
            _show(problem)
        _summarise(len(files), len(found), sum(map(bool, problems.values())))
    return ExitCode.FAILED if found else ExitCode.OK


def agent_files(path: Path) -> list[Path]:
    """The file itself; of a folder, the agents' files in it. Raises `ConfigError` where there are none."""
    if not path.is_dir():
        if not path.exists():
            raise ConfigError(f"there is no file {path}")
        return [path]
    found = sorted(each for each in _yaml_files(path) if _is_agent(each))
    if not found:
        raise ConfigError(
            f"no agent's file in {path}", hint="Files end in .yaml or .yml and have the line kind: Agent."
        )
    return found


def _yaml_files(folder: Path) -> Iterator[Path]:
    """All YAML files below ``folder``, without those of hidden folders; links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in names if Path(name).suffix.lower() in SUFFIXES)


def _is_agent(file: Path) -> bool:
    """Whether it says so; one that cannot be read is let through, so that it is told of."""
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return _AGENT.search(stream.read(_BEGINNING)) is not None
    except OSError:
        return True


def _show(problem: FileProblem) -> None:
    place = f"{problem.path}:{problem.line}:{problem.column}"
    field = f"{problem.field}: " if problem.field and problem.field not in problem.message else ""
    message = safe(masked_secrets(f"{field}{problem.message}"))
    out().print(Text.assemble((f"{place}: ", "bold"), message), soft_wrap=True)
    if problem.hint:
        out().print(Text(f"  {safe(masked_secrets(problem.hint))}", style="dim"), soft_wrap=True)


def _summarise(files: int, problems: int, wrong: int) -> None:
    checked = f"{files} file{'' if files == 1 else 's'} checked"
    if problems:
        told = f"{problems} problem{'' if problems == 1 else 's'} in {wrong}"
        err().print(Text(f"{checked}, {told}", style="bold red"))
    else:
        err().print(Text(f"{checked}, nothing wrong", style="green"))


def _plain(problem: FileProblem) -> dict[str, Any]:
    return {
        "path": str(problem.path),
        "line": problem.line,
        "column": problem.column,
        "field": problem.field,
        "message": masked_secrets(problem.message),
        "hint": problem.hint and masked_secrets(problem.hint),
    }
