"""Requests and answers as they travelled, printed for a human, with credentials masked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["WireDebug"]

SECRET_HEADERS = frozenset({"api-key", "authorization", "cookie", "set-cookie", "ocp-apim-subscription-key"})


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
            self._sink(self._mask(text))


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _headers(headers: Mapping[str, str]) -> str:
    return "".join(
        f"  {name}: {'***' if name.lower() in SECRET_HEADERS else value}\n" for name, value in headers.items()
    )
