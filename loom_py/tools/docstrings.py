"""What a docstring says of a function and its parameters, in Google, NumPy or Sphinx style.

The reader is tolerant: a docstring in no style at all is one description, and no text makes it
fail. Sections that are about the result (returns, yields, raises) are left out of the description;
examples and notes stay in it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["parse_docstring"]

_PARAMETER_SECTIONS = frozenset(
    {
        "args",
        "arguments",
        "parameters",
        "params",
        "keyword args",
        "keyword arguments",
        "other args",
        "other arguments",
        "other parameters",
    }
)
_RESULT_SECTIONS = frozenset(
    {"returns", "return", "yields", "yield", "raises", "raise", "receives", "warns", "attributes"}
)
_TEXT_SECTIONS = frozenset(
    {
        "example",
        "examples",
        "note",
        "notes",
        "references",
        "see also",
        "todo",
        "warning",
        "warnings",
    }
)
_SECTIONS = _PARAMETER_SECTIONS | _RESULT_SECTIONS | _TEXT_SECTIONS

_UNDERLINE = re.compile(r"^\s*(-{3,}|={3,})\s*$")
_NAME = re.compile(r"^\\?\*{0,2}`{0,2}\\?\*{0,2}(?P<name>\w+)`{0,2}")
_FIELD = re.compile(r"^[:@](?P<kind>[a-zA-Z]+)(?P<rest>(?:\s+[^:]+)?):(?:\s+(?P<doc>.*))?$")
_PARAMETER_FIELDS = frozenset({"param", "parameter", "arg", "argument", "key", "keyword", "kwarg"})
_OTHER_FIELDS = frozenset(
    {"type", "return", "returns", "rtype", "raise", "raises", "except", "exception", "yield", "yields"}
)


@dataclass(slots=True)
class _Entries:
    """The parameters of a section as they are found, each with the lines of its text."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    _current: tuple[str, ...] = ()

    def open(self, names: tuple[str, ...], text: str) -> None:
        self._current = names
        for name in names:
            self.texts[name] = [text.strip()]

    def more(self, text: str) -> None:
        for name in self._current:
            self.texts[name].append(text.strip())

    def close(self) -> None:
        self._current = ()

    def joined(self) -> dict[str, str]:
        return {name: " ".join(line for line in lines if line) for name, lines in self.texts.items()}


def parse_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """The description in ``text``, and what it says of each parameter by name.

    The text of a parameter is joined to one line; a parameter that is named without a text is
    left out. Text that follows no style is all description.
    """
    if not text or not text.strip():
        return "", {}
    lines = inspect.cleandoc(text).splitlines()
    entries = _Entries()
    description: list[str] = []
    position = 0
    while position < len(lines):
        position = _read(lines, position, description, entries)
    found = {name: doc for name, doc in entries.joined().items() if doc}
    return _paragraphs(description), found


def _read(lines: list[str], position: int, description: list[str], entries: _Entries) -> int:
    """Read one line, field or section; the position after it."""
    line = lines[position]
    if (kind := _field_kind(line)) is not None:
        return _read_field(lines, position, kind, entries)
    title = _numpy_title(lines, position)
    if title is not None and title not in _TEXT_SECTIONS:
        end = _numpy_end(lines, position + 2)
        if title in _PARAMETER_SECTIONS:
            _read_numpy_entries(lines[position + 2 : end], entries)
        return end
    title = _google_title(line)
    if title is not None and title not in _TEXT_SECTIONS:
        end = _google_end(lines, position, wants_entries=title in _PARAMETER_SECTIONS)
        if title in _PARAMETER_SECTIONS:
            _read_google_entries(lines[position + 1 : end], entries)
        return end
    description.append(line)
    return position + 1


def _paragraphs(lines: list[str]) -> str:
    """The lines as text, with at most one empty line in a row."""
    return re.sub(r"\n\s*\n\s*\n+", "\n\n", "\n".join(line.rstrip() for line in lines)).strip()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


# ── Google ───────────────────────────────────────────────────────────────────────────────


def _google_title(line: str) -> str | None:
    text = line.strip()
    title = text[:-1].strip().lower() if text.endswith(":") else ""
    return title if title in _SECTIONS else None


