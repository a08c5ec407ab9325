"""The credentials of one client: kept out of texts, and asked for again once Azure refuses them."""

from __future__ import annotations

from collections.abc import Mapping

from loom_py.llm.azure.auth import TokenSource
from loom_py.llm.azure.config import AzureOpenAIConfig, bare_token

__all__ = ["Secrets"]

SHORTEST_SECRET = 6
"""Characters from which a credential is looked for in texts; a shorter one would be found in words."""


class Secrets:
    """Every credential a client has used: the static ones and those its sources have given."""

    def __init__(self, config: AzureOpenAIConfig, *sources: TokenSource | None) -> None:
        kept = (config.api_key, config.entra_token)
        self._static = [secret.get_secret_value() for secret in kept if secret is not None]
        self._sources = [source for source in sources if source is not None]

    def mask(self, text: str) -> str:
        """``text`` without any credential that might have been echoed in it."""
        given = [secret for source in self._sources for secret in source.given]
        for secret in (*self._static, *given):
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text

    def refused(self, sent: Mapping[str, str]) -> None:
        """Azure refused the credential in the headers it was ``sent``: the next call asks for another."""
        secret = bare_token(sent.get("authorization") or "") or sent.get("api-key") or ""
        for source in self._sources:
            source.forget(secret)
