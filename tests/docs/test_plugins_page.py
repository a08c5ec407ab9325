"""The commands of ``docs/plugins.md``, in order, as its reader would type them, but without a network."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index", "-q"]


def commands() -> list[list[str]]:
    found = re.search(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return [shlex.split(line) for line in found[1].splitlines()]


def test_the_tutorial_s_commands_lead_to_a_green_scorecard(tmp_path: Path) -> None:
    folder, site, told = tmp_path, tmp_path / "site", ""
    environment = {**os.environ, "PYTHONPATH": str(site), "NO_COLOR": "1", "COLUMNS": "100"}
    for program, *arguments in commands():
        if program == "cd":
            folder = folder / arguments[0]
            continue
        if program == "pip":
            assert arguments == ["install", "-e", ".[test]"]
            command = ["-m", "pip", "install", *OFFLINE, "--target", str(site), "."]
        else:
            command = ["-m", {"loom": "loom_py.cli"}.get(program, program), *arguments]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told += done.stdout
    assert "loom-house is written" in told
    assert "5 passed" in told
    assert re.search(r"house: 109 passed,? of 109", told)


def test_the_page_shows_the_files_that_are_written(tmp_path: Path) -> None:
    from loom_py.scaffold import new_plugin

    new_plugin("house", tmp_path)
    written = {path.name for path in (tmp_path / "loom-house").rglob("*") if path.is_file()}
    tree = re.search(r"```text\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert tree is not None
    shown = set(re.findall(r"([\w]+\.(?:py|toml|md))\b", tree[1]))
    assert shown == written - {"py.typed"}


def test_every_package_of_the_project_is_on_the_page() -> None:
    packages = {path.parent.name for path in PAGE.parents[1].glob("plugins/*/pyproject.toml")}
    assert packages <= set(re.findall(r"`(loom-[\w-]+)`", PAGE.read_text("utf-8")))
