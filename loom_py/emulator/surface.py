"""What the emulator's APIs have in common: a request decoded, an answer encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from loom_py.emulator.decode import ChatRequest
from loom_py.emulator.encode import Completion
from loom_py.emulator.wire_errors import WireError
from loom_py.events import StreamEvent
from loom_py.messages import Response

__all__ = ["Encoder", "Surface"]


class Encoder(Protocol):
    """Turns one stream of events into chunks: `start`, then `feed` each event, then `finish`."""

    @property
    def begun(self) -> bool:
        """Whether text or a call has gone out."""
        ...

    @property
    def final(self) -> Response | None:
        """The engine's final response."""
        ...

    def start(self) -> Iterator[dict[str, Any]]: ...

    def feed(self, event: StreamEvent) -> Iterator[dict[str, Any]]: ...

    def finish(self) -> Iterator[dict[str, Any]]: ...

    def error(self, error: WireError) -> dict[str, Any]: ...


class Surface(Protocol):
    """One API of the resource, as one request uses it."""

    @property
    def operation(self) -> str:
        """What Azure calls the operation in its messages."""
        ...

    @property
    def end(self) -> bytes:
        """What a stream that is whole ends with."""
        ...

    def decode(self, body: Mapping[str, Any]) -> ChatRequest:
        """The request in ``body``. Raises `WireError` (400)."""
        ...

    def check(self, request: ChatRequest, body: Mapping[str, Any], model: str) -> None:
        """Raises `WireError` (400) if the service would refuse ``request`` for ``model``."""
        ...

    def whole(self, response: Response, completion: Completion) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        ...

    def encoder(self, completion: Completion) -> Encoder:
        """What encodes a streamed answer."""
        ...

    def frame(self, chunk: Mapping[str, Any]) -> bytes:
        """A chunk as a server-sent event."""
        ...
