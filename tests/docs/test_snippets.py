"""Every snippet of the documentation is run, page by page, and must print what it says it prints.

The Python blocks of one page run in order in one namespace, in a folder that holds ``shop.db`` and
``flights.db``, against a running emulator. What a block prints is checked against its ``# → …``
comments, in order. Comments before a block steer it and do not show on the page:

``<!-- engine: [steps] -->``
    what the emulated model does, as JSON: text is a reply, ``["name", {arguments}]`` a tool call,
    a list of those several calls, ``{"fault": 429, …}`` a failure (`AzureEmulator.fail_next`).
``<!-- no-run: reason -->``
    the block is not run; few may be.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loom_py import Agent, AzureEmulator, AzureOpenAIClient, ScriptedProvider, SQLBackend
from loom_py.llm.scripted import Answer, ScriptedRequest, call

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ENDPOINT = "https://myresource.openai.azure.com"
DEPLOYMENTS = {"gpt-4o-deployment": "gpt-4o-2024-11-20", "chat-prod": "gpt-4.1-mini-2025-04-14"}

NOT_RUN = {
    "backends.md": ["needs a PostgreSQL server"],
}
"""Every block that is not run, and why."""

SHOP = """
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    product_id INTEGER NOT NULL REFERENCES products (id),
    quarter TEXT NOT NULL,
    revenue NUMERIC NOT NULL,
    cost NUMERIC NOT NULL
);
INSERT INTO products VALUES (1, 'Desk Lamp'), (2, 'Office Chair'), (3, 'Notebook');
INSERT INTO orders VALUES
    (1, 1, '2026-Q2', 4000, 3100), (2, 2, '2026-Q2', 8800, 6000), (3, 3, '2026-Q2', 1500, 1450),
    (4, 1, '2026-Q3', 3100, 4340), (5, 2, '2026-Q3', 9000, 6100), (6, 3, '2026-Q3', 1200, 1450);
"""

_BLOCK = re.compile(
    r"(?P<comments>(?:^<!--.*?-->\s*\n)*)"
    r"^(?P<indent> *)```(?P<kind>[a-z]+)(?P<rest>[^\n]*)\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
_DIRECTIVE = re.compile(r"<!-- (engine|no-run): (.*?) -->", re.DOTALL)
_CLAIM = re.compile(r"# → (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the comments that steer it."""

    kind: str
    code: str
    line: int
    engine: list[Any]
    no_run: str | None
    title: str

    @property
    def is_included(self) -> bool:
        """Whether it shows an example's file, which is run as such."""
        return self.code.lstrip().startswith("--8<--")


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of ``page``."""
    text = page.read_text("utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        said = dict(_DIRECTIVE.findall(match["comments"]))
        indent = len(match["indent"])
        code = "".join(line[indent:] or "\n" for line in match["code"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start("code")) + 1
        engine = json.loads(said.get("engine", "[]"))
        title = match["rest"].strip().removeprefix("title=").strip('"')
        found.append(Block(match["kind"], code, line, engine, said.get("no-run"), title))
    return found


class Model:
    """The emulated model: does what the page's comments say, and else greets."""

    def __init__(self) -> None:
        self.steps: deque[Any] = deque()

    def __call__(self, request: ScriptedRequest) -> Answer:
        if not self.steps:
            return "Hello! How can I help?"
        step = self.steps.popleft()
        if isinstance(step, str):
            return step
        calls = [step] if isinstance(step[0], str) else step
        return [call(name, **arguments) for name, arguments in calls]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def azure(model: Model) -> Iterator[AzureEmulator]:
    with AzureEmulator(
        ScriptedProvider(model), deployments=DEPLOYMENTS, api_keys=["key"], entra_tokens=["token"]
    ) as emulator:
        yield emulator


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a page's reader works."""
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.executescript(SHOP)
    shutil.copy(ROOT / "examples" / "data" / "flights.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_snippets_of_the_page_run_and_print_what_they_claim(
    page: Path, folder: Path, azure: AzureEmulator, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", azure.endpoint)
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "gpt-4o-deployment")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "key")
    namespace: dict[str, Any] = {"__name__": "snippet"}
    with contextlib.ExitStack() as stack:
        for block in blocks(page):
            if block.kind == "python" and not (block.no_run or block.title or block.is_included):
                _run(page, block, namespace, azure, model)
                for value in namespace.values():  # the page may bind the name anew
                    if isinstance(value, (Agent, AzureOpenAIClient, SQLBackend)):
                        stack.callback(value.close)


