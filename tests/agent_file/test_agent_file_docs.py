"""The YAML of the page on agents' files is what the page says it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from loom_py.agent_file import check, json_schema

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agent-files.md").read_text("utf-8")
BLOCKS = [
    text for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "8<" not in text
]


@pytest.mark.parametrize("text", BLOCKS)
def test_the_yaml_of_the_page_is_right(text: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text, "utf-8")
    assert [str(problem) for problem in check(path, env={})] == []
    Draft202012Validator(json_schema()).validate(yaml.safe_load(text))


def test_the_page_names_every_section() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert named == set(json_schema()["properties"]) - {"backends"}
