"""``${NAME}``, ``${NAME:-default}`` and ``$$`` in the text values of a file.

It is done after the file was parsed, so that no variable can bring YAML of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from loom_py.agent_file.nodes import Node
from loom_py.agent_file.problems import Problems

__all__ = ["expanded"]

_REFERENCE = re.compile(
    r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-)((?:\$\{[^{}]*\}|[^}])*+))?\}|(\{[^}]*\}?))"
)
"""A reference; its default may hold further ones, and ends at the first ``}`` that is not theirs."""


def expanded(node: Node, env: Mapping[str, str], problems: Problems, own: Mapping[str, str]) -> Node:
    """``node`` with the variables of ``env`` filled in, and those of ``own`` before them.

    Only what comes from ``env`` counts as secret.
    """
    if node.items:
        return replace(node, value=tuple(expanded(each, env, problems, own) for each in node.items))
    if node.entries:
        filled = {name: expanded(each, env, problems, own) for name, each in node.entries.items()}
        return replace(node, value=filled)
    if not isinstance(node.value, str) or "$" not in node.value:
        return node
    return _Filling(node, env, problems, own).filled()


class _Filling:
    """Fills in one text."""

    def __init__(
        self, node: Node, env: Mapping[str, str], problems: Problems, own: Mapping[str, str]
    ) -> None:
        self._node = node
        self._env = env
        self._own = own
        self._problems = problems
        self._names: list[str] = []
        self._is_broken = False

    def filled(self) -> Node:
        text = _REFERENCE.sub(self._one, str(self._node.value))
        if self._is_broken:
            return replace(self._node, value=None, is_broken=True)
        names = tuple(dict.fromkeys(self._names))
        if names:
            self._problems.hide(text, _named(names))
        return replace(self._node, value=text, variables=names, is_filled=True)

    def _one(self, found: re.Match[str]) -> str:
        dollar, name, has_default, default, wrong = found.groups()
        if dollar:
            return "$"
        if wrong is not None:
            self._is_broken = True
            self._problems.add(
                self._node,
                f"${_short(wrong)} is no reference to a variable",
                "Write ${NAME} or ${NAME:-default}; a $ that stands for itself is written $$.",
            )
            return ""
        if name in self._own:
            return self._own[name]
        value = self._env.get(name)
        if value or (value is not None and not has_default):
            self._names.append(name)
            self._problems.hide(value, _named((name,)))
            return value
        if has_default:
            return _REFERENCE.sub(self._one, str(default))
        self._is_broken = True
        self._problems.add(
            self._node,
            f"the environment has no variable {name}",
            f"Set {name}, or give a default: ${{{name}:-…}}.",
        )
        return ""


def _named(names: tuple[str, ...]) -> str:
    return " and ".join(f"${{{name}}}" for name in names)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
