"""YAML itself: places of mistakes, duplicate names, anchors, and what no file may do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loom_py.agent_file import FileProblem, check, load, load_all
from loom_py.errors import BuilderError, ConfigError

Write = Callable[..., Path]

GOOD = """\
kind: Agent
name: shop
llm: azure-openai:gpt-4o
"""


def one(path: Path) -> FileProblem:
    problems = check(path, env={})
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def test_a_good_file_has_no_problems(write: Write) -> None:
    assert check(write(GOOD)) == []


def test_a_mistake_in_the_syntax_is_told_with_line_and_column(write: Write) -> None:
    problem = one(write("kind: Agent\nname: [a, b\nllm: x\n"))
    assert (problem.line, problem.column) == (3, 4)
    assert problem.message.startswith("not YAML: ")


def test_a_tag_is_one_problem_and_not_two(write: Write) -> None:
    for value in ("!!python/object/apply:os.system [ls]", "!mine {a: 1}", "!mine x"):
        assert "is not known here" in one(write(f"kind: Agent\nllm: {value}\n")).message


def test_a_number_of_more_digits_than_python_writes_is_none(write: Write) -> None:
    for number in ("0x" + "f" * 6000, "9" * 6000):
        text = f"kind: Agent\nllm: {{provider: azure-openai, temperature: {number}}}\n"
        assert one(write(text)).message == "this is no int"


def test_a_tab_is_told_to_be_a_space(write: Write) -> None:
    problem = one(write("kind: Agent\nlimits:\n\tmax_turns: 3\n"))
    assert problem.line == 3
    assert problem.hint == "YAML is indented with spaces, not with tabs."


def test_a_variable_within_braces_is_told_to_stand_in_quotes(write: Write) -> None:
    problem = one(write("kind: Agent\nllm: {provider: azure-openai, api_key: ${KEY}}\n"))
    assert problem.line == 2
    assert problem.hint == "Within { } and [ ] a ${NAME} stands in quotes."


def test_a_name_that_is_given_twice_is_a_problem_at_its_second_place(write: Write) -> None:
    problem = one(write(f"{GOOD}name: other\n"))
    assert (problem.line, problem.column) == (4, 1)
    assert problem.message == "'name' is given twice, first in line 2"


def test_anchors_and_merges_are_filled_in_and_what_is_written_wins(write: Write) -> None:
    path = write(
        """\
        kind: Agent
        x-common: &common {max_turns: 3, max_tool_executions: 4}
        llm: azure-openai:gpt-4o
        limits:
          <<: *common
          max_turns: 9
        """
    )
    step = next(step for step in load(path, env={}).steps() if step.method == "with_limits")
    assert step.kwargs == {"max_turns": 9, "max_tool_executions": 4}


def test_a_mistake_in_an_alias_is_told_where_it_is_written(write: Write) -> None:
    problem = one(write(f"{GOOD}x-a: &a {{max_turns: 0}}\nlimits: *a\n"))
    assert (problem.line, problem.field) == (4, "limits.max_turns")


@pytest.mark.parametrize(
    ("written", "name"), [("no", "no"), ("2024-10-21", "2024-10-21"), ("1:30", "1:30"), ("y", "y")]
)
def test_what_yaml_1_1_would_turn_into_something_else_stays_text(
    write: Write, written: str, name: str
) -> None:
    assert load(write(f"kind: Agent\nname: {written}\nllm: azure-openai\n")).name == name


def test_an_api_version_needs_no_quotes(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, api_version: 2024-10-21}\n")
    assert load(path, env={}).steps()[0].kwargs == {"api_version": "2024-10-21"}


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [echo]",
        "!secret x",
        "!!binary aGk=",
        "!!set {a}",
        "!!timestamp 2024-01-01",
    ],
)
def test_a_tag_makes_no_object(write: Write, tag: str) -> None:
    problems = check(write(f"kind: Agent\nllm: azure-openai\nname: {tag}\n"))
    assert any("is not known here" in problem.message and problem.line == 3 for problem in problems)


def test_a_billion_laughs_are_few_and_quick(write: Write) -> None:
    lines = ["x-a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"x-a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = write("\n".join(["kind: Agent", *lines, ""]))
    began = time.perf_counter()
    assert "more than 20,000 values" in one(path).message
    assert time.perf_counter() - began < 5


def test_an_alias_within_what_it_stands_for_ends(write: Write) -> None:
    assert "nested deeper" in one(write("kind: Agent\nllm: &a [*a]\n")).message


def test_deep_nesting_ends(write: Write) -> None:
    assert "nested deeper" in one(write("[" * 100_000)).message


def test_a_huge_file_is_not_read(write: Write) -> None:
    problem = one(write(f"kind: Agent\nsystem_prompt: {'x' * 300_000}\n"))
    assert problem.message.endswith("an agent's file has at most 262,144")


def test_bytes_that_are_no_text_are_told_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"kind: Agent\nname: caf\xe9\n")
    problem = one(path)
    assert (problem.line, problem.column) == (2, 10)
    assert problem.message == "byte 0xe9 is not UTF-8"


def test_a_character_that_yaml_has_not_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"kind: Agent\nname: a\x07b\n")
    problem = one(path)
    assert (problem.line, problem.column, problem.message) == (
        2,
        8,
        "the character U+0007 may not stand in YAML",
    )


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(path).name == "shop"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "---\n---\n"])
def test_an_empty_file_says_how_to_begin(write: Write, text: str) -> None:
    problem = one(write(text))
    assert problem.message == "the file is empty"
    assert problem.hint is not None
    assert "kind: Agent" in problem.hint


@pytest.mark.parametrize("text", ["hello", "- a\n- b\n", "5"])
def test_a_file_that_is_no_mapping_is_told(write: Write, text: str) -> None:
    assert one(write(text)).message.startswith("an agent is described by a mapping, not by ")


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    assert one(tmp_path / "none.yaml").message == "there is no such file"
    assert one(tmp_path).message == "this is a folder"
    assert one(Path("/dev/zero")).message == "this is no regular file"


def test_the_text_of_a_file_is_not_taken_for_a_path() -> None:
    with pytest.raises(ConfigError, match="a path is wanted, not the text of a file"):
        load(GOOD)


def test_several_documents_are_several_agents(write: Write) -> None:
    path = write(f"{GOOD}---\n{GOOD.replace('shop', 'bank')}")
    agents = load_all(path)
    assert [(agent.name, agent.line) for agent in agents] == [("shop", 1), ("bank", 5)]
    assert check(path) == []
    with pytest.raises(BuilderError, match="holds 2 agents, and one is wanted"):
        load(path)


def test_two_agents_of_one_name_are_a_problem(write: Write) -> None:
    problem = one(write(f"{GOOD}---\n{GOOD}"))
    assert (problem.line, problem.message) == (5, "two agents are named 'shop', the first in line 1")


def test_the_good_documents_before_a_broken_one_are_checked_too(write: Write) -> None:
    problems = check(write("kind: Agent\nllm: azure-openai\nnam: x\n---\nkind: [\n"))
    assert [problem.line for problem in problems] == [3, 6]


def test_a_problem_is_printed_as_editors_read_it(write: Write) -> None:
    path = write(f"{GOOD}limits: {{max_turn: 3}}\n")
    assert str(one(path)) == (
        f"{path}:4:10: limits.max_turn: limits has no setting 'max_turn' → Did you mean 'max_turns'?"
    )
