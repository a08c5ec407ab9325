"""Requests and answers as they travelled, printed for a human, with credentials masked."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["WireDebug"]

_SECRET_NAME = re.compile(r"key|token|secret|auth|cookie|password|credential", re.IGNORECASE)
_NO_SECRET = re.compile(r"tokens(_details)?$|ratelimit|cache_key$", re.IGNORECASE)
_JSON_PAIR = re.compile(r'("(?P<name>[\w-]+)"\s*:\s*)"(?:[^"\\]|\\.)+"')
_BEARER = re.compile(r"\b(Bearer )\S{8,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")


class WireDebug:
    """Prints what travels over the wire to ``sink``; does nothing without one."""

    __slots__ = ("_mask", "_sink")

    def __init__(self, sink: Callable[[str], object] | None, mask: Callable[[str], str]) -> None:
        self._sink = sink
        self._mask = mask

    @classmethod
    def of(cls, setting: bool | Callable[[str], object], mask: Callable[[str], str]) -> WireDebug:
        """From the user's ``wire_debug=``: ``True`` means standard error."""
        if setting is True:
            return cls(lambda text: print(text, file=sys.stderr), mask)
        return cls(setting if callable(setting) else None, mask)

    def listen(self, http_client: Any) -> None:
        """Show every request of an ``httpx2.Client``, with the headers it really has."""
        self._add(http_client, self.request)

    def alisten(self, http_client: Any) -> None:
        """Show every request of an ``httpx2.AsyncClient``."""
        self._add(http_client, self.arequest)

    def _add(self, http_client: Any, hook: Callable[..., object]) -> None:
        hooks = http_client.event_hooks["request"]
        if self._sink is not None and hook not in hooks:
            hooks.append(hook)

    def unlisten(self, http_client: Any) -> None:
        """Show no more of a client that goes on to serve others."""
        hooks = http_client.event_hooks["request"]
        for hook in (self.request, self.arequest):
            if hook in hooks:
                hooks.remove(hook)

    def request(self, request: Any) -> None:
        """A request that is about to leave."""
        self._show(f"→ {request.method} {request.url}\n{_headers(request.headers)}  {_text(request.content)}")

    async def arequest(self, request: Any) -> None:
        """`request`, async."""
        self.request(request)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """A whole answer, or the head of a streamed one."""
        if self._sink is not None:
            self._show(f"← {status}\n{_headers(headers)}  {_text(body)}".rstrip())

    def data(self, data: bytes) -> None:
        """The next bytes of a streamed answer."""
        if self._sink is not None:
            self._show(f"← {_text(data)}")

    def _show(self, text: str) -> None:
        if self._sink is not None:
            self._sink(_BEARER.sub(r"\1***", self._mask(text)))


def _text(body: bytes) -> str:
    return _JSON_PAIR.sub(_without_secret, body.decode("utf-8", "replace"))


def _without_secret(pair: re.Match[str]) -> str:
    """A JSON property as it is, or masked where its name says that it holds a secret."""
    return f'{pair[1]}"***"' if _is_secret(pair["name"]) else pair[0]


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None and _NO_SECRET.search(name) is None


def _headers(headers: Mapping[str, str]) -> str:
    return "".join(f"  {name}: {'***' if _is_secret(name) else value}\n" for name, value in headers.items())
