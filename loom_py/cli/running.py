"""What ``loom run`` does: one question, one answer."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from loom_py.agent import Agent
from loom_py.cli.agents import chosen_agent
from loom_py.cli.exits import ExitCode
from loom_py.cli.models import ModelFlags
from loom_py.cli.repl.conversation import write_new_file
from loom_py.cli.repl.drawing import draw_turn
from loom_py.cli.repl.plain import answer_all, read_stdin
from loom_py.cli.screen import is_terminal, out
from loom_py.errors import ConfigError

__all__ = ["RunRequest", "run_once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What the command line asks for; ``None`` leaves a choice to the circumstances."""

    path: Path
    question: str | None
    flags: ModelFlags
    changes: tuple[str, ...]
    stream: bool | None
    as_json: bool
    output: Path | None


def run_once(request: RunRequest) -> ExitCode:
    """Ask the question; the exit code. Raises what the agent raises, unless the answer is to be JSON."""
    question = _question(request.question)
    if request.output is not None:
        _check_output(request)
    with chosen_agent(request.path, request.flags, None, request.changes).builder.build() as agent:
        if request.output is not None:
            return _into_file(agent, question, request.output, request.as_json)
        if not request.as_json and request.stream is not False and is_terminal(sys.stdout):
            draw_turn(out(), agent.stream_chat(question))
            return ExitCode.OK
        stream = (not request.as_json) if request.stream is None else request.stream
        return answer_all(agent, [question], session_id=None, stream=stream, as_json=request.as_json)


def _question(given: str | None) -> str:
    """The question of the command line, else of standard input. Raises `ConfigError` where there is none."""
    if given is not None and given != "-":
        question = given.strip()
    elif given is None and is_terminal(sys.stdin):
        raise ConfigError("there is no question", hint='loom run AGENT.yaml "What is …?", or from a pipe.')
    else:
        question = read_stdin()
    if not question:
        raise ConfigError("the question is empty")
    return question


def _check_output(request: RunRequest) -> None:
    """Find out before the question is paid for whether its answer can be kept."""
    assert request.output is not None
    if request.stream:
        raise ConfigError("--output takes the whole answer and --stream shows it in pieces: choose one")
    folder = request.output.absolute().parent
    if request.output.is_dir() or not folder.is_dir():
        wrong = f"{request.output} is a folder" if request.output.is_dir() else f"there is no folder {folder}"
        raise ConfigError(wrong, field="--output")


def _into_file(agent: Agent, question: str, path: Path, as_json: bool) -> ExitCode:
    response = agent.chat(question)
    text = json.dumps(response.to_dict(), ensure_ascii=False) if as_json else response.message
    write_new_file(path, f"{text}\n", replace=True)
    return ExitCode.OK