def _google_end(lines: list[str], start: int, *, wants_entries: bool) -> int:
    """Where the section that starts at ``start`` ends: at the first line that is not indented under it."""
    base = _indent(lines[start])
    position = start + 1
    while position < len(lines) and not lines[position].strip():
        position += 1
    if position < len(lines) and _indent(lines[position]) <= base:
        return _flat_end(lines, start + 1) if wants_entries else start + 1
    while position < len(lines) and (not lines[position].strip() or _indent(lines[position]) > base):
        position += 1
    return position


def _flat_end(lines: list[str], position: int) -> int:
    """The end of a parameter section whose author did not indent it."""
    while position < len(lines) and lines[position].strip():
        if _google_title(lines[position]) is not None or _google_entry(lines[position]) is None:
            break
        position += 1
    return position


def _read_google_entries(lines: list[str], entries: _Entries) -> None:
    base = min((_indent(line) for line in lines if line.strip()), default=0)
    for line in lines:
        entry = _google_entry(line) if line.strip() and _indent(line) == base else None
        if entry is not None:
            entries.open(*entry)
        else:
            entries.more(line)
    entries.close()


def _google_entry(line: str) -> tuple[tuple[str, ...], str] | None:
    """The names and text of ``name (type): text``, where the type may hold anything in balance."""
    text = re.sub(r"^[-*•]\s+", "", line.strip())
    match = _NAME.match(text)
    if match is None:
        return None
    rest = text[match.end() :].lstrip()
    if rest.startswith("("):
        rest = rest[_balanced(rest) :].lstrip()
    if rest.startswith((":", "–", "— ")):
        return (match["name"],), rest[1:]
    return None


def _balanced(text: str) -> int:
    """The length of the bracketed expression that ``text`` starts with."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return position + 1
    return len(text)


# ── NumPy ────────────────────────────────────────────────────────────────────────────────


def _numpy_title(lines: list[str], position: int) -> str | None:
    if position + 1 >= len(lines) or not _UNDERLINE.match(lines[position + 1]):
        return None
    title = lines[position].strip().rstrip(":").lower()
    return title if title in _SECTIONS else None


def _numpy_end(lines: list[str], position: int) -> int:
    while position < len(lines):
        underlined = position + 1 < len(lines) and _UNDERLINE.match(lines[position + 1])
        if (underlined and lines[position].strip()) or _field_kind(lines[position]) is not None:
            break
        position += 1
    return position


def _read_numpy_entries(lines: list[str], entries: _Entries) -> None:
    base = min((_indent(line) for line in lines if line.strip()), default=0)
    for line in lines:
        if line.strip() and _indent(line) == base:
            entries.open(tuple(_numpy_names(line)), "")
        else:
            entries.more(line)
    entries.close()


def _numpy_names(line: str) -> Iterator[str]:
    """The names before the colon of ``a, b : int, optional``."""
    for part in line.split(":", 1)[0].split(","):
        match = _NAME.match(part.strip())
        if match is not None:
            yield match["name"]


# ── Sphinx ───────────────────────────────────────────────────────────────────────────────


def _field_kind(line: str) -> str | None:
    match = _FIELD.match(line.strip())
    if match is None:
        return None
    kind = match["kind"].lower()
    return kind if kind in _PARAMETER_FIELDS or kind in _OTHER_FIELDS else None


def _read_field(lines: list[str], position: int, kind: str, entries: _Entries) -> int:
    """Read ``:param type name: text`` and the lines that go on with it."""
    match = _FIELD.match(lines[position].strip())
    words = match["rest"].split() if match is not None else []
    name = _NAME.match(words[-1]) if words else None
    if match is not None and name is not None and kind in _PARAMETER_FIELDS:
        entries.open((name["name"],), match["doc"] or "")
    else:
        entries.close()
    base = _indent(lines[position])
    position += 1
    after_blank = False
    while position < len(lines):
        line = lines[position]
        if not line.strip():
            after_blank = True
        elif _field_kind(line) is not None or (after_blank and _indent(line) <= base):
            break
        else:
            entries.more(line)
        position += 1
    entries.close()
    return position
