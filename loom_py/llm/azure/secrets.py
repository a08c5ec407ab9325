"""The credentials of one client: kept out of texts, and asked for again once they are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import SecretStr

from loom_py.llm.azure.auth import TokenSource
from loom_py.llm.azure.settings import bare_token

__all__ = ["Secrets"]

SHORTEST_SECRET = 6
"""Characters from which a credential is looked for in texts; a shorter one would be found in words."""


class Secrets:
    """Every credential a client has used: the static ones and those its sources have given."""

    def __init__(self, static: Iterable[SecretStr | None], *sources: TokenSource | None) -> None:
        self._static = [secret.get_secret_value() for secret in static if secret is not None]
        self._sources = [source for source in sources if source is not None]

    def mask(self, text: str) -> str:
        """``text`` without any credential that might have been echoed in it."""
        given = [secret for source in self._sources for secret in source.given]
        for secret in (*self._static, *given):
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text

    def refused(self, sent: Mapping[str, str]) -> None:
        """The credential in the headers that were ``sent`` was refused: the next call asks for another."""
        secret = bare_token(sent.get("authorization") or "") or sent.get("api-key") or ""
        for source in self._sources:
            source.forget(secret)
