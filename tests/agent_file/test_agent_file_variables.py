"""``${NAME}`` in a file, and that nothing it stands for is ever shown."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loom_py.agent_file import check, load
from loom_py.errors import BuilderError

Write = Callable[..., Path]

SECRET = "sk-0123456789abcdef0123456789"


def prompt(write: Write, text: str, **env: str) -> Any:
    path = write(f"kind: Agent\nllm: azure-openai\nsystem_prompt: '{text}'\n")
    return load(path, env=env).steps()[-1].args[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "one"),
        ("a${A}b${A}", "aonebone"),
        ("${B:-two}", "two"),
        ("${EMPTY:-three}", "three"),
        ("${A:-four}", "one"),
        ("${B:-}x", "x"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$5 and $A", "$5 and $A"),
        ("$$$$", "$$"),
        ("${B:-${A}}", "one"),
        ("${B:-${C:-two}}", "two"),
        ("${B:-<${A}${A}>}", "<oneone>"),
        ("${B:-$$5}", "$5"),
    ],
)
def test_references_are_filled_in_as_a_shell_would(write: Write, text: str, expected: str) -> None:
    assert prompt(write, text, A="one", EMPTY="") == expected


def test_a_variable_that_is_set_but_empty_is_no_missing_one(write: Write) -> None:
    assert prompt(write, "[${EMPTY}]", EMPTY="") == "[]"


def test_what_a_variable_holds_is_neither_yaml_nor_a_reference(write: Write) -> None:
    text = "x\nname: evil # ${B} $$"
    assert prompt(write, "${A}", A=text) == text


def test_a_missing_variable_is_told_where_it_is_used(write: Write) -> None:
    path = write("kind: Agent\nllm: azure-openai\nsystem_prompt: ${NOT_THERE} and ${GONE}\n")
    problems = check(path, env={})
    assert [(each.line, each.column, each.message) for each in problems] == [
        (3, 16, "the environment has no variable NOT_THERE"),
        (3, 16, "the environment has no variable GONE"),
    ]
    assert problems[0].hint == "Set NOT_THERE, or give a default: ${NOT_THERE:-…}."


@pytest.mark.parametrize("text", ["${}", "${A", "${A-b}", "${1}", "${A B}", "${A:?no}"])
def test_what_is_no_reference_is_told(write: Write, text: str) -> None:
    path = write(f"kind: Agent\nllm: azure-openai\nsystem_prompt: '{text}'\n")
    problems = check(path, env={"A": "x"})
    assert len(problems) == 1
    assert "is no reference to a variable" in problems[0].message


def test_text_of_a_variable_becomes_the_number_that_is_wanted(write: Write) -> None:
    path = write(
        """\
        kind: Agent
        llm: {provider: azure-openai, api_key: "${DIGITS}", max_tokens: "${TOKENS:-100}"}
        resilience:
          retries: {max_attempts: "${N}", restart_streams: "${YES}"}
        """
    )
    llm, retries = load(path, env={"DIGITS": "12345678", "N": "2", "YES": "true"}).steps()
    assert llm.kwargs == {"api_key": "12345678", "max_tokens": 100}
    assert retries.kwargs == {"max_attempts": 2, "restart_streams": True}


def test_quoted_text_does_not_become_a_number(write: Write) -> None:
    path = write("kind: Agent\nllm: azure-openai\nlimits: {max_turns: '5'}\n")
    assert check(path)[0].message == "max_turns must be a whole number, not '5'"


def test_the_files_own_folder_is_a_variable(write: Write, tmp_path: Path) -> None:
    assert prompt(write, "${AGENT_DIR}/x") == f"{tmp_path}/x"


BROKEN = """\
kind: Agent
name: {name: "${SECRET}"}
llm:
  provider: azure-openai
  endpoint: ${SECRET}
  api_key: "${SECRET} with spaces"
  max_tokens: ${SECRET}
  prices: {gpt-4o: {input: "${SECRET}", output: 1}}
tools: ["${SECRET}", "${SECRET}:x"]
backend: postgresql://me:${SECRET}@host/db?nonsense=${SECRET}
output: ${SECRET}
system_prompt: {file: "${SECRET}"}
limits: {max_turns: "${SECRET}", on_limit: "${SECRET}"}
resilience:
  retries: {max_attempts: "${SECRET}", wait: "${SECRET}"}
  rate_limit: {tokens_per_minute: "${NUMBER}"}
  failover: ["${SECRET}", {endpoint: "${SECRET}", residency: {a: "${SECRET}"}}]
  load_balancing: {strategy: "${SECRET}"}
  shared_state: {url: "${SECRET}"}
budget: {usd: "${SECRET}", per: "${SECRET}"}
"""


def test_no_secret_is_in_any_message_repr_or_exception(write: Write) -> None:
    path = write(BROKEN)
    env = {"SECRET": SECRET, "NUMBER": "-77777777"}
    with pytest.raises(BuilderError) as caught:
        load(path, env=env)
    shown = "".join(traceback.format_exception(caught.value))
    assert len(caught.value.problems) > 15
    for text in (shown, repr(caught.value), repr(caught.value.problems), str(check(path, env=env))):
        assert SECRET not in text
        assert "77777777" not in text
    assert "${SECRET}" in shown


def test_a_secret_that_is_written_in_the_file_is_not_shown_either(write: Write) -> None:
    path = write(
        f"""\
        kind: Agent
        llm: {{provider: azure-openai, api_key: "{SECRET} x", endpoint: "https://u:{SECRET}@host"}}
        backend: "nonsense://u:{SECRET}@host/db"
        x-more: {{api_key: {SECRET}}}
        """
    )
    problems = check(path, env={})
    assert len(problems) >= 3
    assert SECRET not in str(problems)


def test_steps_show_no_values(write: Write) -> None:
    path = write(f"kind: Agent\nllm: {{provider: azure-openai, api_key: {SECRET}}}\n")
    agent = load(path, env={})
    assert SECRET not in repr(agent)
    assert repr(agent.steps()) == "(Step(with_azure_openai_llm(api_key=…)),)"
    assert agent.steps()[0].kwargs["api_key"] == SECRET
