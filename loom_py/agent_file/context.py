"""What reading a file needs at hand: where it looks things up, and where it notes what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from loom_py.agent_file.fields import MISSING, Field, is_secret
from loom_py.agent_file.file import Keys
from loom_py.agent_file.imports import imported
from loom_py.agent_file.nodes import FAILED, Node
from loom_py.agent_file.problems import Problems
from loom_py.description import Setting, masked
from loom_py.errors import BuilderError, ConfigError

__all__ = ["Context"]

_PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):(.+)(?=@)")


@dataclass(slots=True)
class Context:
    """One file being read."""

    path: Path
    folder: Path
    env: Mapping[str, str]
    keys: Keys | None
    problems: Problems
    settings: list[Setting] = field(default_factory=list)

    def take(self, node: Node, fields: Mapping[str, Field], what: str) -> dict[str, Node]:
        """The entries of the mapping ``node``, without those that are none of the ``fields``."""
        if not isinstance(node.value, Mapping):
            if not node.is_broken:
                self.problems.add(node, f"{what} must be a mapping, not {node.kind}")
            return {}
        for name, each in node.entries.items():
            if name not in fields:
                self.unknown(each, name, fields, what)
        return {name: each for name, each in node.entries.items() if name in fields}

    def unknown(
        self, node: Node, name: str, known: Iterable[str], what: str, hint: str | None = None
    ) -> None:
        """Report a name that nobody knows."""
        known = list(known)
        close = get_close_matches(name, known, n=1)
        told = hint or (f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(known)}.")
        self.problems.add(node, f"{what} has no setting {name!r}", told, at_key=True)

    def value(self, field: Field, node: Node) -> Any:
        """The value of a field as it is given to the builder; `FAILED` if it is none, which is reported."""
        if node.holds_broken():
            return FAILED
        if field.form == "import":
            return self._imported(field, node)
        read = field.read(node, self.problems) if field.form == "value" else self._mapping(field, node)
        if read is not FAILED:
            self.record(node, read)
        return read

    def _mapping(self, field: Field, node: Node) -> Any:
        if node.value is None and field.default is not MISSING:
            return field.default
        if isinstance(node.value, Mapping):
            return node.plain()
        self.problems.add(node, f"{field.name} must be a mapping, not {node.kind}")
        return FAILED

    def _imported(self, field: Field, node: Node) -> Any:
        if node.value is None and field.default is not MISSING:
            return field.default
        if field.type == list[str]:
            nodes = node.items if isinstance(node.value, tuple) else (node,)
            things = [imported(each, self.problems) for each in nodes]
            thing: Any = FAILED if any(each is FAILED for each in things) else tuple(things)
        else:
            thing = imported(node, self.problems)
        if thing is not FAILED:
            self.record(node, node.plain())
        return thing

    def attempt(self, node: Node, make: Callable[[], object]) -> Any:
        """What ``make`` gives; what it raises is reported at the field it names, and gives `FAILED`."""
        try:
            return make()
        except BuilderError as exc:
            for problem in exc.problems:
                self.problems.add(below(node, problem.field), problem.message, problem.remedy)
        except ConfigError as exc:
            self.problems.add_error(below(node, exc.field), exc)
        except Exception as exc:  # noqa: BLE001 - a user's or a plugin's own mistakes belong on the list too
            self.problems.add_error(node, exc)
        return FAILED

    # ── where values come from ───────────────────────────────────────────────────────────

    def record(self, node: Node, value: Any, *, name: str | None = None) -> None:
        """Note a setting that was given, with its source."""
        source = node.source
        variables = node.all_variables()
        if node.is_written:
            told = f" ({', '.join(f'${{{each}}}' for each in variables)})" if variables else ""
            source = f"{self.path.name}:{node.line}{told}"
        is_hidden = bool(variables and node.is_written)
        self.settings.append(Setting(name or node.path, shown(node.path, value, is_hidden), source))

    def default(self, path: str, value: Any) -> None:
        """Note a setting that has its default."""
        self.settings.append(Setting(path, shown(path, value, False), "default"))

    def defaults(self, path: str, fields: Mapping[str, Field], given: Iterable[str]) -> None:
        """Note the defaults of all ``fields`` that were not given."""
        taken = set(given)
        for name, each in fields.items():
            if name not in taken and each.default is not MISSING and each.default not in (None, ()):
                self.default(f"{path}.{name}", each.default)

    def from_environment(self, node: Node, name: str, variables: Iterable[str]) -> Node | None:
        """The entry ``name`` of ``node`` from the first of the ``variables`` that is set."""
        for variable in variables:
            if value := self.env.get(variable, "").strip():
                if is_secret(name):
                    self.problems.hide(value)
                return replace(
                    self.foreign(node, name, value, f"environment ({variable})"), variables=(variable,)
                )
        return None

    def foreign(self, node: Node, name: str, value: Any, source: str) -> Node:
        """An entry of ``node`` that is not written in the file."""
        old = node.entries.get(name)
        line, column = (node.line, node.column) if old is None else (old.line, old.column)
        return Node(value, line, column, node.child(name), None if old is None else old.key, source)

    def hide_secrets(self, node: Node) -> None:
        """Keep every secret that is written in the file out of messages."""
        if isinstance(node.value, str):
            for found in _PASSWORD.finditer(node.value):
                self.problems.hide(found[2])
        for name, each in node.entries.items():
            if is_secret(name):
                for text in _texts(each):
                    self.problems.hide(text)
        for each in (*node.items, *node.entries.values()):
            self.hide_secrets(each)


def below(node: Node, name: str | None) -> Node:
    """The node of the field ``name``, ``"prices.gpt-4o.input"``, or the one that is nearest to it."""
    rest = name or ""
    while rest and node.entries:
        for entry, each in node.entries.items():
            if rest == entry or rest.startswith(f"{entry}."):
                node, rest = each, rest[len(entry) + 1 :]
                break
        else:  # what pydantic calls the part of a union is no entry
            rest = rest.partition(".")[2]
    return node


def shown(path: str, value: Any, is_hidden: bool) -> Any:
    """A value for people, without secrets."""
    if value is None or value is MISSING:
        return None
    if isinstance(value, Mapping):
        return {name: shown(f"{path}.{name}", each, is_hidden) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(path, each, is_hidden) for each in value]
    if is_hidden or any(is_secret(part) for part in path.split(".")):
        return masked(str(value))
    if isinstance(value, str):
        return _PASSWORD.sub(r"\1:***", value)
    return value


def _texts(node: Node) -> Iterable[str]:
    if isinstance(node.value, str):
        yield node.value
    for each in (*node.items, *node.entries.values()):
        yield from _texts(each)
