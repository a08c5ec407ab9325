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

    @property
    def is_on(self) -> bool:
        """Whether anybody listens."""
        return self._sink is not None

    def listen(self, http_client: Any) -> None:
        """Show every request of an ``httpx2.Client``, with the headers it really has."""
        http_client.event_hooks["request"].append(self.request)

    def alisten(self, http_client: Any) -> None:
        """Show every request of an ``httpx2.AsyncClient``."""

        async def show(request: Any) -> None:
            self.request(request)

        http_client.event_hooks["request"].append(show)

    def request(self, request: Any) -> None:
        """A request that is about to leave."""
        self._show(f"→ {request.method} {request.url}\n{_headers(request.headers)}  {_text(request.content)}")

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """A whole answer."""
        if self._sink is not None:
            self._show(f"← {status}\n{_headers(headers)}  {_text(body)}")

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
