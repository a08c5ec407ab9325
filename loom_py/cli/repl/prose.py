"""An answer's Markdown, drawn while it arrives: wrapped at words, lightly styled, never redrawn."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from rich.cells import cell_len

__all__ = ["Piece", "Prose"]

LONGEST_HELD = 400
"""Characters for which the end of ``**bold`` or of ```code`` is waited for; then the marks are text."""

LONGEST_WORD = 40
"""Characters of a word that are held back until it is whole; a longer one is shown in parts."""

_FENCE = re.compile(r" {0,3}(```|~~~)")
_HEADING = re.compile(r"#{1,6} +")
_ITEM = re.compile(r"( {0,30})(?:([-*+])|(\d{1,3}[.)])) +")
_QUOTE = re.compile(r"> ?")
_TABLE = re.compile(r"\|")
_SPACE = re.compile(r"[ \t]+")
_WORD = re.compile(rf"[^ \t\n]{{1,{LONGEST_WORD}}}")
_SPANS = (
    ("**", re.compile(r"\*\*(?=\S)((?:(?!\*\*).)+?)(?<=\S)\*\*"), "bold"),
    ("`", re.compile(r"`([^`]+)`"), "cyan"),
)
_MARK = re.compile(r" {0,30}(?:#{0,6}|[-*+]|\d{0,3}[.)]?|>|`{0,3}|~{0,3}) *\Z")
"""A beginning of a line that may still become a mark of its own."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text to print as it is, in a style of rich."""

    text: str
    style: str = ""


