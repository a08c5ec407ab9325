"""One request on its way through the emulator, and the answer on its way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.types import Send

from loom_py.clock import Clock
from loom_py.emulator.catalogue import Situation
from loom_py.emulator.chat_surface import ChatSurface
from loom_py.emulator.encode import encode_json
from loom_py.emulator.fault_plan import Effects
from loom_py.emulator.faults import Answer
from loom_py.emulator.quotas import Grant
from loom_py.emulator.resource import RecordedRequest, Resource
from loom_py.emulator.responses_surface import ResponsesSurface
from loom_py.emulator.surface import Surface
from loom_py.emulator.wire_errors import WireError

__all__ = ["ABORT", "Exchange", "Reply", "StreamCutError"]

ABORT = "loom_py.abort"
"""The key in the ASGI scope of what closes the connection at once; only our own server sets it."""

_PIECES_PER_SECOND = 20
"""How often a slow answer sends something."""


class StreamCutError(ConnectionResetError):
    """Leaves the application in the middle of an answer: the server then drops the connection."""


class Reply:
    """The answer on its way out: what was sent, and whether it was all."""

    def __init__(self, send: Send, record: RecordedRequest, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self.record = record
        self.bytes_per_second: float | None = None
        self.started = False
        self.complete = False

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and the headers."""
        self.started = True
        self.record.status = status
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body, slowly if ``bytes_per_second`` says so."""
        if self.bytes_per_second is None:
            await self._write(piece)
            return
        size = max(1, int(self.bytes_per_second / _PIECES_PER_SECOND))
        for start in range(0, len(piece), size):
            part = piece[start : start + size]
            await self._clock.asleep(len(part) / self.bytes_per_second)
            await self._write(part)

    async def _write(self, piece: bytes) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, piece: bytes = b"") -> None:
        """Send the last piece of the body."""
        if self.bytes_per_second is not None:
            await self.write(piece)
            piece = b""
        self.complete = True
        await self._send({"type": "http.response.body", "body": piece, "more_body": False})

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole answer."""
        await self.start(status, {**headers, "content-length": str(len(body))})
        await self.end(b"" if self.record.method == "HEAD" else body)


@dataclass(slots=True)
class Exchange:
    """One request on its way through the application."""

    resource: Resource
    request: Request
    reply: Reply
    request_id: str
    apim_id: str
    surface: Surface = field(default_factory=ChatSurface)
    v1: bool = False
    deployment: str = ""
    model: str = ""
    grant: Grant | None = None
    effects: Effects = field(default_factory=Effects)

    @property
    def situation(self) -> Situation:
        """What the wording of a failure depends on."""
        return Situation(
            self.request_id,
            self.deployment,
            self.resource.deployments.get(self.deployment, self.deployment),
            self.resource.region,
            self.request.query_params.get("api-version") or "v1",
            self.surface.operation,
            self.effects.retry_after,
            self.resource.quirks,
        )

    async def answer(self, answer: WireError | Answer) -> None:
        """Send a failure or a raw answer."""
        if isinstance(answer, WireError):
            await self.refuse(answer)
        else:
            await self.reply.whole(answer.status, self.headers(answer.headers), answer.content)

    async def refuse(self, error: WireError) -> None:
        """Answer with ``error``."""
        dialect = self.resource.dialect
        error = dialect.worded(error, self)
        headers: dict[str, str] = {}
        if error.media_type is not None:
            headers["content-type"] = error.media_type
        reached = error.from_model and bool(self.model)
        if reached:
            headers.update(dialect.refusal_headers(error))
        headers.update(error.headers)
        body = error.body
        content = (
            body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else encode_json(body)
        )
        everything = self.headers(headers, from_model=reached, region=error.status != 401)
        await self.reply.whole(error.status, everything, content)

    def headers(
        self, own: Mapping[str, str], *, from_model: bool = False, region: bool = True
    ) -> dict[str, str]:
        """The service's headers, the model's if it was reached, and the answer's ``own``."""
        headers = self.resource.dialect.headers(self, from_model=from_model, region=region)
        return {**headers, **{name.lower(): value for name, value in own.items()}}

    def use(self, surface: type[ChatSurface | ResponsesSurface]) -> None:
        """Answer by this surface."""
        if issubclass(surface, ResponsesSurface):
            self.surface = surface(self.resource.conversations)
        else:
            self.surface = surface()

    def shaped(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """An answer or a chunk as the service writes it; ``None`` where it writes none."""
        return self.resource.dialect.shaped(body, self)
