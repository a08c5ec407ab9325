"""Names and ids as Bedrock takes them, and the way back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

__all__ = ["ToolNames", "wire_id"]

LONGEST = 64
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_WIDE_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")


class ToolNames:
    """The names of a call's tools on the wire and back.

    A name that is legal stays as it is; any other is spelled with legal letters and a digest of
    itself, so that it is the same in every call, whatever other tools there are.
    """

    __slots__ = ("_from_wire", "_to_wire")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._to_wire: dict[str, str] = {}
        self._from_wire: dict[str, str] = {}
        names = tuple(names)
        for name in sorted(names, key=lambda name: _NAME.fullmatch(name) is None):
            self.to_wire(name)

    def to_wire(self, name: str) -> str:
        """The name under which the model knows the tool ``name``."""
        known = self._to_wire.get(name)
        if known is None:
            known = name if _NAME.fullmatch(name) else _spelled(name)
            salt = name
            while known in self._from_wire:
                salt += "'"
                known = _spelled(salt)
            self._to_wire[name], self._from_wire[known] = known, name
        return known

    def from_wire(self, name: str) -> str:
        """The tool the model means by ``name``; a name nobody gave it stays."""
        return self._from_wire.get(name, name)


def wire_id(call_id: str, *, strict: bool = True) -> str:
    """The id of a tool call as Bedrock takes it: 1 to 64 letters, digits, ``_`` and ``-``.

    Not ``strict``, also dots and colons: Claude refuses them, other models use them. The same id
    always becomes the same, so that a call and its result stay together.
    """
    pattern = _NAME if strict else _WIDE_ID
    return call_id if pattern.fullmatch(call_id) else _spelled(call_id)


def _spelled(name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    legal = _ILLEGAL.sub("_", name)[: LONGEST - len(digest) - 1]
    return f"{legal}_{digest}"
