"""The package that ``docs/providers.md`` shows: built from the page, installed, found and used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"


def titled(title: str) -> str:
    """The code of the page's block with that title."""
    found = re.search(rf'```\w+ title="{re.escape(title)}"\n(.*?)```', PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None, title
    return found[1]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the package as pip leaves it: the module, and its ``dist-info``."""
    project = tomllib.loads(titled("pyproject.toml"))["project"]
    name, version = project["name"], project["version"]
    (tmp_path / "loom_parrot.py").write_text(titled("loom_parrot.py"), "utf-8")
    info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
    points = project["entry-points"]["loom_py.providers"]
    lines = ["[loom_py.providers]", *(f"{key} = {target}" for key, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    return tmp_path


def run(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, *arguments, "-c", code],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        encoding="utf-8",
    )


def test_the_package_is_found_and_used_as_the_page_says(installed: Path) -> None:
    code = titled("after pip install loom-parrot")
    done = run(code, installed, "-W", "error")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"# → (.*)", code)


def test_the_package_refuses_a_wrong_model_with_a_builder_error(installed: Path) -> None:
    code = "from loom_py import AgentBuilder\nAgentBuilder().with_llm('parrot:dodo').build()"
    done = run(code, installed)
    assert "BuilderError" in done.stderr
    assert "model: no parrot 'dodo' → Use 'grey' or 'macaw'." in done.stderr
