"""Backends by kind: the built-in one, and those that packages offer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loom_py.agent_file import check, load
from loom_py.backends import SQLBackend
from loom_py.backends.registry import GROUP, available_backends, create_backend, load_backend
from loom_py.errors import ConfigError

Install = Callable[..., None]

NOTES = """
from loom_py.backends import BaseBackend, QueryResult, Resource, Schema


class NotesBackend(BaseBackend):
    name = "notes"

    def __init__(self, folder: str, limit: int = 10):
        if limit < 1:
            raise ValueError("limit must be above 0")
        self.folder, self.limit = folder, limit

    def execute_query(self, query, *, parameters=None, limit=None, offset=0):
        return QueryResult()

    def get_schema(self, resource):
        return Schema(resource)

    def list_resources(self, filters=None):
        return []


def nothing(**settings):
    return "no backend"


text = "not callable"
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install the package ``loom-notes`` with these entry points."""

    def install(*lines: str, source: str = NOTES) -> None:
        info = tmp_path / "site" / "loom_notes-2.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loom-notes\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
        (info.parent / "loom_notes.py").write_text(source)
        monkeypatch.syspath_prepend(info.parent)

    yield install
    sys.modules.pop("loom_notes", None)


def test_sql_is_built_in() -> None:
    assert available_backends()["sql"].distribution == "loom-py"
    assert load_backend("SQL") is SQLBackend
    backend = create_backend("sql", url="sqlite://", max_rows=3)
    assert isinstance(backend, SQLBackend)
    assert backend.max_rows == 3
    backend.close()


def test_a_package_offers_a_kind(install: Install) -> None:
    install("notes = loom_notes:NotesBackend")
    assert available_backends()["notes"].origin == "loom-notes 2.0"
    assert create_backend("notes", folder="a").name == "notes"


def test_an_unknown_kind_is_told_with_its_like_or_its_package() -> None:
    with pytest.raises(ConfigError, match="no backend of kind 'sqll'; installed: ") as near:
        load_backend("sqll")
    assert near.value.hint == "Did you mean 'sql'?"
    with pytest.raises(ConfigError) as far:
        load_backend("graph")
    assert far.value.hint == "Install the package that offers it; by custom it is called loom-graph."


@pytest.mark.parametrize(
    ("line", "settings", "message"),
    [
        ("notes = loom_notes:NotesBackend", {}, "backend 'notes' refuses its settings: TypeError: .*folder"),
        ("notes = loom_notes:NotesBackend", {"folder": "a", "limit": 0}, "limit must be above 0"),
        ("notes = loom_notes:nothing", {}, "returned no backend but str"),
        ("notes = loom_notes:text", {}, "names no factory but str"),
        ("notes = loom_notes:missing", {}, r"\(loom-notes 2.0\) cannot be loaded: AttributeError"),
        ("notes = not_there:x", {}, "cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_what_is_broken_is_told_as_a_mistake_of_configuration(
    install: Install, line: str, settings: dict[str, object], message: str
) -> None:
    install(line)
    with pytest.raises(ConfigError, match=message):
        create_backend("notes", **settings)


def test_an_agents_file_takes_a_packages_backend(install: Install, tmp_path: Path) -> None:
    install("notes = loom_notes:NotesBackend")
    path = tmp_path / "agent.yaml"
    path.write_text("kind: Agent\nllm: azure-openai\nbackend: {kind: notes, folder: here, limit: 3}\n")
    step = load(path, env={}).steps()[-1]
    assert (step.method, step.args[0].limit) == ("with_backend", 3)
    path.write_text("kind: Agent\nllm: azure-openai\nbackend: {kind: notes, folder: 5, limits: 3}\n")
    assert [problem.message for problem in check(path, env={})] == [
        "folder must be text, not 5",
        "a backend of kind 'notes' has no setting 'limits'",
    ]
