"""YAML text to nodes with their places: by PyYAML's parser, by the rules of YAML 1.2 for plain values.

YAML 1.1 reads ``no`` as false, ``2024-10-21`` as a date and ``1:30`` as 90; here they are text. No tag
makes an object. What a text may amount to is bounded, however many aliases it has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from loom_py.agent_file.nodes import Node, Scalar
from loom_py.agent_file.problems import Problems

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "documents"]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_VALUES = 20_000

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_SURROGATE = re.compile("[\ud800-\udfff]")
_SCALARS = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str")}


class _Loader(yaml.SafeLoader):
    """Plain values by the core schema of YAML 1.2 (section 10.3.2 of its specification)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's name


for _kind, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", list("-+0123456789")),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(rf"{_pattern}\Z"), _first)


def documents(data: bytes, problems: Problems) -> list[Node]:
    """The documents in ``data``; what is wrong with it goes to ``problems``. Empty ones are left out."""
    text = _text(data, problems)
    if text is None:
        return []
    found = []
    loader: Any = None
    try:
        loader = _Loader(text)
        while loader.check_node():
            root = loader.get_node()
            if not (isinstance(root, yaml.ScalarNode) and root.tag == f"{_TAG}null"):
                found.append(_Reading(problems).node(root, "", 0))
    except yaml.MarkedYAMLError as exc:
        _add_syntax(exc, text, problems)
    except yaml.YAMLError as exc:  # only the reader's, about a character, and already looked for
        problems.at(1, 1, f"not YAML: {exc}")
    except (RecursionError, _TooDeepError):
        problems.at(1, 1, f"the file is nested deeper than {MAX_DEPTH} levels")
    except _TooMuchError:
        problems.at(1, 1, f"with its aliases written out the file has more than {MAX_VALUES:,} values")
    except (ValueError, OverflowError):  # what PyYAML raises for an escape that is no character
        mark = loader.get_mark()
        problems.at(mark.line + 1, mark.column + 1, "not YAML: this escape is no character")
    finally:
        if loader is not None:
            loader.dispose()
    return found


def _text(data: bytes, problems: Problems) -> str | None:
    if len(data) > MAX_BYTES:
        problems.at(
            1,
            1,
            f"the file has {len(data):,} bytes; an agent's file has at most {MAX_BYTES:,}",
            "Keep a long prompt in a file of its own: system_prompt: {file: prompt.md}",
        )
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = data[: exc.start].decode("utf-8-sig", "replace")
        problems.at(*_place(before), f"byte 0x{data[exc.start]:02x} is not UTF-8", "Save the file as UTF-8.")
        return None
    if found := yaml.reader.Reader.NON_PRINTABLE.search(text):
        message = f"the character U+{ord(found.group()):04X} may not stand in YAML"
        problems.at(*_place(text[: found.start()]), message, "Remove it.")
        return None
    return text


def _place(before: str) -> tuple[int, int]:
    """Line and column, from 1, of what comes after the text ``before``."""
    lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", before)
    return len(lines), len(lines[-1]) + 1


def _add_syntax(exc: yaml.MarkedYAMLError, text: str, problems: Problems) -> None:
    mark = exc.problem_mark or exc.context_mark
    line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
    lines = text.splitlines()
    there = lines[line - 1] if line <= len(lines) else ""
    words = [part for part in (exc.context, exc.problem) if part]
    hint = None
    if "character '\\t'" in (exc.problem or ""):
        hint = "YAML is indented with spaces, not with tabs."
    elif "flow" in (exc.context or "") and "${" in there:
        hint = "Within { } and [ ] a ${NAME} stands in quotes."
    elif "mapping values are not allowed" in (exc.problem or ""):
        hint = "Put text that has a colon and a space in quotes, and check the indentation."
    problems.at(line, column, f"not YAML: {', '.join(words) or 'it cannot be read'}", hint)


class _TooDeepError(Exception):
    pass


class _TooMuchError(Exception):
    pass


