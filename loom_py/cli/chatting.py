"""What ``loom chat`` does: a conversation on a terminal, or answers to what comes from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from loom_py.agent import Agent
from loom_py.cli.agents import chosen_agent
from loom_py.cli.exits import ExitCode
from loom_py.cli.models import Chosen, ModelFlags
from loom_py.cli.repl.conversation import Conversation
from loom_py.cli.repl.interactive import talk
from loom_py.cli.repl.plain import answer_all, read_lines, read_stdin
from loom_py.cli.screen import err, is_terminal, out, safe
from loom_py.cli.settings import found, state_folder
from loom_py.errors import ConfigError

__all__ = ["ChatRequest", "chat_with", "greet", "history_file"]

CONFIGURE = (
    "To talk with a model of yours: loom chat --llm PROVIDER:MODEL, or --endpoint URL --deployment NAME."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What the command line asks for; ``None`` leaves a choice to the circumstances."""

    path: Path | None
    flags: ModelFlags
    system: str | None
    changes: tuple[str, ...]
    session: str | None
    stream: bool | None
    as_json: bool
    lines: bool
    history: bool | None


def chat_with(request: ChatRequest) -> ExitCode:
    """Chat until there are no more questions; the exit code. Raises what building the agent raises."""
    chosen = chosen_agent(request.path, request.flags, request.system, request.changes)
    is_typed = is_terminal(sys.stdin)
    if is_typed and is_terminal(sys.stdout) and not request.as_json:
        with chosen.builder.build() as agent:
            return _interactive(request, chosen, agent)
    if chosen.is_demo:
        err().print(Text(f"No model is configured: the offline demo answers. {CONFIGURE}"), soft_wrap=True)
    questions = read_lines() if request.lines or is_typed else _whole()
    with chosen.builder.build() as agent:
        session = request.session or Conversation(agent).session_id
        stream = (not request.as_json) if request.stream is None else request.stream
        return answer_all(agent, questions, session_id=session, stream=stream, as_json=request.as_json)


def _interactive(request: ChatRequest, chosen: Chosen, agent: Agent) -> ExitCode:
    console = out()
    conversation = Conversation(agent)
    if request.session:
        conversation.session_id = request.session
    greet(console, chosen, agent)
    history = history_file() if _wants_history(request.history) else None
    return talk(console, conversation, stream=request.stream is not False, history=history)


def greet(console: Console, chosen: Chosen, agent: Agent) -> None:
    """Say who answers, and how to leave."""
    if chosen.is_demo:
        console.print(Text("No model is configured, so the offline demo answers: type 1, 2 or 3.", "yellow"))
        console.print(Text(CONFIGURE, style="dim"))
    else:
        name = Text(safe(chosen.label), style="bold")
        by = f" · {agent.provider.name}/{agent.provider.model}"
        console.print(name + Text(safe("" if chosen.label.endswith(agent.provider.model) else by), "dim"))
    tools = len(agent.tools)
    told = f"{tools} tool{'' if tools == 1 else 's'} · " if tools else ""
    console.print(Text(f"{told}/help lists commands · Ctrl-D leaves", style="dim"))
    console.print()


def history_file() -> Path:
    """Where the questions are remembered."""
    return state_folder() / "chat_history"


def _wants_history(flag: bool | None) -> bool:
    return bool(found("history", True).value) if flag is None else flag


def _whole() -> Iterator[str]:
    question = read_stdin()
    if not question:
        raise ConfigError("standard input held no question", hint="printf 'Hello' | loom chat")
    yield question
