"""The values of a file, each with its place in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

__all__ = ["FAILED", "FILE", "FLAG", "Node", "Scalar"]

FAILED: Any = object()
"""Stands for a value that is wrong, and was reported."""

Scalar: TypeAlias = bool | int | float | str | None

FILE = "file"
"""The source of what is written in the file."""

FLAG = "flag"
"""The source of what the command line, or ``flags=``, says."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file, with where it stands.

    Attributes:
        value: a scalar, a tuple of nodes, or a mapping of names to nodes.
        line, column: its place, from 1; of what is not written in the file, the place it belongs to.
        path: where it is in the document: ``llm.deployments[0].endpoint``.
        key: line and column of its name, in a mapping.
        source: ``"file"``, ``"flag"``, ``"keyring"`` or ``"environment (NAME)"``.
        variables: the environment's variables that are part of it.
        is_filled: something was filled in for a reference, if only its default.
        is_broken: what it is could not be found out, and has been reported.
    """

    value: Scalar | tuple[Node, ...] | Mapping[str, Node] = field(repr=False)
    line: int = 1
    column: int = 1
    path: str = ""
    key: tuple[int, int] | None = None
    source: str = FILE
    variables: tuple[str, ...] = ()
    is_filled: bool = False
    is_broken: bool = False

    @property
    def is_written(self) -> bool:
        """Whether it is written in the file."""
        return self.source == FILE

    @property
    def is_lax(self) -> bool:
        """Whether text may stand for a number or a truth value: variables and flags are always text."""
        return self.is_filled or not self.is_written

    @property
    def entries(self) -> Mapping[str, Node]:
        """The entries of a mapping; none of anything else."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        """The items of a list; none of anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def kind(self) -> str:
        """What it is, for people."""
        if isinstance(self.value, Mapping):
            return "a mapping"
        if isinstance(self.value, tuple):
            return "a list"
        kinds = {bool: "true or false", int: "a number", float: "a number", str: "text"}
        return kinds.get(type(self.value), "nothing")

    def child(self, name: str) -> str:
        """The path of an entry."""
        return f"{self.path}.{name}" if self.path else name

    def holds_broken(self) -> bool:
        """Whether it, or anything in it, is broken."""
        return self.is_broken or any(each.holds_broken() for each in (*self.items, *self.entries.values()))

    def all_variables(self) -> tuple[str, ...]:
        """The environment's variables that are part of it or of anything in it."""
        inside = (name for each in (*self.items, *self.entries.values()) for name in each.all_variables())
        return tuple(dict.fromkeys((*self.variables, *inside)))

    def plain(self) -> Any:
        """The value as plain Python: lists, dicts and scalars."""
        if isinstance(self.value, Mapping):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def with_entry(self, names: tuple[str, ...], given: Node) -> Node:
        """The same with ``given`` in the place that ``names`` lead to; mappings are made on the way.

        What is no mapping on the way is replaced by one.
        """
        name, *rest = names
        entries = dict(self.entries)
        if rest:
            below = entries.get(name)
            if below is None or below.value is None:
                below = replace(given, value={}, path=self.child(name), variables=())
            given = below.with_entry(tuple(rest), given)
        old = entries.get(name)
        entries[name] = given if rest else replace(given, key=None if old is None else old.key)
        return replace(self, value=entries)
