"""Entra tokens of the emulator's own making: JWTs that expire, signed with a key nobody else has."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any

from loom_py.clock import Clock

__all__ = ["AUDIENCES", "DEFAULT_SCOPE", "TokenIssuer"]

DEFAULT_SCOPE = "https://cognitiveservices.azure.com/.default"
AUDIENCES = ("https://cognitiveservices.azure.com", "https://ai.azure.com")
"""The audiences Azure OpenAI takes; the second is the current one."""

_ISSUER = "https://sts.windows.net/00000000-0000-0000-0000-000000000000/"


class TokenIssuer:
    """Issues tokens and recognises them again. The key is drawn anew for each issuer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def issue(self, lifetime: float = 3600, scope: str = DEFAULT_SCOPE) -> str:
        """A bearer token for ``scope`` that is good for ``lifetime`` seconds."""
        now = self._clock.time()
        claims = {
            "aud": scope.removesuffix("/.default").rstrip("/"),
            "iss": _ISSUER,
            "iat": int(now),
            "nbf": int(now),
            "exp": now + lifetime,
            "jti": secrets.token_hex(8),
        }
        header = {"typ": "JWT", "alg": "HS256"}
        signed = f"{_encoded(header)}.{_encoded(claims)}"
        return f"{signed}.{self._signature(signed)}"

    def accepts(self, token: str) -> bool:
        """Whether ``token`` is one of ours, for Azure OpenAI, and has not expired."""
        signed, _, signature = token.rpartition(".")
        if not signed or not token.isascii() or not hmac.compare_digest(signature, self._signature(signed)):
            return False
        claims = _decoded(signed.partition(".")[2])
        return claims["aud"] in AUDIENCES and claims["nbf"] <= self._clock.time() < claims["exp"]

    def _signature(self, signed: str) -> str:
        return _base64(hmac.digest(self._key, signed.encode(), hashlib.sha256))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _encoded(part: dict[str, Any]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _decoded(part: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims
