"""``loom`` before any command: help, versions, plugins, completion, and life without its extra."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from loom_py import errors
from loom_py.cli.exits import ExitCode, exit_code
from loom_py.cli.table import COMMANDS
from tests.cli.terminal import Loom

ROOT = Path(__file__).parents[2]


def _package(folder: Path, name: str, *entries: str, **modules: str) -> None:
    """An installed package that offers commands."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text("[loom_py.cli]\n" + "\n".join(entries) + "\n", "utf-8")
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source, "utf-8")


def test_the_version_names_loom_python_and_the_sdk(loom: Loom) -> None:
    done = loom.cold("--version")
    said = done.stdout.decode()
    assert re.fullmatch(r"loom-py \d+\.\d+\S*\nPython 3\.\d+\.\d+\nopenai \d+\.\d+\S*\n", said)


def test_help_lists_every_command_and_imports_none_of_them(loom: Loom) -> None:
    done = loom("--help")
    assert done.returncode == 0
    for entry in COMMANDS:
        assert re.search(rf"\b{entry.name}\b", done.stdout)
    code = "import sys; from loom_py.cli import main; main(['--help']); print(*sys.modules, sep='\\n')"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = set(imported.splitlines())
    assert not {entry.module for entry in COMMANDS} & modules
    assert not {"loom_py.agent", "openai", "keyring", "prompt_toolkit", "yaml", "sqlalchemy"} & modules


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_every_command_of_the_table_has_an_app(entry: object) -> None:
    from loom_py.cli.app import _imported

    name = getattr(entry, "name", "")
    command = _imported(name)
    assert command.name == name
    assert command.help


@pytest.mark.parametrize("command", [(), *((entry.name,) for entry in COMMANDS), ("config", "get-key")])
def test_help_names_arguments_plainly_and_no_flag_has_a_value(loom: Loom, command: tuple[str, ...]) -> None:
    shown = loom(*command, "--help").stdout
    assert "--help" in shown
    assert "<bool>" not in shown
    assert "[[" not in shown
    assert "......" not in shown


def test_what_is_no_command_is_wrong_usage_with_a_suggestion(loom: Loom) -> None:
    done = loom("chta")
    assert done.returncode == 2
    assert "Did you mean 'chat'?" in done.stderr


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(loom: Loom, missing: str) -> None:
    (loom.folder / f"{missing}.py").write_text(f"raise ModuleNotFoundError('no', name='{missing}')", "utf-8")
    done = loom.cold("chat", more={"PYTHONPATH": str(loom.folder)})
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == f"loom needs the package {missing}: pip install 'loom-py[cli]'\n"


def test_importing_loom_py_imports_nothing_of_the_command_line() -> None:
    code = "import sys, loom_py.builder, loom_py.agent; print(*sys.modules, sep='\\n')"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"typer", "rich", "keyring", "prompt_toolkit", "loom_py.cli"} & set(modules.splitlines())


# ── commands of packages ─────────────────────────────────────────────────────────────────

SHOUT = '''
import typer
from loom_py.errors import RateLimitError

app = typer.Typer()

@app.command()
def shout(word: str, fail: bool = False) -> None:
    """Say it loud."""
    if fail:
        raise RateLimitError("not so loud", hint="wait")
    print(word.upper())
'''

CLICK = '''
import click

@click.command()
@click.option("--times", type=int, default=1)
@click.argument("word")
def app(times, word):
    """Say it again."""
    print(word * times)
'''


@pytest.fixture
def packages(loom: Loom) -> Path:
    folder = loom.folder.parent / "packages"
    _package(folder, "loom-shout", "shout = shout_cli:app", shout_cli=SHOUT)
    loom.environment["PYTHONPATH"] = str(folder)
    return folder


@pytest.mark.usefixtures("packages")
def test_a_command_of_a_package_is_listed_and_runs_and_fails_like_loom_own(loom: Loom) -> None:
    assert re.search(r"shout\s+Say it loud", loom("--help").stdout)
    assert loom("shout", "hey").stdout == "HEY\n"
    failed = loom("shout", "hey", "--fail")
    assert failed.returncode == 4
    assert failed.stderr == "error: not so loud\n  hint   wait\n"


def test_a_command_made_with_click_itself_gets_its_arguments(loom: Loom, packages: Path) -> None:
    pytest.importorskip("click")
    _package(packages, "loom-again", "again = again_cli:app", again_cli=CLICK)
    assert loom("again", "--times", "3", "ho").stdout == "hohoho\n"
    assert "--times" in loom("again", "--help").stdout
    assert loom("again").returncode == 2


@pytest.mark.parametrize(
    "source",
    [
        "import nothing_of_that_name",
        "raise SystemExit(3)",
        "app = 1",
        "import typer\napp = typer.Typer()",
        "1 +",
    ],
)
def test_a_broken_command_is_a_warning_and_breaks_nothing(loom: Loom, packages: Path, source: str) -> None:
    _package(packages, "loom-broken", "broken = broken_cli:app", broken_cli=source)
    listed = loom("--help")
    assert listed.returncode == 0
    assert "Say it loud" in listed.stdout
    (warning,) = listed.stderr.splitlines()
    assert warning.startswith("warning: the command 'broken' of loom-broken 1.0 cannot be used: ")
    run = loom("broken")
    assert run.returncode == 2
    assert "Reinstall or remove loom-broken 1.0." in run.stderr
    assert "Traceback" not in run.stderr


def test_a_package_cannot_take_the_place_of_loom_own_commands(loom: Loom, packages: Path) -> None:
    _package(packages, "loom-rogue", "chat = shout_cli:app")
    assert "Talk with an agent" in loom("chat", "--help").stdout


# ── completion and exit codes ────────────────────────────────────────────────────────────


def test_the_shell_completes_commands_options_and_agents_files(loom: Loom) -> None:
    (loom.folder / "agent.yaml").write_text("kind: Agent", "utf-8")
    (loom.folder / "notes.txt").write_text("", "utf-8")

    def completed(line: str) -> str:
        words = {"_LOOM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        return loom(more=words).stdout

    assert set(completed("loom c").split()) >= {"chat", "config"}
    assert "--no-history" in completed("loom chat --no-")
    assert completed("loom run ").split() == ["agent.yaml"]
    assert "set-key" in completed("loom config se")


def test_the_table_of_exit_codes_in_the_page_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == set(ExitCode)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.BuilderError([]), 2),
        (errors.MissingAuthError("x"), 2),
        (errors.DeploymentNotFoundError("x"), 2),
        (errors.AuthenticationError("x"), 3),
        (errors.NetworkAccessError("x"), 3),
        (errors.RateLimitError("x", retryable=False), 4),
        (errors.NoDeploymentError("x"), 4),
        (errors.ConnectionFailedError("x"), 4),
        (errors.RequestTimeoutError("x"), 4),
        (errors.BudgetExceededError("x"), 5),
        (errors.QueueFullError("x"), 5),
        (errors.DeadlineExceededError("x"), 5),
        (errors.ContentFilterError("x"), 1),
        (errors.OutputValidationError("x"), 1),
        (errors.RetriesExhausted("x"), 4),
        (
            errors.RetriesExhausted(
                "x", attempts=[errors.FailedAttempt("d", errors.AuthenticationError("x"), 0, 0, 0)]
            ),
            3,
        ),
        (ValueError("x"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_an_exit_code_by_what_can_be_done_about_it(error: BaseException, code: int) -> None:
    assert exit_code(error) == code
