"""A real endpoint as the emulator's engine: its answers are passed on, recorded, and replayed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import httpx2

from loom_py.emulator.cassette import Cassette, Recording, Scrubber
from loom_py.emulator.wire_errors import WireError, gateway_error
from loom_py.errors import ConfigError, InvalidEndpointError

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["AzureUpstream"]

_HOP_BY_HOP = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "date",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_CREDENTIALS = frozenset({"api-key", "authorization", "cookie", "ocp-apim-subscription-key"})


class _Reply(Protocol):
    async def start(self, status: int, headers: Mapping[str, str]) -> None: ...

    async def write(self, piece: bytes) -> None: ...

    async def end(self, piece: bytes = b"") -> None: ...


class AzureUpstream:
    """Answers come from a real Azure OpenAI, or from a cassette of one.

    ::

        engine = AzureUpstream(endpoint="https://….openai.azure.com", api_key=key, cassette="chat.jsonl")
        engine = AzureUpstream(replay="chat.jsonl")

    Args:
        endpoint: where requests are passed on to, path and query unchanged.
        api_key: the key sent there instead of the client's.
        token: a bearer token sent there instead of a key.
        cassette: a file each exchange is added to, secrets taken out.
        replay: a cassette to answer from; nothing is passed on then.
        match: ``"strict"`` replays in order and refuses another request with a 500 that says what
            differs; ``"best"`` replays what has the same path and the most similar body.
        timeout: seconds an upstream may be silent.

    Secrets are masked in headers and query fields by name; the keys in use, bearer tokens and JWTs
    wherever they stand. Raises `ConfigError` without an endpoint or a cassette to replay.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        api_key: str | None = None,
        token: str | None = None,
        cassette: str | Path | None = None,
        replay: str | Path | None = None,
        match: str = "strict",
        timeout: float = 600.0,
    ) -> None:
        if (endpoint is None) == (replay is None):
            raise ConfigError("an upstream takes either endpoint= or replay=", field="endpoint")
        if match not in {"strict", "best"}:
            raise ConfigError(f'match must be "strict" or "best", not {match!r}', field="match")
        if endpoint is not None and urlsplit(endpoint).scheme not in {"http", "https"}:
            raise InvalidEndpointError(f"the upstream {endpoint!r} is not an http(s) URL", field="endpoint")
        self.endpoint = None if endpoint is None else endpoint.rstrip("/")
        self.timeout = timeout
        self._credential = _credential(api_key, token)
        self._secrets = [secret for secret in (api_key, token) if secret]
        self._cassette = None if cassette is None else Path(cassette)
        self._replay = None if replay is None else Cassette(Path(replay), strict=match == "strict")
        self._tls = httpx2.create_ssl_context() if (self.endpoint or "").startswith("https") else None
        self._writing = threading.Lock()

    def __repr__(self) -> str:
        return f"AzureUpstream({self.endpoint or f'replay, {self.remaining} exchanges left'})"

    @property
    def remaining(self) -> int:
        """Exchanges of the replayed cassette that have not been used; 0 where none is replayed."""
        return 0 if self._replay is None else self._replay.remaining

    async def forward(self, request: Request, raw: bytes, reply: _Reply) -> None:
        """Answer ``request`` through ``reply``. Raises `WireError` if there is no answer."""
        scrubber = Scrubber([*self._secrets, *_credentials_in(request)])
        if self._replay is not None:
            await _play(self._find(request, raw, scrubber), reply)
        else:
            await self._pass_on(request, raw, reply, scrubber)

    # ── replay ───────────────────────────────────────────────────────────────────────────

    def _find(self, request: Request, raw: bytes, scrubber: Scrubber) -> Recording:
        assert self._replay is not None
        try:
            return self._replay.take(request.method, request.scope["path"], scrubber.body(_parsed(raw)))
        except LookupError as error:
            raise gateway_error(500, "CassetteMismatch", str(error)) from None

    # ── pass on and record ───────────────────────────────────────────────────────────────

    async def _pass_on(self, request: Request, raw: bytes, reply: _Reply, scrubber: Scrubber) -> None:
        headers = {
            name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP | _CREDENTIALS
        }
        headers |= {**self._credential, "accept-encoding": "identity"}
        query = request.scope["query_string"].decode("latin-1")
        url = f"{self.endpoint}{request.scope['path']}" + (f"?{query}" if query else "")
        client = httpx2.AsyncClient(verify=self._tls or False, timeout=self.timeout)
        async with client:
            try:
                sent = client.build_request(request.method, url, headers=headers, content=raw)
                response = await client.send(sent, stream=True)
            except httpx2.HTTPError as error:
                raise _unreachable(error) from error
            try:
                await self._relay(request, raw, response, reply, scrubber)
            finally:
                await response.aclose()

    async def _relay(
        self, request: Request, raw: bytes, response: Any, reply: _Reply, scrubber: Scrubber
    ) -> None:
        headers = {name: value for name, value in response.headers.items() if name not in _HOP_BY_HOP}
        chunks: list[bytes] = []
        whole = False
        try:
            await reply.start(response.status_code, headers)
            async for chunk in _chunks(response):
                chunks.append(chunk)
                await reply.write(chunk)
            whole = True
        except httpx2.HTTPError as error:
            raise ConnectionResetError("the upstream broke off") from error
        finally:
            if self._cassette is not None:
                recording = Recording(
                    request.method,
                    request.scope["path"],
                    scrubber.fields(dict(request.query_params), headers=False),
                    scrubber.body(_parsed(raw)),
                    response.status_code,
                    scrubber.fields(headers, headers=True),
                    tuple(scrubber.chunks(chunks)),
                    whole,
                    scrubber.fields(dict(request.headers), headers=True),
                )
                self._write(self._cassette, recording)
        await reply.end()

    def _write(self, path: Path, recording: Recording) -> None:
        with self._writing, path.open("a", encoding="utf-8") as file:
            file.write(recording.to_json() + "\n")


async def _chunks(response: Any) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_raw():
        if chunk:
            yield chunk


async def _play(recording: Recording, reply: _Reply) -> None:
    headers = {name: value for name, value in recording.headers.items() if name not in _HOP_BY_HOP}
    await reply.start(recording.status, headers)
    for chunk in recording.chunks:
        await reply.write(chunk)
        await asyncio.sleep(0)  # let it go out as a chunk of its own
    if not recording.whole:
        raise ConnectionResetError("the recorded answer broke off here")
    await reply.end()


def _credential(api_key: str | None, token: str | None) -> dict[str, str]:
    if api_key is not None:
        return {"api-key": api_key}
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _credentials_in(request: Request) -> list[str]:
    """The client's own credentials, which must not be recorded either."""
    return [
        request.headers[name].rpartition(" ")[2] for name in sorted(_CREDENTIALS) if name in request.headers
    ]


def _parsed(raw: bytes) -> Any:
    """The JSON of a body, or its text."""
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def _unreachable(error: Exception) -> WireError:
    return gateway_error(502, "UpstreamUnreachable", f"The upstream gave no answer: {type(error).__name__}.")
