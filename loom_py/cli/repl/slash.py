"""The commands inside of ``loom chat``: ``/tools``, ``/cost``, ``/save FILE``, …"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loom_py.cli.repl.conversation import Conversation
from loom_py.cli.repl.tables import budget_line, cost_notes, cost_table, dollars, indented, tool_lines
from loom_py.cli.screen import safe
from loom_py.errors import ConfigError

__all__ = ["COMMANDS", "SlashCommands", "is_command"]

COMMANDS: dict[str, str] = {
    "/tools": "the tools the agent has",
    "/cost": "what the conversation has cost",
    "/health": "deployments, breakers and budgets",
    "/save FILE": "write the conversation to FILE (.json, else Markdown); /save! replaces",
    "/reset": "forget the conversation and begin anew",
    "/help": "this list",
    "/quit": "leave (or Ctrl-D)",
}

_COMMAND = re.compile(r"/([a-z?]*)(!?)(?:\s+(.*))?\s*\Z", re.DOTALL | re.IGNORECASE)

LIGHTS = {"ok": "green", "degraded": "yellow", "down": "red"}


def is_command(text: str) -> bool:
    """Whether ``text`` is a command; ``/etc/hosts is what?`` is a question."""
    return _COMMAND.match(text) is not None


class SlashCommands:
    """Runs commands on a conversation; what they tell is printed."""

    def __init__(self, console: Console, conversation: Conversation) -> None:
        self._console = console
        self._conversation = conversation
        self._commands: dict[str, Callable[[str, bool], None]] = {
            "tools": self._tools,
            "cost": self._cost,
            "health": self._health,
            "save": self._save,
            "reset": self._reset,
            "help": self._help,
            "?": self._help,
            "": self._help,
        }

    def run(self, text: str) -> bool:
        """Run the command ``text``; whether the conversation goes on."""
        found = _COMMAND.match(text)
        assert found is not None
        name, mark, argument = found[1].lower(), found[2], (found[3] or "").strip()
        if name in ("quit", "exit", "q"):
            return False
        command = self._commands.get(name)
        if command is None:
            close = get_close_matches(name, [*self._commands, "quit"], n=1)
            meant = f"Did you mean /{close[0]}?" if close else "/help lists them all."
            self._say(f"There is no command /{name}. {meant}", "yellow")
        else:
            command(argument, bool(mark))
        return True

    def _say(self, text: str, style: str = "dim") -> None:
        self._console.print(indented(Text(safe(text), style=style)))

    def _help(self, _argument: str, _mark: bool) -> None:
        table = Table.grid(padding=(0, 2))
        for name, what in COMMANDS.items():
            table.add_row(Text(name, style="bold"), Text(what, style="dim"))
        self._console.print(indented(table))
        self._say("Alt+Enter or a \\ at the end goes on in a new line. Ctrl-C stops an answer.")

    def _tools(self, _argument: str, _mark: bool) -> None:
        tools = self._conversation.agent.tools
        if not tools:
            self._say("The agent has no tools.")
            return
        for line in tool_lines(tools, self._console.width):
            self._console.print(line)

    def _cost(self, _argument: str, _mark: bool) -> None:
        session, whole = self._conversation.costs, self._conversation.agent.costs()
        if not whole.calls:
            self._say("Nothing yet.")
            return
        if session.calls:
            self._console.print(indented(cost_table(session)))
            for note in cost_notes(session):
                self._say(note)
        if whole.calls != session.calls:
            before = whole.calls - session.calls
            rest = dollars(whole.total - session.total) if whole.is_complete else "not all of them priced"
            self._say(f"Before /reset: {before:,} call{'' if before == 1 else 's'}, {rest}.")

    def _health(self, _argument: str, _mark: bool) -> None:
        health = self._conversation.agent.health()
        lines = [Text.assemble(("● ", LIGHTS[health.status]), (health.status, "bold"))]
        for name, each in health.deployments.items():
            state = "available" if each.is_available else f"not for {each.retry_in:.0f} s: {each.reason}"
            if each.latency is not None:
                state += f" · answers in {each.latency:.1f} s"
            if each.breaker is not None:
                state += f" · breaker {each.breaker.state}"
            light = "green" if each.is_available else "red"
            lines.append(Text.assemble(("● ", light), safe(name), (f"  {state}", "dim")))
        for name, stats in health.tools.items():
            if stats.state != "closed":
                lines.append(Text.assemble(("● ", "red"), safe(name), (f"  breaker {stats.state}", "dim")))
        lines += [Text(f"  {budget_line(budget)}", style="dim") for budget in health.budgets]
        for line in lines:
            self._console.print(indented(line))

    def _save(self, argument: str, replace: bool) -> None:
        if not argument:
            self._say("Say where to: /save chat.md, or /save chat.json", "yellow")
            return
        path = Path(argument).expanduser()
        try:
            count = self._conversation.save(path, replace=replace)
        except ConfigError as exc:
            self._say(f"{exc.message}: /save! {argument} replaces it.", "yellow")
        except OSError as exc:
            self._say(f"{path} cannot be written: {exc.strerror}", "red")
        else:
            self._say(f"{count} message{'' if count == 1 else 's'} in {path}")

    def _reset(self, _argument: str, _mark: bool) -> None:
        self._say("Forgotten." if self._conversation.reset() else "There was nothing to forget.")
