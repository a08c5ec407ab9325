"""Which store is used: what was asked for, else the keyring, else a key file that was made before."""

from __future__ import annotations

import os

from loom_py.errors import ConfigError, KeyStoreError
from loom_py.keys._places import default_file
from loom_py.keys.file_store import FileStore
from loom_py.keys.keyring_store import KeyringStore
from loom_py.keys.store import KeyStore

__all__ = ["VARIABLE", "LazyStore", "open_store"]

VARIABLE = "LOOM_KEYS"
"""The environment's variable that says which store is used: ``keyring``, ``file`` or ``file:PATH``."""


def open_store(where: str | None = None) -> KeyStore:
    """The store that ``where`` names: ``"keyring"``, ``"file"`` or ``"file:PATH"``.

    Without it ``LOOM_KEYS`` says where. Without that it is the keyring; and on a machine that has none, the
    key file in its usual place, if you have made one. Raises `KeyStoreError` where there is neither, and
    `ConfigError` for a place that is none.
    """
    said = where if where is not None else os.environ.get(VARIABLE, "").strip()
    if not said:
        return _usual()
    kind, colon, path = said.partition(":")
    if kind == "keyring" and not colon:
        return KeyringStore()
    if kind == "file" and (path.strip() or not colon):
        return FileStore(path.strip() or default_file())
    source = "" if where is not None else f" (from {VARIABLE})"
    raise ConfigError(
        f"{said!r} is no place for keys{source}", field="keys", hint="Say keyring, file or file:PATH."
    )


def _usual() -> KeyStore:
    try:
        return KeyringStore()
    except ConfigError:
        path = default_file()
        if os.path.lexists(path):
            return FileStore(path)
        raise


class LazyStore:
    """The store of `open_store`, opened when a key is first asked for: finding a keyring takes time.

    Where no store was asked for and there is none, it holds no keys, and ``problem`` says why.
    """

    def __init__(self, where: str | None = None) -> None:
        self._where = where
        self._store: KeyStore | None = None
        self.problem: ConfigError | None = None

    def __repr__(self) -> str:
        return f"LazyStore({self._where!r})"

    @property
    def place(self) -> str:
        store = self._open()
        return "no keyring" if store is None else store.place

    def get(self, name: str) -> str | None:
        """The key of that name, ``None`` if there is none."""
        store = self._open()
        return None if store is None else store.get(name)

    def set(self, name: str, key: str) -> None:
        """Keep ``key`` under ``name``. Raises `ConfigError` where there is no store."""
        self._needed().set(name, key)

    def delete(self, name: str) -> bool:
        """Forget the key of that name; whether there was one."""
        store = self._open()
        return store is not None and store.delete(name)

    def names(self) -> tuple[str, ...]:
        """The names of all keys, sorted."""
        store = self._open()
        return () if store is None else store.names()

    def _open(self) -> KeyStore | None:
        if self._store is None and self.problem is None:
            try:
                self._store = open_store(self._where)
            except ConfigError as exc:
                if self._where is not None or os.environ.get(VARIABLE, "").strip():
                    raise
                self.problem = exc
        return self._store

    def _needed(self) -> KeyStore:
        store = self._open()
        if store is None:
            raise self.problem or KeyStoreError("there is no place for keys")
        return store
