"""Packages that ``loom plugin new`` writes: they install, pass their own tests, and are well kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loom_py.errors import ConfigError
from loom_py.scaffold import PluginNames, new_plugin

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "loom_py" / "scaffold" / "template"


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["house", "acme-2-llm"])
def test_a_new_package_installs_and_passes_its_own_tests(name: str, tmp_path: Path) -> None:
    folder = new_plugin(name, tmp_path)
    site = tmp_path / "site"
    install = ("-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "-q")
    run(*install, "--target", str(site), str(folder), cwd=tmp_path)
    told = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, PYTHONPATH=str(site))
    assert "5 passed" in told


def test_nothing_of_the_template_s_name_is_left(tmp_path: Path) -> None:
    folder = new_plugin("house", tmp_path)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"pyproject.toml", "README.md", "provider.py", "py.typed"}
    assert len(files) == len(
        [path for path in TEMPLATE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    )
    for path in files:
        assert "acme" not in path.name
        assert "acme" not in path.read_text("utf-8").lower(), path


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("My_LLM", ("my-llm", "loom-my-llm", "loom_my_llm", "MyLlm", "MY_LLM")),
        ("loom-x9", ("x9", "loom-x9", "loom_x9", "X9", "X9")),
    ],
)
def test_names_are_made_of_one(given: str, wanted: tuple[str, ...]) -> None:
    names = PluginNames.of(given)
    assert (names.provider, names.distribution, names.module, names.prefix, names.variable) == wanted


@pytest.mark.parametrize(
    "name", ["", "9lives", "a b", "../up", "größe", "class", "-x", "a--b", "a" * 99, "x/y"]
)
def test_what_is_no_name_is_refused_and_nothing_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be a plugin's name"):
        new_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "loom-house").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        new_plugin("house", tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        new_plugin("house", tmp_path / "nowhere")