class Prose:
    """Turns text that arrives in pieces into lines of at most ``width`` cells, indented by ``indent``.

    What comes out does not depend on how the text was cut. Words are never lost: marks of Markdown that
    do not pair are shown as they are. Lines of code and of tables are not wrapped.
    """

    def __init__(self, width: int, indent: int = 2) -> None:
        self._width = max(width, indent + 10)
        self._indent = indent
        self._rest = ""
        self._is_code = False
        self._is_finished = False
        self._column = 0
        self._hanging = indent
        self._style = ""
        self._is_line_start = True
        self._is_raw = False
        self._gap = 0

    @property
    def is_at_start(self) -> bool:
        """Whether nothing stands on the line yet."""
        return self._column == 0

    def feed(self, text: str) -> list[Piece]:
        """What can be shown, now that ``text`` has arrived."""
        self._rest += text
        return list(self._taken())

    def finish(self) -> list[Piece]:
        """All that was held back, and the end of the line; ready for a new text."""
        self._is_finished = True
        pieces = list(self._taken())
        if self._column:
            pieces.append(Piece("\n"))
        self.__init__(self._width, self._indent)  # type: ignore[misc]
        return pieces

    # ── from the text that is held ───────────────────────────────────────────────────────

    def _taken(self) -> Iterator[Piece]:
        while self._rest:
            if self._is_line_start and not (yield from self._begun()):
                return
            line, newline, _ = self._rest.partition("\n")
            if not line and not newline:
                return  # the line was a mark and nothing else, so far
            if not line:
                self._rest = self._rest[1:]
                yield from self._ended()
            elif not (yield from (self._raw() if self._is_raw else self._worded(bool(newline)))):
                return

    def _begun(self) -> Generator[Piece, None, bool]:
        """Look at the marks a line begins with; whether enough of it is there to tell."""
        line, newline, _ = self._rest.partition("\n")
        is_open = not newline and not self._is_finished
        if is_open and (_MARK.match(line) or (not line.strip() and len(line) < LONGEST_WORD)):
            return False
        self._is_line_start = False
        self._hanging = self._indent
        if _FENCE.match(line):
            self._is_code = not self._is_code
            self._is_raw, self._style = True, "dim"
        elif self._is_code or _TABLE.match(line):
            self._is_raw, self._style = True, "cyan" if self._is_code else ""
        elif found := _HEADING.match(line):
            self._rest, self._style = self._rest[found.end() :], "bold underline"
        elif found := _QUOTE.match(line):
            self._rest, self._style = self._rest[found.end() :], "italic"
            yield from self._put("│", "dim")
            self._gap, self._hanging = 1, self._indent + 2
        elif found := _ITEM.match(line):
            self._rest = self._rest[found.end() :]
            depth, bullet, number = found.groups()
            self._gap = min(len(depth), self._width // 3)
            yield from self._put("•" if bullet else number, "bold")
            self._gap, self._hanging = 1, self._column + 1
        return True

    def _raw(self) -> Generator[Piece, None, bool]:
        """The line as it is, as far as it has arrived."""
        line = self._rest.partition("\n")[0]
        yield from self._margin()
        yield Piece(line, self._style)
        self._column += cell_len(line)
        self._rest = self._rest[len(line) :]
        return True

    def _worded(self, is_whole: bool) -> Generator[Piece, None, bool]:
        """The next words of the line; whether there were any that are whole."""
        is_whole = is_whole or self._is_finished
        if found := _SPACE.match(self._rest):
            if found.end() == len(self._rest) and not is_whole:
                return False
            self._gap, self._rest = len(found.group().expandtabs(4)), self._rest[found.end() :]
            return True
        for mark, span, style in _SPANS:
            if not self._rest.startswith(mark) and not (not is_whole and mark.startswith(self._rest)):
                continue
            line = self._rest.partition("\n")[0][:LONGEST_HELD]
            if found := span.match(line):
                self._rest = self._rest[found.end() :]
                yield from self._phrase(found[1], f"{self._style} {style}".strip())
                return True
            if not is_whole and len(line) < LONGEST_HELD:
                return False
        found = _WORD.match(self._rest)
        assert found is not None
        if found.end() == len(self._rest) and found.end() < LONGEST_WORD and not is_whole:
            return False
        self._rest = self._rest[found.end() :]
        yield from self._put(found.group(), self._style)
        return True

    def _phrase(self, text: str, style: str) -> Iterator[Piece]:
        for number, word in enumerate(text.split(" ")):
            if number:
                self._gap += 1
            if word:
                yield from self._put(word, style)

    # ── onto the screen ──────────────────────────────────────────────────────────────────

    def _put(self, word: str, style: str) -> Iterator[Piece]:
        """A word, on this line if it has room, else on the next; one longer than a line is cut."""
        is_glued = not self._gap
        if self._gap and self._column + self._gap + cell_len(word) > self._width:
            yield from self._wrapped()
        yield from self._margin()
        if self._gap:
            yield Piece(" " * self._gap)
            self._column, self._gap = self._column + self._gap, 0
        while word:
            room = self._width - self._column
            cells = cell_len(word)
            fits = cells <= room or (is_glued and cells <= min(2, room + 2))  # a comma stays with its word
            part = word if fits else _beginning(word, room)
            if not part and self._column > self._hanging:
                yield from self._wrapped()
                continue
            part = part or word[0]
            yield Piece(part, style)
            self._column += cell_len(part)
            word = word[len(part) :]

    def _margin(self) -> Iterator[Piece]:
        if self._column == 0:
            yield Piece(" " * self._indent)
            self._column = self._indent

    def _wrapped(self) -> Iterator[Piece]:
        if self._column <= self._hanging:
            return
        yield Piece("\n" + " " * self._hanging)
        self._column, self._gap = self._hanging, 0

    def _ended(self) -> Iterator[Piece]:
        """The end of a line of the text."""
        yield Piece("\n")
        self._column = self._gap = 0
        self._is_line_start, self._is_raw, self._style = True, False, ""


def _beginning(word: str, cells: int) -> str:
    """As much of ``word`` as takes at most ``cells`` cells."""
    used = 0
    for number, character in enumerate(word):
        used += cell_len(character)
        if used > cells:
            return word[:number]
    return word
