"""Credentials in the one shape the SDK takes: a function that gives a valid token.

A credential may be an azure-identity ``TokenCredential`` (sync or async), a function or
coroutine function that returns a token, or nothing (the API key or static token is used).
Tokens are kept until shortly before they expire.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from loom_py._concurrency import FairLock, run_coroutine, run_in_thread
from loom_py.errors import AuthenticationError, ConfigError, LoomError, MissingDependencyError
from loom_py.llm.azure.settings import bare_token

__all__ = ["KeySource", "KeyVaultSecret", "TokenProvider", "TokenSource", "default_credential"]

TokenProvider: TypeAlias = Callable[[], "str | Awaitable[str]"]
KeySource: TypeAlias = Callable[[], "str | Awaitable[str]"]
"""A function or coroutine function that returns an API key, or a `KeyVaultSecret`."""

REFRESH_BEFORE = 300.0
"""Seconds before its expiry that a token is replaced, as azure-identity's own cache does."""

KEPT_TOKENS = 32
"""How many tokens back a text is searched for, so that none is shown."""


class TokenSource:
    """Tokens for Azure OpenAI from a credential object or a token provider.

    Raises `ConfigError` for an object that is neither. A credential that fails raises
    `AuthenticationError`; its own error text is kept, its token never.
    """

    def __init__(self, source: Any, scope: str, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._scope = scope
        self._clock = clock
        # Of many calls that find no token one asks for it. Threads and tasks wait apart: a blocking
        # call made on an event loop must never wait for a task of that loop.
        self._turn = threading.Lock()
        self._async_turn = FairLock()
        self._token = ""
        self._given: tuple[str, ...] = ()
        self._expires_on = 0.0
        get_token = getattr(source, "get_token", None)
        self._keeps = callable(get_token)  # a provider function keeps its own cache
        if callable(get_token):
            self._ask: Callable[[], Any] = lambda: get_token(scope)
            function: Any = get_token
        elif callable(source):
            self._ask, function = source, source
        else:
            raise ConfigError(
                f"a credential must have get_token() or be callable, not {type(source).__name__}",
                field="credential",
            )
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            type(function).__call__
        )

    def __repr__(self) -> str:
        return f"TokenSource({self.described})"

    def token(self) -> str:
        """A valid token, from blocking code."""
        with self._turn if self._keeps else nullcontext():
            return self._kept() or self._fetch()

    async def atoken(self) -> str:
        """A valid token, from async code; a blocking credential runs in a thread."""
        if kept := self._kept():
            return kept
        if not self.is_async:
            return await run_in_thread(self.token)
        async with self._async_turn.ahold() if self._keeps else nullcontext():
            return self._kept() or await self._afetch()

    def _fetch(self) -> str:
        try:
            answer = self._ask()
            if inspect.isawaitable(answer):
                answer = run_coroutine(_await(answer))
        except Exception as exc:  # noqa: BLE001 - whatever the credential raises
            failure = _failed(exc)
        else:
            return self._keep(answer)
        raise failure

    async def _afetch(self) -> str:
        try:
            answer = await self._ask()
        except Exception as exc:  # noqa: BLE001 - whatever the credential raises
            failure = _failed(exc)
        else:
            return self._keep(answer)
        raise failure

    @property
    def given(self) -> tuple[str, ...]:
        """The tokens given last, to be kept out of texts: calls with an older one may be under way."""
        return self._given

    @property
    def described(self) -> str:
        """What the tokens come from, for people."""
        kept = isinstance(self._source, KeyVaultSecret)
        return repr(self._source) if kept else label(self._source)

    def forget(self, refused: str = "") -> None:
        """The server refused the token: ask for another next time.

        Of many calls that were refused with one token the first makes it forgotten; a token that
        has come since, and is not the ``refused`` one, is kept.
        """
        if not refused or refused == self._token:
            self._expires_on = 0.0

    def _kept(self) -> str:
        return self._token if self._clock() < self._expires_on - REFRESH_BEFORE else ""

    def _keep(self, answer: Any) -> str:
        token = answer if isinstance(answer, str) else getattr(answer, "token", None)
        expires_on = getattr(answer, "expires_on", None)
        token = bare_token(token) if isinstance(token, str) else ""
        if not token:
            raise AuthenticationError(
                "the credential gave no token", hint="Check what the token provider returns."
            )
        if token not in self._given:
            self._given = (*self._given, token)[-KEPT_TOKENS:]
        self._token = token
        self._expires_on = float(expires_on) if isinstance(expires_on, (int, float)) else 0.0
        return token


def default_credential() -> Any:
    """azure-identity's ``DefaultAzureCredential``. Raises `MissingDependencyError` without the package."""
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError:
        raise MissingDependencyError(
            "DefaultAzureCredential needs the package azure-identity", hint="pip install 'loom-py[azure]'"
        ) from None
    return DefaultAzureCredential()


class KeyVaultSecret:
    """An API key that lives in Azure Key Vault, for ``api_key=``.

    ``vault`` is the vault's name or URL, ``name`` the secret's. The key is read when first needed
    and again after ``refresh_after`` seconds, or at once when Azure refuses it, so that it can be
    rotated while the process runs. ``client`` is an azure-keyvault-secrets ``SecretClient`` of your
    own, sync or async; without one it is made with ``DefaultAzureCredential`` (extra ``azure``).

    Raises `ConfigError` where one of the two names is empty.
    """

    def __init__(
        self,
        vault: str,
        name: str,
        *,
        client: Any = None,
        refresh_after: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not vault.strip() or not name.strip():
            raise ConfigError("KeyVaultSecret needs the names of a vault and of a secret", field="api_key")
        self.vault = _vault_url(vault.strip())
        self.name = name.strip()
        self._client = client
        self._refresh_after = refresh_after
        self._clock = clock

    def __repr__(self) -> str:
        return f"KeyVaultSecret({self.vault!r}, {self.name!r})"

    def get_token(self, _scope: str) -> _Secret:
        """The key, with the time it is to be read again."""
        if self._client is None:
            self._client = _secret_client(self.vault)
        secret = self._client.get_secret(self.name)
        if inspect.isawaitable(secret):
            secret = run_coroutine(_await(secret))
        return _Secret(secret.value or "", self._clock() + self._refresh_after + REFRESH_BEFORE)

    def __call__(self) -> str:
        """The key, read from the vault."""
        return self.get_token("").token


@dataclass(frozen=True, slots=True)
class _Secret:
    token: str = field(repr=False)
    expires_on: float


def _vault_url(vault: str) -> str:
    if "://" in vault:
        return vault.rstrip("/")
    return f"https://{vault}" if "." in vault else f"https://{vault}.vault.azure.net"


def _secret_client(vault: str) -> Any:
    try:
        from azure.keyvault.secrets import SecretClient
    except ImportError:
        raise MissingDependencyError(
            "KeyVaultSecret needs the package azure-keyvault-secrets", hint="pip install 'loom-py[azure]'"
        ) from None
    return SecretClient(vault, default_credential())


async def _await(answer: Awaitable[Any]) -> Any:
    return await answer


def label(source: object) -> str:
    """The name of a credential's class, or of a function."""
    return getattr(source, "__name__", None) or type(source).__name__


def _failed(exc: Exception) -> LoomError:
    if isinstance(exc, LoomError):
        return exc
    return AuthenticationError(
        f"the credential failed: {type(exc).__name__}: {exc}",
        hint="Sign in, or check the identity this process runs under.",
    )
