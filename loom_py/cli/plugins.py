"""Commands that installed packages bring, through the entry-point group ``loom_py.cli``.

An entry point names a `typer.Typer`, or a command of click::

    [project.entry-points."loom_py.cli"]
    shout = "my_package.commands:app"
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from loom_py._entry_points import Offer, offers, reason
from loom_py.errors import ProviderLoadError

__all__ = ["GROUP", "PANEL", "command_of", "offered_commands"]

GROUP = "loom_py.cli"
"""The entry-point group in which packages offer commands."""

PANEL = "From installed packages"


def offered_commands() -> dict[str, Offer]:
    """What packages offer, by the name of the command; nothing is imported."""
    return offers(GROUP)


def command_of(offer: Offer) -> Any:
    """The command that ``offer`` names, imported. Raises `ProviderLoadError`, whatever is wrong with it."""
    try:
        return _command(offer.name, offer.load())
    except (Exception, SystemExit) as exc:
        why = str(exc) if isinstance(exc, LookupError) else reason(exc)
        hint = f"Reinstall or remove {offer.origin}."
        raise ProviderLoadError(
            f"the command {offer.name!r} of {offer.origin} cannot be used: {why}", hint=hint
        ) from exc


def _command(name: str, found: Any) -> Any:
    if isinstance(found, typer.Typer):
        found._add_completion = False  # it is a part of loom now, which has its own
        found = typer.main.get_command(found)
    if not isinstance(found, (TyperCommand, TyperGroup)):
        if not (callable(getattr(found, "main", None)) and hasattr(found, "params")):
            raise TypeError(f"{found!r} is neither a typer.Typer nor a command of click")
        found = _Foreign(name, found)
    found.name = name
    found.rich_help_panel = PANEL
    return found


class _Foreign(TyperCommand):
    """A command made with click itself, not with typer: it gets its arguments as they are."""

    def __init__(self, name: str, command: Any) -> None:
        super().__init__(name, help=command.help, short_help=command.short_help, add_help_option=False)
        self._command = command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args  # type: ignore[no-any-return]

    def invoke(self, ctx: Any) -> Any:
        return self._command.main(args=ctx.args, prog_name=ctx.command_path)
