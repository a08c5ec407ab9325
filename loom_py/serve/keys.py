"""Keys: made at random, shown once, kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loom_py._log import get_logger
from loom_py.errors import ConfigError
from loom_py.keys._locking import exclusive

__all__ = ["ApiKey", "KeyFile", "KeyRing", "NewKey", "check_names", "new_key"]

PREFIX = "loom-"
"""What every key begins with, so that scanners for leaked secrets can know it."""

LOOK_AGAIN = 1.0
"""Seconds after which a file of keys is looked at again."""

_SCHEME = "sha256:"
_NAME = "it must be 1 to 64 letters, digits or _ . @ - and begin with a letter or a digit"
_HOW_TO_MAKE = "Make one with loom serve-key add NAME --keys FILE, or KeyFile(FILE).add(NAME)."
_log = get_logger()


class ApiKey(BaseModel):
    """Who may call, and how much. Frozen; it holds a hash, never the key.

    Args:
        name: who it is: in logs and metrics.
        hash: of the key, as `new_key` makes it.
        created: when, in UTC.
        requests_per_minute: in any 60 seconds; ``None`` for no limit.
        tokens_per_minute: input and output together; ``None`` for no limit.
        usd_per_day: the most that the key's chats may cost a day (UTC); ``None`` for no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", repr=False)]
    created: str = ""
    requests_per_minute: Annotated[int, Field(ge=1, strict=True)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1, strict=True)] | None = None
    usd_per_day: Annotated[Decimal, Field(gt=0, le=Decimal(10**9), allow_inf_nan=False)] | None = None


class NewKey(NamedTuple):
    """A key that was just made: the ``secret``, to be shown once, and what is kept of it."""

    secret: str
    key: ApiKey

    def __repr__(self) -> str:
        return f"NewKey(secret='***', key={self.key!r})"


def new_key(
    name: str,
    *,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    usd_per_day: Decimal | str | int | None = None,
) -> NewKey:
    """A new key of 256 random bits for ``name``. Raises `ConfigError` for limits that make no sense.

    Only its SHA-256 is kept. A slow hash protects passwords, which can be guessed; nobody guesses 256
    random bits, and a slow one at each request would be a gift to whoever floods the server.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    limits: dict[str, Any] = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "usd_per_day": usd_per_day,
    }
    created = datetime.now(UTC).replace(microsecond=0).isoformat()
    return NewKey(secret, _checked({"name": name, "hash": hashed(secret), "created": created, **limits}))


def hashed(secret: str) -> str:
    """The hash of a key as it is kept."""
    return _SCHEME + hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class KeyFile:
    """A JSON file of keys, readable and writable by its owner alone.

    Raises `ConfigError` for a file that cannot be read, that anybody may change, or that holds no keys.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"

    def load(self) -> tuple[ApiKey, ...]:
        """The keys in the file."""
        try:
            if os.name == "posix" and self.path.stat().st_mode & 0o022:
                raise self._problem("others may change it", f"Run: chmod 600 {self.path}")
            data = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no JSON in UTF-8"
            raise self._problem(reason or type(exc).__name__, _HOW_TO_MAKE) from None
        if not isinstance(data, dict) or not isinstance(data.get("keys"), list):
            raise self._problem('it must be {"keys": [...]}', _HOW_TO_MAKE)
        keys = tuple(map(_checked, data["keys"]))
        check_names(keys, f"the file of keys {self.path}: ")
        return keys

    def add(self, name: str, **limits: Any) -> str:
        """Make a key for ``name``, with limits as of `new_key`, and write it down; the secret, shown once.

        Raises `ConfigError` also where that name has a key already.
        """
        with self._alone():
            known = self.load() if self.path.exists() else ()
            if any(key.name == name for key in known):
                message = f"there is a key named {name!r} already"
                raise ConfigError(message, field="name", hint="Remove it first.")
            made = new_key(name, **limits)
            self._write((*known, made.key))
        return made.secret

    def remove(self, name: str) -> bool:
        """Forget a key; whether there was one. Servers that use the file refuse it within a second."""
        with self._alone():
            known = self.load()
            left = tuple(key for key in known if key.name != name)
            if len(left) < len(known):
                self._write(left)
        return len(left) < len(known)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile: of two that do so at once, each would lose a key."""
        real = self.path.resolve()
        try:
            lock = os.open(real.with_name(f".{real.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise self._problem(exc.strerror or "it cannot be written", None) from None
        try:
            with exclusive(lock):
                yield
        finally:
            os.close(lock)

    def _write(self, keys: Iterable[ApiKey]) -> None:
        """Put the whole file in place at once: who reads it meanwhile sees the old one or the new."""
        data = {"keys": [key.model_dump(mode="json", exclude_none=True) for key in keys]}
        real = self.path.resolve()  # a link to it stays one
        draft = real.with_name(f"{real.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(json.dumps(data, indent=2) + "\n")
            draft.replace(real)
        except OSError as exc:
            with suppress(OSError):
                draft.unlink()
            raise self._problem(exc.strerror or "it cannot be written", None) from None

    def _problem(self, reason: str, hint: str | None) -> ConfigError:
        return ConfigError(f"the file of keys {self.path}: {reason}", field="keys_file", hint=hint)


class KeyRing:
    """The keys a server knows. Safe for threads. Raises `ConfigError` where two have one name.

    A file that becomes unreadable later is logged, and what it said last goes on to hold.
    """

    def __init__(
        self,
        keys: Iterable[ApiKey] = (),
        file: KeyFile | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fixed = tuple(keys)
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp = None if file is None else _stamp(file)
        self._loaded = () if file is None else self._read(file)
        self._next_look = clock() + LOOK_AGAIN

    def find(self, secret: str) -> ApiKey | None:
        """Whose key that is. Takes as long whichever key it is, or none."""
        given = hashed(secret)
        found = None
        for key in self.keys():
            if hmac.compare_digest(key.hash, given):
                found = key
        return found

    def keys(self) -> tuple[ApiKey, ...]:
        """All keys; the file is looked at once a second."""
        with self._lock:
            if self._file is not None and self._clock() >= self._next_look:
                self._next_look = self._clock() + LOOK_AGAIN
                self._look(self._file)
            return (*self._fixed, *self._loaded)

    def _look(self, file: KeyFile) -> None:
        stamp = _stamp(file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._loaded = self._read(file)
        except ConfigError as exc:
            _log.warning("keys_unreadable", error=exc.message)

    def _read(self, file: KeyFile) -> tuple[ApiKey, ...]:
        loaded = file.load()
        check_names((*self._fixed, *loaded))
        return loaded


def check_names(keys: Sequence[ApiKey], where: str = "") -> None:
    """Raises `ConfigError` where two keys have one name: they would share what each of them may use."""
    if len({key.name for key in keys}) < len(keys):
        raise ConfigError(
            f"{where}two keys have the same name", field="keys", hint="Give one of them another."
        )


def _stamp(file: KeyFile) -> tuple[int, int, int, int] | None:
    try:
        found = file.path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _checked(fields: Any) -> ApiKey:
    try:
        return ApiKey.model_validate(fields)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "key"
        problem = _NAME if where == "name" else first["msg"]
        raise ConfigError(f"a key's {where}: {problem}", field=where) from None
