"""`KeyringStore`: keys in the system's keyring, by way of the package keyring."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from loom_py.errors import KeyStoreError, MissingDependencyError
from loom_py.keys._locking import exclusive
from loom_py.keys._places import default_file
from loom_py.keys.store import checked_key, key_name

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

__all__ = ["SERVICE", "KeyringStore"]

Names: TypeAlias = set[str]

SERVICE = "loom-py"
"""The name under which a keyring shows the keys."""

INDEX = ":names"
"""The entry with the names of all others, for a keyring cannot list its entries; no key has a colon."""

NO_KEYRING = "there is no keyring on this machine"
INSTEAD = "Keep keys in a file only you can read: loom config set-key NAME --file. Or set LOOM_KEYS=file."


class KeyringStore:
    """Keys in the system's keyring: Keychain, Credential Locker, Secret Service, KWallet, …

    ``backend`` is one of the package keyring's; without it, that package's choice is used (which
    ``PYTHON_KEYRING_BACKEND`` can make). Raises `KeyStoreError` where there is no keyring, and
    `MissingDependencyError` without the package (extra ``cli``).
    """

    def __init__(self, backend: KeyringBackend | None = None) -> None:
        self._backend: Any = backend if backend is not None else _system_keyring()

    def __repr__(self) -> str:
        return f"KeyringStore({self._label})"

    @property
    def _label(self) -> str:
        return str(getattr(self._backend, "name", type(self._backend).__name__))

    @property
    def place(self) -> str:
        return f"keyring ({self._label})"

    def get(self, name: str) -> str | None:
        """The key of that name, ``None`` if there is none."""
        return self._get(key_name(name))

    def set(self, name: str, key: str) -> None:
        """Keep ``key`` under ``name``, in place of the one that was there."""
        name, key = key_name(name), checked_key(key)
        with self._told("write to"):
            self._backend.set_password(SERVICE, name, key)
        with self._changing_index() as names:
            names.add(name)

    def delete(self, name: str) -> bool:
        """Forget the key of that name; whether there was one."""
        name = key_name(name)
        is_there = self._get(name) is not None
        if is_there:
            with self._told("write to"):
                self._backend.delete_password(SERVICE, name)
        with self._changing_index() as names:
            names.discard(name)
        return is_there

    def names(self) -> tuple[str, ...]:
        """The names of all keys that `set` has put there, sorted."""
        return tuple(sorted(name for name in self._index() if self._get(name) is not None))

    # ── the keyring itself ───────────────────────────────────────────────────────────────

    def _get(self, entry: str) -> str | None:
        with self._told("read"):
            found = self._backend.get_password(SERVICE, entry)
        return found if isinstance(found, str) and found else None

    def _index(self) -> Names:
        try:
            names = json.loads(self._get(INDEX) or "[]")
        except ValueError:
            return set()
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()

    @contextmanager
    def _changing_index(self) -> Iterator[Names]:
        """The names, to be changed; of two processes that do so at once, neither undoes the other."""
        with _one_at_a_time():
            names = self._index()
            before = frozenset(names)
            yield names
            if names != before:
                with self._told("write to"):
                    self._backend.set_password(SERVICE, INDEX, json.dumps(sorted(names)))

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        """The keyring's refusals, as `KeyStoreError`; what they say never holds a key of ours."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - backends raise errors of the libraries below them
            problem = f"cannot {verb} the keyring ({self._label}): {type(exc).__name__}"
            raise KeyStoreError(problem, hint=f"Unlock it. {INSTEAD}") from None


def _system_keyring() -> KeyringBackend:
    try:
        import keyring
        from keyring.backends import chainer, fail, null
    except ImportError:
        raise MissingDependencyError(
            "the system's keyring needs the package keyring", hint="pip install 'loom-py[cli]'"
        ) from None
    try:
        found = keyring.get_keyring()
    except Exception as exc:  # noqa: BLE001 - a backend named in a variable or a file may not exist
        raise KeyStoreError(f"the keyring cannot be opened: {exc}", hint=INSTEAD) from None
    is_empty_chain = isinstance(found, chainer.ChainerBackend) and not found.backends
    if isinstance(found, (fail.Keyring, null.Keyring)) or is_empty_chain:
        raise KeyStoreError(NO_KEYRING, hint=INSTEAD)
    return found


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold a lock that every process of this user can find; without one where none can be made."""
    path = default_file().with_name(".keyring.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError:
        yield
        return
    try:
        with exclusive(descriptor):
            yield
    finally:
        os.close(descriptor)
