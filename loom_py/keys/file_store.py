"""`FileStore`: keys in a file that nobody but its owner can read."""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loom_py.errors import KeyStoreError
from loom_py.keys._locking import exclusive
from loom_py.keys.store import checked_key, key_name

__all__ = ["FileStore"]

_POSIX = sys.platform != "win32"
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # or opening a pipe would wait for its writer
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LARGEST = 1_000_000
"""Bytes of a key file that are read; no honest one is near."""

VERSION = 1
"""Of the form of the file; one of another form is left alone."""


class FileStore:
    """Keys in the JSON file ``path``, which is plain text: whoever is you, or root, can read it.

    The file has mode 0600 and is in a folder of mode 0700, both yours; they are made so, and refused with
    `KeyStoreError` if they are not, or are symbolic links. A change replaces the file in one step, and
    several processes may change it at once. Windows has no such modes: there the folder's own rights hold.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()

    def __repr__(self) -> str:
        return f"FileStore({str(self.path)!r})"

    @property
    def place(self) -> str:
        return str(self.path)

    def get(self, name: str) -> str | None:
        """The key of that name, ``None`` if there is none."""
        return self._read().get(key_name(name))

    def set(self, name: str, key: str) -> None:
        """Keep ``key`` under ``name``, in place of the one that was there."""
        name, key = key_name(name), checked_key(key)
        self._make_folder()
        with self._changing() as keys:
            keys[name] = key

    def delete(self, name: str) -> bool:
        """Forget the key of that name; whether there was one."""
        name = key_name(name)
        if name not in self._read():
            return False
        with self._changing() as keys:
            return keys.pop(name, None) is not None

    def names(self) -> tuple[str, ...]:
        """The names of all keys, sorted."""
        return tuple(sorted(self._read()))

    # ── reading and writing ──────────────────────────────────────────────────────────────

    def _read(self) -> dict[str, str]:
        if not os.path.lexists(self.path):
            return {}
        with self._told("read"):
            self._check_folder()
            descriptor = os.open(self.path, os.O_RDONLY | _NO_WAIT | _NO_FOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                self._check(os.fstat(descriptor), self.path, 0o600)
                data = file.read(_LARGEST + 1)
        return self._parsed(data)

    def _parsed(self, data: bytes) -> dict[str, str]:
        try:
            found = json.loads(data.decode("utf-8")) if len(data) <= _LARGEST else None
        except (ValueError, RecursionError):
            found = None  # the error's own text would quote what may be a key
        found = found if isinstance(found, Mapping) else {}
        keys = found.get("keys")
        if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
            raise KeyStoreError(
                f"{self.path} is no key file of loom_py", hint="Move it away and set your keys again."
            )
        if found.get("version", VERSION) != VERSION:
            raise KeyStoreError(
                f"{self.path} has the form of another version of loom_py",
                hint="Update loom_py: pip install -U loom-py",
            )
        return keys

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """The keys, to be changed; they are written back, with nobody else changing them meanwhile."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        with self._told("write"):
            self._check_folder()
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o600)
        try:
            with exclusive(descriptor):
                keys = self._read()
                yield keys
                with self._told("write"):
                    self._write(keys)
        finally:
            os.close(descriptor)

    def _write(self, keys: Mapping[str, str]) -> None:
        text = json.dumps({"version": VERSION, "keys": dict(sorted(keys.items()))}, indent=2)
        new = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
                file.flush()
                os.fsync(descriptor)
            new.replace(self.path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    # ── permissions ──────────────────────────────────────────────────────────────────────

    def _make_folder(self) -> None:
        folder = self.path.parent
        with self._told("write"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)

    def _check_folder(self) -> None:
        self._check(os.lstat(self.path.parent), self.path.parent, 0o700)

    def _check(self, found: os.stat_result, path: Path, mode: int) -> None:
        """Raise `KeyStoreError` unless ``path`` is what it should be, is ours, and is nobody else's."""
        is_folder = mode == 0o700
        if not (stat.S_ISDIR(found.st_mode) if is_folder else stat.S_ISREG(found.st_mode)):
            kind = "folder" if is_folder else "regular file"
            raise KeyStoreError(
                f"{path} is no {kind}, or a link to one", hint="Name the real place of the key file."
            )
        if not _POSIX:
            return
        if found.st_uid != os.geteuid():
            raise KeyStoreError(
                f"{path} belongs to another user", hint=f"Have it belong to you: chown $USER {path}"
            )
        if found.st_mode & _OTHERS:
            what = "can be entered" if is_folder else "can be read or written"
            hint = f"Close it: chmod {mode:o} {path}"
            if is_folder:
                hint += " (or keep the key file in a folder of its own)"
            raise KeyStoreError(
                f"{path} {what} by others (its mode is {stat.S_IMODE(found.st_mode):04o})", hint=hint
            )

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        """The system's refusals, as `KeyStoreError`."""
        try:
            yield
        except OSError as exc:
            if self.path.is_symlink():
                problem, hint = f"{self.path} is a symbolic link", "Name the real place of the key file."
            else:
                problem, hint = f"cannot {verb} {self.path}: {exc.strerror}", None
            raise KeyStoreError(problem, hint=hint) from None
