"""Chunks of a stream that repeat the one before them in all but their text.

Most of a stream is the same JSON again and again around another word. `Repeats` learns what stands before and
after the text, and takes the text of such a chunk without reading all of it as JSON. What a string of JSON
could escape is left to a real reader, so the text is the same either way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["Repeats"]

TRIES = 8
"""How often what surrounds the text is learned anew in one stream, where it does not stay the same."""

_PLAIN = re.compile(rb'[^"\\\x00-\x1f]+')
_PROBE = "\N{INVISIBLE SEPARATOR}loom\N{INVISIBLE SEPARATOR}"


class Repeats:
    """What surrounds the text of the last chunks, once it is known."""

    __slots__ = ("_after", "_before", "_least", "_tries")

    def __init__(self) -> None:
        self._before = b""
        self._after = b""
        self._least = 0
        self._tries = TRIES

    def text(self, payload: bytes) -> str | None:
        """The text in a chunk that repeats what is known; ``None`` for any other."""
        before, after = self._before, self._after
        if not before or not payload.startswith(before) or not payload.endswith(after):
            return None
        text = payload[len(before) : -len(after)]
        if len(payload) < self._least or _PLAIN.fullmatch(text) is None:
            return None
        try:
            return text.decode()
        except UnicodeDecodeError:
            return None

    def learn(self, payload: bytes, text: str, read: Callable[[bytes], Any]) -> None:
        """Take ``payload``, whose text is ``text``, for what the next chunks repeat.

        It is, if another text in that place is what ``read`` then finds in the chunk.
        """
        if self._before or not self._tries:
            return
        self._tries -= 1
        spelled = b'"' + text.encode("utf-8", "replace") + b'"'
        if payload.count(spelled) != 1:
            return
        start = payload.index(spelled) + 1
        before, after = payload[:start], payload[start + len(spelled) - 2 :]
        if read(before + _PROBE.encode() + after) == _PROBE:
            self._before, self._after = before, after
            self._least = len(before) + len(after) + 1

    def forget(self) -> None:
        """There was news: what the next chunks repeat is to be learned anew."""
        self._before = self._after = b""
