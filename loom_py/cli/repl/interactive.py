"""``loom chat`` on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from loom_py.cli.exits import ExitCode
from loom_py.cli.failures import show_failure
from loom_py.cli.leaving import note_interruption
from loom_py.cli.repl.conversation import Conversation
from loom_py.cli.repl.drawing import Drawing, bill, draw_turn
from loom_py.cli.repl.slash import SlashCommands, is_command
from loom_py.cli.repl.tables import indented
from loom_py.cli.screen import safe

__all__ = ["talk"]


def talk(console: Console, conversation: Conversation, *, stream: bool, history: Path | None) -> ExitCode:
    """Ask, answer, and so on until the user leaves. Ctrl-C stops the answer and not the conversation."""
    from loom_py.cli.repl.prompt import Prompt, history_at

    prompt = Prompt(history_at(history))
    commands = SlashCommands(console, conversation)
    answer = _streamed if stream else _whole
    while True:
        try:
            text = prompt.ask()
            if text and is_command(text):
                if not commands.run(text):
                    return ExitCode.OK
            elif text:
                _turn(console, conversation, text, answer)
            if text:
                console.print()
        except KeyboardInterrupt:
            console.print(Text("  (/quit or Ctrl-D leaves)", style="dim"))
        except EOFError:
            return ExitCode.OK


def _turn(
    console: Console,
    conversation: Conversation,
    question: str,
    answer: Callable[[Console, Conversation, str], None],
) -> None:
    try:
        answer(console, conversation, question)
    except KeyboardInterrupt:
        note_interruption()
        console.print(Text("  interrupted; this question and what was said of it are forgotten", "yellow"))
    except Exception as exc:  # noqa: BLE001 - a turn that fails does not end the conversation
        show_failure(exc)


def _streamed(console: Console, conversation: Conversation, question: str) -> None:
    events = conversation.agent.stream_chat(question, session_id=conversation.session_id)
    draw_turn(console, events)


def _whole(console: Console, conversation: Conversation, question: str) -> None:
    import time

    started = time.perf_counter()
    with Drawing(console):
        response = conversation.agent.chat(question, session_id=conversation.session_id)
    console.print(indented(Text(safe(response.message))))
    console.print(indented(Text(bill(response, time.perf_counter() - started), style="dim")))
