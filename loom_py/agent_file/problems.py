"""What is wrong with a file, and where; never with a secret in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from loom_py.errors import BuilderError, LoomError, Problem

if TYPE_CHECKING:
    from loom_py.agent_file.nodes import Node

__all__ = ["FileProblem", "Problems"]

_LEAST_SECRET = 4
"""Characters from which on a text is hidden wherever it stands; a shorter one would hide half the message."""


_METHOD = re.compile(r"\.?\bwith_(\w+)(?:\((?:\[…\])?\))?")
_KEYWORD = re.compile(r"\b([a-z_]+)=(?=[ ,.]|$)")

_NO_SECRETS = ("true", "false", "none", "null")
"""Words of many messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProblem(Problem):
    """One thing wrong with a file: ``path``, ``line`` and ``column`` (both from 1), and what to do.

    ``field`` is the place in the file, such as ``llm.endpoint``; it is empty for what concerns the
    whole file.
    """

    path: Path
    line: int = 1
    column: int = 1

    @property
    def hint(self) -> str | None:
        """What to do about it, where that is known."""
        return self.remedy

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {Problem.__str__(self).removeprefix(': ')}"


@dataclass(slots=True)
class Problems:
    """Everything found wrong with one file so far, in the order of its lines."""

    path: Path
    found: list[FileProblem] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """Texts that no message may show, and what is said in their place."""

    def hide(self, secret: str, instead: str = "***") -> None:
        """Show ``instead`` wherever ``secret`` would stand in a message."""
        for text in {secret, secret.strip(), repr(secret)[1:-1]}:
            if len(text) >= _LEAST_SECRET and text.lower() not in _NO_SECRETS:
                self.secrets[text] = instead

    def add(self, node: Node, message: str, hint: str | None = None, *, at_key: bool = False) -> None:
        """``message`` about ``node``, at its value or ``at_key``."""
        line, column = node.key if at_key and node.key is not None else (node.line, node.column)
        if not node.is_written:
            message = f"{message} (from {node.source})"
        self._add(node.path, _without_values(message, node), hint, line, column)

    def add_error(self, node: Node, exc: BaseException) -> None:
        """An error that something raised because of ``node``."""
        if isinstance(exc, BuilderError):
            for problem in exc.problems:
                self.add(node, _as_in_files(problem.message), _as_in_files(problem.remedy))
        elif isinstance(exc, LoomError):
            self.add(node, _as_in_files(exc.message), _as_in_files(exc.hint))
        elif isinstance(exc, (TypeError, ValueError)) and str(exc):
            self.add(node, _as_in_files(str(exc)))
        else:
            self.add(node, f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)

    def at(self, line: int, column: int, message: str, hint: str | None = None) -> None:
        """``message`` about a place of the file."""
        self._add("", message, hint, line, column)

    def error(self) -> BuilderError:
        """One error that lists them all."""
        return BuilderError(self.sorted(), what=str(self.path))

    def sorted(self) -> list[FileProblem]:
        """All of them, each once, by line and column."""
        return sorted(dict.fromkeys(self.found), key=lambda each: (each.line, each.column))

    def masked(self, text: str) -> str:
        """``text`` without secrets."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, self.secrets[secret])
        return text

    def _add(self, place: str, message: str, hint: str | None, line: int, column: int) -> None:
        text, remedy = self.masked(message), None if hint is None else self.masked(hint)
        self.found.append(
            FileProblem(field=place, message=text, remedy=remedy, path=self.path, line=line, column=column)
        )


@overload
def _as_in_files(text: str) -> str: ...
@overload
def _as_in_files(text: None) -> None: ...
def _as_in_files(text: str | None) -> str | None:
    """``text`` about the builder's methods and keywords, with the names that a file has for them."""
    if text is None:
        return None
    return _KEYWORD.sub(r"\1", _METHOD.sub(r"\1", text))


def _without_values(message: str, node: Node) -> str:
    """``message`` that names the variable where it would show a value that came from one."""
    if not node.variables:
        return message
    named = " and ".join(f"${{{name}}}" for name in node.variables)
    for value in sorted(_spellings(node.value), key=len, reverse=True):
        message = re.sub(rf"\bnot {re.escape(value)}(?!\w)", f"not what {named} says", message)
    return message


def _spellings(value: Any) -> Iterable[str]:
    """How a value, or what became of it, may be written in a message."""
    found = {str(value), repr(value)}
    for kind in (int, float):
        try:
            found |= {str(kind(value))}
        except (TypeError, ValueError, OverflowError):
            continue
    return filter(None, found)