def _run(page: Path, block: Block, namespace: dict[str, Any], azure: AzureEmulator, model: Model) -> None:
    where = f"{page.name}, the block at line {block.line}"
    for step in block.engine:
        if isinstance(step, dict):
            azure.fail_next(step.pop("fault"), **step)
        else:
            model.steps.append(step)
    source = "\n" * (block.line - 1) + block.code.replace(ENDPOINT, azure.endpoint)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, str(page), "exec", dont_inherit=True), namespace)
    assert not model.steps, f"{where}: steps of its engine were not used: {list(model.steps)}"
    _check_claims(where, block.code, printed.getvalue())


def _check_claims(where: str, code: str, printed: str) -> None:
    """Each claim is a printed line, in order; ``…`` in it stands for anything."""
    lines = iter(printed.splitlines())
    for claim in _CLAIM.findall(code):
        pattern = ".*".join(re.escape(part) for part in claim.strip().split("…"))
        assert any(re.fullmatch(pattern, line.rstrip()) for line in lines), (
            f"{where}: nothing printed is {claim!r}; it printed:\n{printed}"
        )


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    found = {page.name: [block.no_run for block in blocks(page) if block.no_run] for page in PAGES}
    assert {name: reasons for name, reasons in found.items() if reasons} == NOT_RUN


def test_blocks_with_a_title_are_those_of_the_provider_package() -> None:
    """They are files of a package, which test_provider_package.py puts together and runs."""
    titles = {page.name: [block.title for block in blocks(page) if block.title] for page in PAGES}
    assert {name: found for name, found in titles.items() if found} == {
        "providers.md": ["pyproject.toml", "loom_parrot.py", "after pip install loom-parrot"]
    }


def test_every_page_but_the_listings_has_snippets() -> None:
    bare = {page.name for page in PAGES if not any(block.kind == "python" for block in blocks(page))}
    assert bare == {"changelog.md", "performance.md", "reference.md"}


def test_included_files_exist() -> None:
    included = [block.code for page in PAGES for block in blocks(page) if block.is_included]
    names = re.findall(r'--8<-- "([^":]+)', "\n".join(included))
    assert names
    assert [name for name in names if not (ROOT / name).is_file()] == []


# ── the command line ─────────────────────────────────────────────────────────────────────


def _commands(start: str) -> list[str]:
    shells = [block.code for page in PAGES for block in blocks(page) if block.kind in {"sh", "console"}]
    lines = [line.removeprefix("$ ").strip() for code in shells for line in code.splitlines()]
    return sorted({line.partition("  #")[0] for line in lines if line.startswith(start)})


def _arguments(command: str) -> list[str]:
    return [sys.executable, *shlex.split(command)[1:]]


@pytest.mark.parametrize("command", _commands("python -m loom_py.emulator"))
def test_the_emulators_commands_work(command: str, folder: Path) -> None:
    (folder / "script.json").write_text('["Hello!"]', "utf-8")
    (folder / "plan.json").write_text('{"seed": 7, "rules": [{"error": "500", "every": 3}]}', "utf-8")
    if "--help" in command:
        assert (
            "usage:" in subprocess.run(_arguments(command), capture_output=True, text=True, check=True).stdout
        )
        return
    arguments = [*_arguments(command), "--port", "0"]  # the last one counts; the page's may be taken
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        first = server.stdout.readline()
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=20)
    assert first.startswith("endpoint     http://127.0.0.1:")
    assert server.returncode == 0


def test_the_pages_show_the_emulators_command_line() -> None:
    assert len(_commands("python -m loom_py.emulator")) >= 2


# ── the checks themselves ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "printed"),
    [("print(1)  # → 2", "1\n"), ("# → b\n# → a", "a\nb\n"), ("# → one … three", "one two\n"), ("# → x", "")],
)
def test_a_false_claim_is_noticed(code: str, printed: str) -> None:
    with pytest.raises(AssertionError, match="nothing printed is"):
        _check_claims("here", code, printed)


def test_a_true_claim_may_leave_things_out() -> None:
    _check_claims("here", "# → one … three\n# → 4", "zero\none two three\n4\n")
