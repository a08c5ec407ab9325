"""`KeyStore`: what every place that keeps API keys can do."""

from __future__ import annotations

import re
from typing import Protocol, runtime_checkable

from loom_py.errors import ConfigError

__all__ = ["LONGEST_KEY", "KeyStore", "checked_key", "key_name"]

LONGEST_KEY = 16_384
"""Characters of a key at most. Tokens of Entra ID have a few thousand."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@runtime_checkable
class KeyStore(Protocol):
    """Keeps keys by name. Names are those of providers: ``azure-openai``, ``openai``, ``anthropic``, …

    Every method raises `KeyStoreError` where the store cannot be used, and `ConfigError` for a name that
    is none.
    """

    @property
    def place(self) -> str:
        """Where the keys are, for people: ``keyring (SecretService Keyring)``, ``/home/ada/…/keys.json``."""
        ...

    def get(self, name: str) -> str | None:
        """The key of that name, ``None`` if there is none."""
        ...

    def set(self, name: str, key: str) -> None:
        """Keep ``key`` under ``name``, in place of the one that was there."""
        ...

    def delete(self, name: str) -> bool:
        """Forget the key of that name; whether there was one."""
        ...

    def names(self) -> tuple[str, ...]:
        """The names of all keys, sorted."""
        ...


def key_name(name: str) -> str:
    """``name`` as it is kept: in lower case, with hyphens. Raises `ConfigError` for one that is none."""
    text = name.strip().lower().replace("_", "-")
    if not _NAME.fullmatch(text):
        raise ConfigError(
            f"{name[:80]!r} is no name for a key",
            field="name",
            hint="Use a provider's name, such as azure-openai or anthropic: letters, digits, . and -.",
        )
    return text


def checked_key(key: str) -> str:
    """``key`` without white space around it. Raises `ConfigError`, without the key, if it is none."""
    text = key.strip()
    if not text:
        raise ConfigError("the key is empty", field="key")
    if len(text) > LONGEST_KEY:
        raise ConfigError(f"the key has more than {LONGEST_KEY:,} characters", field="key")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(
            "the key must be one line of ASCII characters without spaces",
            field="key",
            hint="Copy it again: it may hold a line break or a typographic character.",
        )
    return text
