"""Streams that nobody reads to their end, closed where that stands in nobody's way.

The garbage collector may run in the middle of any code, also of code that holds one of our locks. A
generator that it closed there would wait for that lock for ever. So the reader of a blocking stream is given
a `Stream`: the generator behind it is never garbage. Once its reader is gone it is closed at once where no
code of ours is under way, and else in a thread.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Generator
from typing import Any, TypeVar

from loom_py._log import get_logger
from loom_py.tools.threads import in_thread

__all__ = ["Stream"]

T = TypeVar("T")

_log = get_logger()
_PACKAGE = __name__.partition(".")[0]


class Stream(Generator[T, None, None]):
    """A generator, given to a reader who may forget it."""

    __slots__ = ("__weakref__", "_source")

    def __init__(self, source: Generator[T, None, None]) -> None:
        self._source = source
        _reaper.watch(source)

    def __next__(self) -> T:
        try:
            return next(self._source)
        except BaseException:
            _reaper.forget(self._source)
            raise

    def send(self, value: None) -> T:
        """`next`: nothing can be sent."""
        return next(self)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> T:
        """Let an exception strike where the stream waits."""
        try:
            return self._source.throw(typ if val is None else val)
        except BaseException:
            _reaper.forget(self._source)
            raise

    def close(self) -> None:
        """End the stream; it hangs up."""
        _reaper.forget(self._source)
        self._source.close()

    def __del__(self) -> None:
        _reaper.abandon(self._source)


class _Reaper:
    """Keeps generators from becoming garbage, and closes those that nobody reads any more."""

    def __init__(self) -> None:
        self._open: dict[int, Generator[Any, None, None]] = {}
        self.renew()

    def renew(self) -> None:
        """A forked child has none of its parent's threads."""
        self._abandoned: queue.SimpleQueue[Generator[Any, None, None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._runs = False

    def watch(self, source: Generator[Any, None, None]) -> None:
        if not self._runs:
            with self._lock:
                if not self._runs:
                    threading.Thread(target=self._run, name="loom-py-streams", daemon=True).start()
                    self._runs = True
        self._open[id(source)] = source

    def forget(self, source: Generator[Any, None, None]) -> None:
        self._open.pop(id(source), None)

    def abandon(self, source: Generator[Any, None, None]) -> None:
        """Nobody reads ``source`` any more. This may be called in the middle of anything."""
        if self._open.pop(id(source), None) is None:
            return
        if _is_inside():
            self._abandoned.put(source)
        else:
            source.close()

    def _run(self) -> None:
        abandoned = self._abandoned
        while True:
            in_thread(_closing(abandoned.get()))


def _is_inside() -> bool:
    """Whether code of this package was interrupted, which may hold a lock."""
    frame = sys._getframe(2).f_back  # who was interrupted by the end of the `Stream`
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
            return True
        frame = frame.f_back
    return False


def _closing(source: Generator[Any, None, None]) -> Any:
    def close() -> None:
        try:
            source.close()
        except Exception as exc:  # noqa: BLE001 - nobody is there to be told
            _log.warning("abandoned_stream_failed", error=type(exc).__name__)

    return close


_reaper = _Reaper()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reaper.renew)
