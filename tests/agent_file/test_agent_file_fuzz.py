"""Whatever is in a file: an agent or problems, soon, and no other exception."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loom_py.agent_file import check, load_all
from loom_py.agent_file.sections import SECTIONS, TOP_LEVEL, azure_fields, deployment_fields, section
from loom_py.errors import BuilderError

NAMES = [
    *TOP_LEVEL,
    *azure_fields(),
    *deployment_fields(),
    *(place.rpartition(".")[2] for place in SECTIONS),
    *(name for place in SECTIONS for name in section(place).fields),
    *("provider", "url", "file", "script", "steps", "deployments", "deployment", "<<"),
]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.sampled_from(
        [
            "",
            "azure-openai",
            "azure-openai:a",
            "ollama",
            "a:b",
            "os:sep",
            "${HOME_}",
            "${",
            "$$",
            "sqlite://",
            "default",
        ]
    ),
    st.text(max_size=8),
)
NAME = st.one_of(st.sampled_from(NAMES), st.text(max_size=5))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=5),
    max_leaves=12,
)
RESILIENCE = {place.partition(".")[2]: section(place) for place in SECTIONS if "." in place}


def near(fields: Any) -> st.SearchStrategy[Any]:
    """A mapping of some of the names of ``fields`` to anything."""
    return st.dictionaries(st.sampled_from(sorted(fields)), VALUES, max_size=4)


AGENTS = st.fixed_dictionaries(
    {"kind": st.just("Agent"), "llm": near([*azure_fields(), "deployments", "provider"]) | VALUES},
    optional={
        "resilience": st.fixed_dictionaries(
            {}, optional={name: near(part.fields) | VALUES for name, part in RESILIENCE.items()}
        ),
        "budget": near(section("budget").fields) | VALUES,
        "limits": near(section("limits").fields) | VALUES,
        "backend": near(["kind", "url", "max_rows", "timeout", "include_tables", "name"]) | VALUES,
        "tools": VALUES,
        "system_prompt": VALUES,
        "name": VALUES,
        "output": VALUES,
    },
)


def agents_or_problems(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.yaml"
        path.write_bytes(data)
        began = time.perf_counter()
        problems = check(path, env={"HOME_": "x"})
        assert all(each.line >= 1 and each.column >= 1 and each.message for each in problems)
        if problems:
            with pytest.raises(BuilderError) as caught:
                load_all(path, env={"HOME_": "x"})
            assert caught.value.problems == tuple(problems)
        else:
            agents = load_all(path, env={"HOME_": "x"})
            assert all(agent.steps() and str(agent.describe()) for agent in agents)
        assert time.perf_counter() - began < 20


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
@example(b"\xff\xfe\x00")
@example(b'kind: Agent\n"\\uD800": "\\uD800"')
@example(b'"\\UFFFFFFFF"')
@example(b'"\\xZZ"')
@example(b"a: !!int x")
@example(b"? [a]: b")
@example(b"a: *b")
@example(b"%YAML 9.9\n---\na")
@example(b"kind: Agent\n<<: [1, {a: 2}]")
@example(b"9" * 5000)
def test_any_bytes(data: bytes) -> None:
    agents_or_problems(data)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=list("abk:{}[]-&*!|>'\"#%@`,? \n\t$~<=.0123"), max_size=60))
def test_any_text_that_looks_like_yaml(text: str) -> None:
    agents_or_problems(text.encode())


@settings(max_examples=60, deadline=None)
@given(AGENTS | st.dictionaries(NAME, VALUES, max_size=5))
def test_any_values_in_any_place(document: Any) -> None:
    agents_or_problems(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))
