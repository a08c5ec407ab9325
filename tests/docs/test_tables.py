"""The tables of the pages say what the code does, and their links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import loom_py
from loom_py import AzureOpenAIConfig, Limits
from loom_py.llm import infer_model
from loom_py.llm.azure.config import ENVIRONMENT
from loom_py.resilience.breaker import BreakerConfig

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def rows(page: str, first_head: str) -> list[list[str]]:
    """The cells of the table whose head begins with ``first_head``."""
    lines = (DOCS / page).read_text("utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {first_head} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def code(cell: str) -> list[str]:
    """The words of a cell that are set as code."""
    return re.findall(r"`([^`]+)`", cell)


def test_the_models_of_the_azure_guide_are_those_that_are_inferred() -> None:
    table = rows("azure.md", "Deployment")
    assert len(table) >= 7
    for names, model in table:
        expected = code(model)[0] if code(model) else None
        assert {name: infer_model(name) for name in code(names)} == dict.fromkeys(code(names), expected)


def test_the_environment_of_the_azure_guide_is_what_is_read() -> None:
    assert [tuple(code(names)) for names, _ in rows("azure.md", "Variable")] == list(ENVIRONMENT.values())


def test_the_defaults_of_the_azure_guide_are_the_clients() -> None:
    told = {code(row[0])[0]: row[1].strip("`") for row in rows("azure.md", "Setting")}
    fields = AzureOpenAIConfig.model_fields
    for name in ("max_tokens", "temperature", "timeout"):
        assert float(told[name]) == fields[name].default
    assert told["api_version"] == fields["api_version"].default


def test_the_limits_and_breaker_settings_are_the_defaults() -> None:
    limits = {code(name)[0]: int(value) for name, value, _ in rows("agents.md", "Limit")}
    assert limits == {name: getattr(Limits(), name) for name in limits}
    assert len(limits) == 3
    told = {code(name)[0]: float(value) for name, value, _ in rows("circuit-breakers.md", "Setting")}
    assert told == dataclasses.asdict(BreakerConfig())


def test_the_reference_has_every_public_name_and_every_step_of_the_builder() -> None:
    shown = set(re.findall(r"^::: loom_py\.(\S+)", (DOCS / "reference.md").read_text("utf-8"), re.MULTILINE))
    steps = {f"AgentBuilder.{name}" for name in vars(loom_py.AgentBuilder) if not name.startswith("_")}
    names = set(loom_py.__all__) - {"__version__", "ContentPart"}
    assert (names | steps) - shown == set()


def test_the_links_of_the_readme_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
