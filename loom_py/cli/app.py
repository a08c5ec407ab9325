"""The root of the command line: its options, its commands, and how it ends."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from loom_py.cli.exits import ExitCode, exit_code
from loom_py.cli.failures import show_failure, show_tracebacks, show_warning
from loom_py.cli.leaving import note_interruption
from loom_py.cli.plugins import PANEL, command_of, offered_commands
from loom_py.cli.streams import is_unwritable, quiet_output, settle_streams
from loom_py.cli.table import COMMANDS
from loom_py.cli.versions import versions
from loom_py.errors import ProviderLoadError

__all__ = ["run"]

HELP = "Agents you can put on call: talk with them, run them, check them."
EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage or setting, 3 refused, 4 try later, 5 own limit."

_MODULES = {entry.name: entry.module for entry in COMMANDS}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run ``loom``; the exit code. No error leaves it: each is shown."""
    show_tracebacks(os.environ.get("LOOM_DEBUG", "") not in ("", "0"))
    settle_streams()
    try:
        code = _code_of(_root(), arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        quiet_output()
        return ExitCode.PIPE_CLOSED
    except Exception as exc:  # noqa: BLE001 - the last place that can tell the user
        show_failure(exc)
        if not isinstance(exc, OSError):
            return exit_code(exc)
        if is_unwritable(exc):
            quiet_output()
        return ExitCode.USAGE if exc.filename or is_unwritable(exc) else exit_code(exc)
    return code


def _code_of(command: Any, arguments: Sequence[str] | None) -> int:
    """Run the command; the exit code. Raises what it raises."""
    try:
        command.main(args=None if arguments is None else list(arguments), prog_name="loom")
    except SystemExit as exc:
        if isinstance(exc.__context__, BrokenPipeError):  # so rich and typer leave, with codes of their own
            raise exc.__context__ from None
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    return ExitCode.OK


def _root() -> Any:
    app = typer.Typer(
        cls=_Root,
        help=HELP,
        epilog=EPILOG,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        _version: Annotated[
            bool,
            typer.Option(
                "--version", help="Show the versions and exit.", callback=_show_versions, is_eager=True
            ),
        ] = False,
        debug: Annotated[
            bool, typer.Option("--debug", help="Show the traceback of an error (or set LOOM_DEBUG=1).")
        ] = False,
    ) -> None:
        if debug:
            show_tracebacks()

    return _tidied(typer.main.get_command(app))


def _tidied(command: Any) -> Any:
    """``command`` with its flags listed without a type: they take no value."""
    for parameter in command.params:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    for each in getattr(command, "commands", {}).values():
        _tidied(each)
    made = command.get_help_option

    def get_help_option(ctx: Any) -> Any:
        option = made(ctx)
        if option is not None:
            option.metavar = ""
        return option

    command.get_help_option = get_help_option
    return command


class _Root(TyperGroup):
    """The group of all commands: those of the table and those of packages, imported when they are needed."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._is_listing = False
        self._has_plugins = False
        for entry in COMMANDS:
            self._announce(entry.name, entry.help, entry.panel)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in _MODULES:
            return self.commands[cmd_name] if self._is_listing else _imported(cmd_name)
        offer = self._plugins().get(cmd_name)
        if offer is None:
            return None
        if not self._is_listing:
            return command_of(offer)
        try:
            return command_of(offer)
        except ProviderLoadError as exc:
            self._warnings.append(exc.message)
            return None

    def list_commands(self, ctx: Any) -> list[str]:
        self._plugins()
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with self._listing():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        with self._listing(quiet=True):
            return super().shell_complete(ctx, incomplete)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note_interruption()
            raise typer.Exit(ExitCode.INTERRUPTED) from None

    def _announce(self, name: str, help: str, panel: str) -> None:
        """Have the command listed, without importing it."""
        self.commands[name] = TyperCommand(name, help=help, rich_help_panel=panel)

    def _plugins(self) -> dict[str, Any]:
        """The commands of packages; the names of loom_py's own stay its own."""
        found = {name: offer for name, offer in offered_commands().items() if name not in _MODULES}
        if not self._has_plugins:
            self._has_plugins = True
            for name, offer in found.items():
                self._announce(name, f"From {offer.origin}.", PANEL)
        return found

    @contextmanager
    def _listing(self, *, quiet: bool = False) -> Iterator[None]:
        """Meanwhile commands are listed, not run; one that is broken is told of, and left out."""
        self._is_listing, self._warnings = True, list[str]()
        try:
            yield
        finally:
            self._is_listing = False
        for warning in [] if quiet else self._warnings:
            show_warning(warning)


def _imported(name: str) -> Any:
    app = importlib.import_module(_MODULES[name]).app
    app._add_completion = False
    command = _tidied(typer.main.get_command(app))
    command.name = name
    return command


def _show_versions(wanted: bool) -> None:
    if not wanted:
        return
    sys.stdout.write(f"{versions()}\n")
    raise typer.Exit