class _Reading:
    """Turns one document of PyYAML's nodes into ours."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._count = 0

    def node(self, given: yaml.Node, path: str, depth: int) -> Node:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _TooMuchError
        if depth > MAX_DEPTH:  # an alias inside of what it stands for gets here, too
            raise _TooDeepError
        line, column = _start(given)
        made = Node(None, line, column, path)
        if isinstance(given, yaml.ScalarNode):
            return self._scalar(given, made)
        if isinstance(given, yaml.SequenceNode):
            if self._is_tagged(given, made, "seq"):
                return replace(made, is_broken=True)
            items = [self.node(each, f"{path}[{index}]", depth + 1) for index, each in enumerate(given.value)]
            return Node(tuple(items), line, column, path)
        assert isinstance(given, yaml.MappingNode)
        if self._is_tagged(given, made, "map"):
            return replace(made, is_broken=True)
        return Node(self._entries(given, made, depth), line, column, path)

    def _entries(self, given: yaml.MappingNode, made: Node, depth: int) -> dict[str, Node]:
        merged: dict[str, Node] = {}
        own: dict[str, Node] = {}
        for key, value in given.value:
            place = _start(key)
            if key.tag == _MERGE:
                for merged_name, node in self._merged(value, made, depth):
                    merged.setdefault(merged_name, node)
                continue
            if (name := self._name(key, made)) is None:
                continue
            node = self.node(value, made.child(name), depth + 1)
            node = Node(node.value, node.line, node.column, node.path, place, is_broken=node.is_broken)
            if (first := own.get(name)) is not None:
                where = first.key or (first.line, first.column)
                self._problems.add(
                    node, f"{name!r} is given twice, first in line {where[0]}", "Keep one.", at_key=True
                )
                continue
            own[name] = node
        return {**merged, **own}

    def _name(self, key: yaml.Node, made: Node) -> str | None:
        line, column = _start(key)
        if not isinstance(key, yaml.ScalarNode):
            self._problems.at(line, column, "a name must be text, not a list or a mapping")
            return None
        if key.tag not in _SCALARS:
            self._problems.at(
                line, column, f"the tag {_shown_tag(key.tag)} is not known here", "Leave it out."
            )
            return None
        return _SURROGATE.sub("\ufffd", key.value)

    def _merged(self, value: yaml.Node, made: Node, depth: int) -> Iterator[tuple[str, Node]]:
        """The entries of the mappings that ``<<`` names; of several the first one wins."""
        parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                line, column = _start(part)
                self._problems.at(line, column, "<< takes a mapping, or a list of mappings")
                continue
            yield from self.node(part, made.path, depth + 1).entries.items()

    def _scalar(self, given: yaml.ScalarNode, made: Node) -> Node:
        value: Scalar = given.value
        kind = given.tag.removeprefix(_TAG)
        if _SURROGATE.search(given.value):
            self._problems.add(made, "the text has half of a character, an escape \\uD800 to \\uDFFF")
            return Node(None, made.line, made.column, made.path, is_broken=True)
        try:
            if given.tag not in _SCALARS:
                message = f"the tag {_shown_tag(given.tag)} is not known here"
                self._problems.add(made, message, "Leave it out: a file holds plain values only.")
                return Node(None, made.line, made.column, made.path, is_broken=True)
            if kind != "str":
                value = _READ[kind](given.value)
        except (ValueError, KeyError):
            self._problems.add(made, f"this is no {kind}", "Put text in quotes.")
            return Node(None, made.line, made.column, made.path, is_broken=True)
        return Node(value, made.line, made.column, made.path)

    def _is_tagged(self, given: yaml.Node, made: Node, wanted: str) -> bool:
        """Whether it has a tag that it may not have, which is reported."""
        if given.tag == f"{_TAG}{wanted}":
            return False
        message = f"the tag {_shown_tag(given.tag)} is not known here"
        self._problems.add(made, message, "Leave it out: a file holds plain values only.")
        return True


def _start(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _shown_tag(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _int(text: str) -> int:
    """The number. Raises `ValueError` for one of more digits than Python writes, in any base."""
    number = int(text, 0 if text[:2] in ("0x", "0o") else 10)
    str(number)
    return number


def _float(text: str) -> float:
    special = text.lower().lstrip("+-")
    if special in (".inf", ".nan"):
        sign = -1.0 if text.startswith("-") else 1.0
        return sign * (math.inf if special == ".inf" else math.nan)
    return float(text)


_READ: dict[str, Any] = {
    "null": {"": None, "~": None, "null": None, "Null": None, "NULL": None}.__getitem__,
    "bool": {
        "true": True,
        "True": True,
        "TRUE": True,
        "false": False,
        "False": False,
        "FALSE": False,
    }.__getitem__,
    "int": _int,
    "float": _float,
}
