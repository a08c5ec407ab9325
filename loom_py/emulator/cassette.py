"""Cassettes: exchanges with a real endpoint, one JSON object a line, without their secrets."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Self

from loom_py.errors import ConfigError

__all__ = ["Cassette", "Recording", "Scrubber", "load_cassette"]

MASK = "***"
_SECRET_HEADERS = frozenset(
    {
        "api-key",
        "authorization",
        "cookie",
        "ocp-apim-subscription-key",
        "proxy-authorization",
        "set-cookie",
        "x-api-key",
        "x-ms-client-principal",
    }
)
_SECRET_FIELDS = frozenset(
    {"api-key", "api_key", "apikey", "code", "key", "sig", "subscription-key", "token", "access_token"}
)
_BEARER = re.compile(r"(?i)\bBearer\s+[A-Za-z0-9._~+/=-]{8,}")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+")


class Scrubber:
    """Takes secrets out: by the name of a header or query field, and by value wherever it stands."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """``text`` without known secrets, bearer tokens and JWTs."""
        for secret in self._secrets:
            text = text.replace(secret, MASK).replace(json.dumps(secret)[1:-1], MASK)
        return _JWT.sub(MASK, _BEARER.sub(f"Bearer {MASK}", text))

    def fields(self, fields: Mapping[str, str], *, headers: bool) -> dict[str, str]:
        """Headers or query fields, lower-case, with the values of secret ones masked."""
        secret = _SECRET_HEADERS if headers else _SECRET_FIELDS
        return {
            name.lower() if headers else name: MASK if name.lower() in secret else self.text(value)
            for name, value in fields.items()
        }

    def body(self, value: Any) -> Any:
        """A JSON value without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self.body(item) for key, item in value.items()}
        return [self.body(item) for item in value] if isinstance(value, list) else value

    def chunks(self, chunks: Sequence[bytes]) -> list[bytes]:
        """The chunks of a body. Where a secret lies across two, the body becomes one chunk."""
        cleaned = [self._bytes(chunk) for chunk in chunks]
        whole = self._bytes(b"".join(chunks))
        return cleaned if b"".join(cleaned) == whole else [whole]

    def _bytes(self, data: bytes) -> bytes:
        return self.text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _chunk_to_json(chunk: bytes) -> Any:
    try:
        return chunk.decode()
    except UnicodeDecodeError:  # a network may cut inside a character
        return {"base64": base64.b64encode(chunk).decode("ascii")}


def _chunk_from_json(chunk: Any) -> bytes:
    return base64.b64decode(chunk["base64"]) if isinstance(chunk, dict) else str(chunk).encode()


@dataclass(frozen=True, slots=True)
class Recording:
    """One exchange. ``chunks`` are the body as it arrived; ``whole`` is false if it broke off."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    status: int
    headers: dict[str, str]
    chunks: tuple[bytes, ...] = field(repr=False)
    whole: bool = True
    request_headers: dict[str, str] = field(default_factory=dict, repr=False)

    def to_json(self) -> str:
        """One line of a cassette."""
        request = {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.request_headers,
            "body": self.body,
        }
        chunks = [_chunk_to_json(chunk) for chunk in self.chunks]
        response = {"status": self.status, "headers": self.headers, "chunks": chunks, "whole": self.whole}
        return json.dumps({"request": request, "response": response}, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The exchange `to_json` wrote. Raises `ValueError`, `KeyError` or `TypeError` on other text."""
        data = json.loads(line)
        request, response = data["request"], data["response"]
        return cls(
            request["method"],
            request["path"],
            request.get("query", {}),
            request.get("body"),
            int(response["status"]),
            response.get("headers", {}),
            tuple(_chunk_from_json(chunk) for chunk in response["chunks"]),
            bool(response.get("whole", True)),
            request.get("headers", {}),
        )

    def difference(self, method: str, path: str, body: Any) -> str | None:
        """How a request differs from the recorded one; ``None`` if it does not."""
        if (method, path) != (self.method, self.path):
            return f"expected {self.method} {self.path}, got {method} {path}"
        if body == self.body:
            return None
        if isinstance(body, dict) and isinstance(self.body, dict):
            keys = {*body, *self.body}
            names = sorted(key for key in keys if body.get(key) != self.body.get(key))
            return f"the body differs in {', '.join(names) or 'its keys'}"
        return "the body differs"

    def similarity(self, body: Any) -> float:
        """How alike a request's body is to the recorded one: 1.0 for the same."""
        if body == self.body:
            return 1.0
        asked, known = (json.dumps(item, sort_keys=True) for item in (body, self.body))
        return 0.999 * SequenceMatcher(None, asked, known, autojunk=False).ratio()


def load_cassette(path: Path) -> list[Recording]:
    """The exchanges in a cassette file. Raises `ConfigError` naming the bad line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"the cassette {path} cannot be read: {error.strerror}", field="replay") from error
    recordings = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            recordings.append(Recording.from_json(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"line {number} of the cassette {path} is no exchange", field="replay"
            ) from error
    return recordings


class Cassette:
    """A cassette being replayed: in order (``strict``), or by what is most alike."""

    def __init__(self, path: Path, *, strict: bool) -> None:
        self._recordings = load_cassette(path)
        self._strict = strict
        self._lock = threading.Lock()
        self._used: set[int] = set()

    @property
    def remaining(self) -> int:
        """Exchanges not yet replayed."""
        with self._lock:
            return len(self._recordings) - len(self._used)

    def take(self, method: str, path: str, body: Any) -> Recording:
        """The exchange for a request. Raises `LookupError` saying what was expected."""
        with self._lock:
            index = self._next(method, path, body) if self._strict else self._closest(method, path, body)
            self._used.add(index)
            return self._recordings[index]

    def _next(self, method: str, path: str, body: Any) -> int:
        index = len(self._used)
        if index >= len(self._recordings):
            raise LookupError(f"all {index} exchanges of the cassette have been replayed")
        difference = self._recordings[index].difference(method, path, body)
        if difference is not None:
            raise LookupError(f"exchange {index + 1} of the cassette does not match: {difference}")
        return index

    def _closest(self, method: str, path: str, body: Any) -> int:
        """The most alike; of several, one not yet used, then the first."""
        ranks = [
            (-recording.similarity(body), index in self._used, index)
            for index, recording in enumerate(self._recordings)
            if (recording.method, recording.path) == (method, path)
        ]
        if not ranks:
            raise LookupError(f"the cassette has no exchange for {method} {path}")
        return min(ranks)[2]
