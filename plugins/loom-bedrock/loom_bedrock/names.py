"""Names and ids as Bedrock takes them, and the way back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

__all__ = ["CallIds", "ToolNames", "legal_metadata", "wire_id"]

LONGEST = 64
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_METADATA = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}", re.ASCII)
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


class CallIds:
    """The ids of a conversation's calls on the wire: legal, and each used once.

    Providers may count anew in each reply; Claude refuses an id that comes twice. Results are taken to come
    in the order of their calls where a reply uses one id for several.
    """

    __slots__ = ("_awaited", "_strict", "_used")

    def __init__(self, *, strict: bool = True) -> None:
        self._strict = strict
        self._used: set[str] = set()
        self._awaited: dict[str, list[str]] = {}

    def next_reply(self) -> None:
        """Another reply begins: what was not answered will not be."""
        self._awaited = {}

    def of_call(self, call_id: str) -> str:
        """The id of the next call with this id."""
        wire, place = wire_id(call_id, strict=self._strict), 2
        while wire in self._used:
            wire, place = _spelled(f"{call_id} {place}"), place + 1
        self._used.add(wire)
        self._awaited.setdefault(call_id, []).append(wire)
        return wire

    def of_result(self, call_id: str) -> str:
        """The id of the call that a result with this id answers."""
        awaited = self._awaited.get(call_id)
        if not awaited:
            return wire_id(call_id, strict=self._strict)
        return awaited.pop(0) if len(awaited) > 1 else awaited[0]


def legal_metadata(text: str) -> str:
    """``text`` as a value of a request's metadata: at most 256 of the characters that Bedrock takes there.

    Another text is spelled with legal characters and a digest, so that two of them stay apart.
    """
    return text if _METADATA.fullmatch(text) else _spelled(text)


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
