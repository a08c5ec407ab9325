"""Import paths: found beside the file, and nothing left behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loom_py import AgentBuilder
from loom_py.agent_file import check, load

Write = Callable[..., Path]

TOOLS = """\
from loom_py import tool
from pydantic import BaseModel

@tool
def stock(product: str) -> int:
    '''How many are left.'''
    return 12

@tool
def price(product: str) -> float:
    '''What it costs.'''
    return 1.5

def plain(number: int) -> int:
    '''Twice.'''
    return 2 * number

class Order(BaseModel):
    product: str

class Shop:
    @staticmethod
    def close(hour: int) -> str:
        '''Close.'''
        return "closed"

def token() -> str:
    return "a-token"

class Credential:
    def get_token(self, *scopes: str) -> str:
        return "a-token"

seen: list[object] = []

def no_star(query: str) -> list[object]:
    return []
"""


def tools(path: Path) -> list[str]:
    made: Any = next(step.args for step in load(path, env={}).steps() if step.method == "with_tools")
    return [getattr(each, "name", None) or each.__name__ for each in made]


def agent(write: Write, text: str) -> Path:
    return write(f"kind: Agent\nllm: azure-openai\n{text}\n")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("tools: imports_a", ["stock", "price"]),
        ("tools: [imports_a]", ["stock", "price"]),
        ("tools: ['imports_a:plain', 'imports_a:stock']", ["plain", "stock"]),
        ("tools: imports_a:Shop.close", ["close"]),
    ],
)
def test_tools_are_objects_or_all_of_a_module(write: Write, text: str, names: list[str]) -> None:
    write(TOOLS, "imports_a.py")
    assert tools(agent(write, text)) == names


def test_sys_path_is_as_before(write: Write) -> None:
    write(TOOLS, "imports_b.py")
    before = list(sys.path)
    load(agent(write, "tools: imports_b"), env={})
    check(agent(write, "tools: nothing_here"), env={})
    assert sys.path == before


def test_two_files_may_each_have_a_module_of_the_same_name(write: Write) -> None:
    for folder in ("one", "two"):
        write(f"def {folder}(x: int) -> int:\n    '''Get.'''\n    return x\n", f"{folder}/same_name.py")
    first = write("kind: Agent\nllm: azure-openai\ntools: same_name:one\n", "one/agent.yaml")
    second = write("kind: Agent\nllm: azure-openai\ntools: same_name:two\n", "two/agent.yaml")
    assert tools(first) == ["one"]
    kept = sys.modules["same_name"]
    assert tools(second) == ["two"]
    assert sys.modules["same_name"] is kept
    assert tools(first) == ["one"]


def test_a_module_is_run_once_for_checking_and_loading(write: Write) -> None:
    write(
        "import builtins\nbuiltins.times_run = getattr(builtins, 'times_run', 0) + 1\n" + TOOLS,
        "imports_c.py",
    )
    path = agent(write, "tools: imports_c:stock")
    assert check(path, env={}) == []
    load(path, env={})
    import builtins

    assert vars(builtins).pop("times_run") == 1


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (
            "import surely_not_installed",
            "cannot be imported: No module named 'surely_not_installed'",
            "Install what brings 'surely_not_installed'.",
        ),
        ("def broken(:", "cannot be imported: invalid syntax (imports_bad.py, line 1)", None),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero", None),
        ("raise SystemExit", "cannot be imported: SystemExit", None),
        (
            "x = 1",
            "the module 'imports_bad' has no tools",
            "Make some with @tool, or name a function: imports_bad:NAME.",
        ),
    ],
)
def test_a_module_that_does_not_load_is_a_problem_with_its_reason(
    write: Write, source: str, message: str, hint: str | None
) -> None:
    write(source, "imports_bad.py")
    sys.modules.pop("imports_bad", None)
    (problem,) = check(agent(write, "tools: imports_bad"), env={})
    assert message in problem.message
    assert problem.hint == hint
    assert (problem.line, problem.column) == (3, 8)


@pytest.mark.parametrize("path", ["a b", "a:", ":a", "a:b:c", "../x", "a-b", "", "1a"])
def test_what_is_no_import_path_is_told(write: Write, path: str) -> None:
    (problem,) = check(agent(write, f"tools: '{path}'"), env={})
    assert problem.message == f"{path!r} is no import path"


def test_a_misspelt_object_is_told_with_its_like(write: Write) -> None:
    write(TOOLS, "imports_d.py")
    (problem,) = check(agent(write, "tools: imports_d:stok"), env={})
    assert problem.hint == "Did you mean 'stock'?"


def test_what_is_no_tool_is_told(write: Write) -> None:
    write(TOOLS, "imports_e.py")
    (problem,) = check(agent(write, "tools: imports_e:seen"), env={})
    assert problem.message == "[] is neither a tool nor callable"


def test_the_output_is_a_type(write: Write) -> None:
    write(TOOLS, "imports_f.py")
    step = load(agent(write, "output: imports_f:Order"), env={}).steps()[-1]
    assert step.args[0].__name__ == "Order"
    (problem,) = check(agent(write, "output: imports_f"), env={})
    assert problem.hint == "Write imports_f:NAME."


def test_functions_of_sections_are_imported(write: Write) -> None:
    write(TOOLS, "imports_g.py")
    text = """\
budget: {usd: 1, approve: "imports_g:plain"}
guardrails: {validators: ["imports_g:no_star"]}
listeners: imports_g:seen.append
resilience: {retries: {wait: "imports_g:plain"}}
"""
    made = {step.method: step for step in load(agent(write, text), env={}).steps()}
    assert made["with_budget"].kwargs["approve"].__name__ == "plain"
    assert made["with_guardrails"].args[0].__name__ == "no_star"
    assert made["with_retries"].kwargs["wait"].__name__ == "plain"
    assert callable(made["with_listener"].args[0])


@pytest.mark.parametrize("name", ["token", "Credential"])
def test_a_credential_is_a_function_or_made_of_a_class(write: Write, name: str) -> None:
    write(TOOLS, "imports_h.py")
    text = (
        "kind: Agent\nllm: {provider: azure-openai, endpoint: https://x.openai.azure.com, deployment: d, "
        f"credential: 'imports_h:{name}'}}\n"
    )
    path = write(text)
    (step,) = load(path, env={}).steps()
    assert step.method == "with_azure_openai_entra_auth"
    assert not isinstance(step.kwargs["credential"], type)
    with AgentBuilder.from_yaml(path, env={}).build() as made:
        assert "credential" in str(made.describe())


def test_a_standard_module_keeps_its_name(write: Write) -> None:
    write("raise RuntimeError('the wrong one')", "json.py")
    before = sys.modules["json"]
    assert check(agent(write, "tools: json:loads"), env={})[0].message != "the wrong one"
    assert sys.modules["json"] is before


def test_a_module_written_with_its_suffix_is_told_without(write: Write) -> None:
    write(TOOLS, "shop_tools.py")
    path = write("kind: Agent\nllm: {script: [Hi]}\ntools: ['shop_tools.py:stock']\n")
    (problem,) = check(path)
    assert problem.hint == "Write it without .py: shop_tools:stock"
