"""Keeps credentials out of every text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from loom_bedrock.config import SECRETS, BedrockConfig
from loom_bedrock.credentials import BEARER_VARIABLE

__all__ = ["Mask"]

_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", BEARER_VARIABLE)
_PATTERNS = (
    (re.compile(r"(x-amz-security-token[:=]\s*)\S+", re.IGNORECASE), r"\1***"),
    (re.compile(r"(Signature=)[0-9a-f]{8,}"), r"\1***"),
    (re.compile(r"(Bearer\s+)[\w.+/=-]{20,}"), r"\1***"),
)
"""What a service may repeat of a request: it never sees the secret key, but token and signature it does."""

LEAST = 8
"""Characters of a text from which on it can be a credential; a shorter one would mask ordinary words."""


class Mask:
    """Replaces credentials in a text by ``***``."""

    def __init__(self, config: BedrockConfig, in_use: Callable[[], Iterable[str]]) -> None:
        given = (getattr(config, name) for name in SECRETS)
        self._given = tuple(value.get_secret_value() for value in given if value is not None)
        self._in_use = in_use

    def __call__(self, text: str) -> str:
        variables = (os.environ.get(name, "") for name in _VARIABLES)
        secrets = {*self._given, *variables, *self._in_use()}
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= LEAST:
                text = text.replace(secret, "***")
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text
