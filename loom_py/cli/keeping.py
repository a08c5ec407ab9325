"""What ``loom config …-key`` does: keys into a store and out of it, shown masked."""

from __future__ import annotations

import getpass
import sys

from rich.text import Text

from loom_py.cli.failures import remember_secret
from loom_py.cli.screen import err, is_terminal, out
from loom_py.cli.settings import found
from loom_py.cli.streams import write_json
from loom_py.errors import ConfigError
from loom_py.keys import KeyStore, key_name, masked, open_store
from loom_py.keys.store import LONGEST_KEY

__all__ = ["delete_key", "get_key", "list_keys", "set_key"]


def set_key(name: str, where: str | None, *, stdin: bool) -> None:
    """Read a key, from a hidden prompt or standard input, and keep it. Raises `ConfigError`."""
    name = key_name(name)
    store = _store(where)
    key = _read_key(name, stdin)
    remember_secret(key)
    store.set(name, key)
    out().print(Text(f"{name}  {masked(key)}  kept in {store.place}"), soft_wrap=True)


def get_key(name: str, where: str | None, *, reveal: bool) -> None:
    """Print a key, masked unless ``reveal``. Raises `ConfigError` where there is none."""
    store = _store(where)
    key = store.get(name)
    if key is None:
        raise _no_key(name, store)
    sys.stdout.write(f"{key if reveal else masked(key)}\n")


def list_keys(where: str | None, *, as_json: bool) -> None:
    """Print the names of all keys."""
    store = _store(where)
    names = store.names()
    if as_json:
        write_json(names, indent=None)
        return
    for name in names:
        sys.stdout.write(f"{name}\n")
    told = f"in {store.place}" if names else f"no keys in {store.place}"
    err().print(Text(told, style="dim"), soft_wrap=True)


def delete_key(name: str, where: str | None) -> None:
    """Forget a key. Raises `ConfigError` where there is none."""
    store = _store(where)
    if not store.delete(name):
        raise _no_key(name, store)
    out().print(Text(f"{key_name(name)}  deleted from {store.place}"), soft_wrap=True)


def _store(where: str | None) -> KeyStore:
    return open_store(where if where is not None else found("keys").value)


def _no_key(name: str, store: KeyStore) -> ConfigError:
    known = ", ".join(store.names())
    hint = f"There are keys for {known}." if known else "loom config set-key NAME keeps one."
    return ConfigError(f"there is no key {key_name(name)!r} in {store.place}", hint=hint)


def _read_key(name: str, stdin: bool) -> str:
    if stdin:
        text = sys.stdin.read(LONGEST_KEY + 2)
    elif is_terminal(sys.stdin):
        try:
            text = getpass.getpass(f"Key for {name} (not shown): ", stream=sys.stderr)
        except EOFError:
            raise ConfigError("no key was given") from None
    else:
        raise ConfigError(
            "there is no terminal to ask for the key", hint="Pipe it in: loom config set-key NAME --stdin"
        )
    return text.strip()
