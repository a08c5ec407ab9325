"""The one thread behind a shared state: heartbeats, late reports, and looking for Redis when it is away."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

__all__ = ["Worker"]


class _Works(Protocol):
    def _work(self) -> float:
        """Do what is due; in how many seconds more is."""
        ...


class Worker:
    """A daemon thread that works for ``owner`` until it is stopped, or its owner is gone."""

    def __init__(self, owner: _Works) -> None:
        self._owner = weakref.ref(owner)
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="loom-py-shared-state", daemon=True)
        self._thread.start()
        weakref.finalize(owner, self._wake.set).atexit = False

    def wake(self) -> None:
        """There is something to do now."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """End the thread, and wait for it at most ``timeout`` seconds."""
        self._stopped = True
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped:
            owner = self._owner()
            if owner is None:
                return
            seconds = owner._work()
            del owner  # or it would live as long as its thread
            self._wake.wait(seconds)
            self._wake.clear()
