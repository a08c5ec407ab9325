"""The line a question is typed in: history, several lines, completion of commands."""

from __future__ import annotations

import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import completion_is_selected
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.shortcuts import CompleteStyle

from loom_py.cli.repl.slash import COMMANDS

__all__ = ["Prompt", "history_at"]


class Prompt:
    """Asks for questions on the terminal. Enter sends; Alt+Enter, or a ``\\`` at the end, goes on in a new
    line; what is pasted stays one question.
    """

    def __init__(self, history: History) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=history,
            multiline=True,
            key_bindings=_keys(),
            completer=_Commands(),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            prompt_continuation=lambda width, _line, _wraps: " " * width,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            reserve_space_for_menu=0,
        )

    def ask(self) -> str:
        """The next question. On an empty line Ctrl-D raises `EOFError`, and Ctrl-C `KeyboardInterrupt`."""
        return self._session.prompt(FormattedText([("bold fg:ansicyan", "› ")])).strip()


def history_at(path: Path | None) -> History:
    """The questions asked before, in the file ``path`` that only its owner can read; without it, none."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()  # a home that cannot be written to is no reason not to chat
    return FileHistory(str(path))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected)
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\") and buffer.document.is_cursor_at_the_end:
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @keys.add("c-c")
    def clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset(append_to_history=False)
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return keys


class _Commands(Completer):
    """Completes ``/he`` to ``/help``."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> list[Completion]:
        typed = document.text_before_cursor
        if not typed.startswith("/") or " " in typed:
            return []
        names = [name.partition(" ")[0] for name in COMMANDS]
        return [Completion(name, -len(typed)) for name in names if name.startswith(typed)]
