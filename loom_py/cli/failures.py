"""Errors as people read them: what, where, and what to do; never a secret."""

from __future__ import annotations

import os
import re
import traceback

from rich.markup import escape
from rich.text import Text

from loom_py.cli.screen import err, safe
from loom_py.cli.streams import is_unwritable
from loom_py.errors import BuilderError, ConfigError, LoomError, MissingAuthError

__all__ = [
    "KEEP_A_KEY",
    "masked_secrets",
    "remember_secret",
    "show_failure",
    "show_tracebacks",
    "show_warning",
]

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSPHRASE|CREDENTIALS?)$", re.IGNORECASE)
_LEAST_SECRET = 6
"""Characters from which on a text is hidden; a shorter one would be found in words."""

KEEP_A_KEY = "loom config set-key PROVIDER keeps a key for all commands."

_secrets: set[str] = set()
_tracebacks = False


def show_tracebacks(shown: bool = True) -> None:
    """Whether `show_failure` prints tracebacks, in this process."""
    global _tracebacks
    _tracebacks = shown


def remember_secret(secret: str) -> None:
    """Show ``***`` wherever ``secret`` would stand in an error of this process."""
    if len(secret) >= _LEAST_SECRET:
        _secrets.add(secret)


def masked_secrets(text: str) -> str:
    """``text`` without the keys that were read, and without those in the environment."""
    found = {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    for secret in sorted(found | _secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, "***")
    return text


def show_failure(error: BaseException) -> None:
    """Print ``error`` to standard error; its traceback only after `show_tracebacks`."""
    console = err()
    if _tracebacks:
        lines = "".join(traceback.format_exception(error))
        console.print(Text(safe(masked_secrets(lines))), soft_wrap=True, style="dim")
    what, facts = _told(error)
    console.print(Text.assemble(("error: ", "bold red"), safe(masked_secrets(what))), soft_wrap=True)
    for name, fact in facts:
        line = Text.assemble((f"  {name}  ", "bold"), safe(masked_secrets(fact)))
        console.print(line, soft_wrap=True)


def show_warning(text: str) -> None:
    """Print a line of warning to standard error."""
    err().print(f"[bold yellow]warning:[/] {escape(safe(masked_secrets(text)))}", soft_wrap=True)


def _told(error: BaseException) -> tuple[str, list[tuple[str, str]]]:
    """What was wrong, and the facts that go with it."""
    if isinstance(error, LoomError):
        facts = [("where", where)] if (where := _where(error)) else []
        hint = error.hint or _key_hint(error)
        return error.message, facts + ([("hint ", hint)] if hint else [])
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", []
    if isinstance(error, OSError) and is_unwritable(error):
        return f"standard output cannot be written: {error.strerror}", []
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text, [("hint ", "Run loom --debug … to see where it came from.")]


def _key_hint(error: LoomError) -> str | None:
    """What the command line can do about a missing key; the message tells what code and variables can."""
    problems = error.problems if isinstance(error, BuilderError) else ()
    is_missing = any(isinstance(problem.error, MissingAuthError) for problem in problems)
    return KEEP_A_KEY if is_missing else None


def _where(error: LoomError) -> str:
    """The place of an error that its message does not name: setting, deployment, request."""
    parts = []
    field = getattr(error, "field", None)
    if isinstance(error, ConfigError) and not isinstance(error, BuilderError) and field:
        parts += [] if str(field) in error.message else [str(field)]
    if error.deployment:
        parts.append(f"deployment {error.deployment}")
    if error.request_id:
        parts.append(f"request {error.request_id}")
    if error.retry_after is not None:
        parts.append(f"may be tried again in {error.retry_after:g} s")
    return " · ".join(parts)
