"""The JSON schema for editors: it is published as the code has it, and judges as the code does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from loom_py.agent_file import check, json_schema

Write = Callable[..., Path]

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "schemas" / "agent.schema.json"
VALIDATOR = Draft202012Validator(json_schema())


def accepts(text: str) -> bool:
    return all(VALIDATOR.is_valid(document) for document in yaml.safe_load_all(text))


def test_it_is_a_schema_of_its_draft() -> None:
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(json_schema())


def test_what_is_published_is_what_the_code_says() -> None:
    written = PUBLISHED.read_text("utf-8")
    assert json.loads(written) == json_schema(), (
        "python -m loom_py.agent_file > docs/schemas/agent.schema.json"
    )
    printed = subprocess.run(
        [sys.executable, "-m", "loom_py.agent_file"], capture_output=True, encoding="utf-8", check=True
    )
    assert printed.stdout == written


def properties(schema: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every property in the schema."""
    if isinstance(schema, dict):
        for name, each in schema.get("properties", {}).items():
            yield f"{place}.{name}", each
        for name, each in schema.items():
            if name not in ("if", "const", "enum", "default"):
                yield from properties(each, f"{place}.{name}")
    elif isinstance(schema, list):
        for index, each in enumerate(schema):
            yield from properties(each, f"{place}[{index}]")


def test_every_field_is_described() -> None:
    found = list(properties(json_schema()))
    assert len(found) > 150
    assert [place for place, each in found if each is not False and not each.get("description")] == []


EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def test_it_accepts_the_examples() -> None:
    assert EXAMPLES
    for path in EXAMPLES:
        assert accepts(path.read_text("utf-8")), path.name


GOOD = [
    "llm: azure-openai:gpt-4o",
    "llm: {provider: azure-openai, deployment: a, max_tokens: '${N}'}",
    "llm: {provider: 'ollama:llama3.2', think: high}",
    "llm: {script: [hello]}",
    "llm: {script: {steps: [hello], repeat: true}}",
    "llm: azure-openai\nbackend: sqlite:///x.db",
    "llm: azure-openai\nbackend: [{url: sqlite:///x.db, include_tables: [a]}, {kind: graph, host: x}]",
    "llm: azure-openai\nresilience: {retries: true, hedging: {after_seconds: 1}, failover: [{model: b}]}",
    "llm: azure-openai\nresilience: {circuit_breakers: }",
    "llm: azure-openai\nbudget: [{usd: 0.5}, {usd: '0.5', per: day}]",
    "llm: azure-openai\nlimits: {max_turns: '${N:-3}'}\nx-anything: [1]",
]

BAD = [
    "llm: 5",
    "llm: {provider: azure-openai, endpont: x}",
    "llm: {script: [hello], temperature: 1}",
    "llm: azure-openai\nnam: x",
    "llm: azure-openai\nlimits: {max_turns: many}",
    "llm: azure-openai\nlimits: {max_turn: 3}",
    "llm: azure-openai\ntools: [a b]",
    "llm: azure-openai\nbackend: {url: sqlite:///x.db, max_row: 3}",
    "llm: azure-openai\nresilience: {hedging: {}}",
    "llm: azure-openai\nresilience: {retries: false}",
    "llm: azure-openai\nresilience: {load_balancing: {strategy: random}}",
    "llm: azure-openai\nresilience: {failover: [{deployment: b, foo: 1}]}",
    "llm: azure-openai\nbudget: {usd: [1]}",
]


@pytest.mark.parametrize("text", GOOD)
def test_it_accepts_what_the_code_accepts(write: Write, text: str) -> None:
    assert accepts(f"kind: Agent\n{text}\n")
    if "graph" not in text and "ollama" not in text:
        assert check(write(f"kind: Agent\n{text}\n"), env={"N": "3"}) == []


@pytest.mark.parametrize("text", BAD)
def test_it_refuses_what_the_code_refuses(write: Write, text: str) -> None:
    assert not accepts(f"kind: Agent\n{text}\n")
    assert check(write(f"kind: Agent\n{text}\n"), env={}) != []
