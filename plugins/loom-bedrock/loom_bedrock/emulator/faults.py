"""Trouble on order: what goes wrong with the next requests."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from loom_bedrock.emulator.exceptions import BedrockException, RawAnswer

__all__ = ["Fault", "FaultQueue"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request.

    It waits ``delay`` seconds; then ``error`` is answered, or the connection ``dropped``. In a stream
    that comes only ``after_events`` events of it; without a stream at once.
    """

    error: BedrockException | RawAnswer | None = None
    dropped: bool = False
    after_events: int | None = None
    delay: float = 0.0


class FaultQueue:
    """Faults waiting for their requests, first come first served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Fault] = deque()

    def add(self, fault: Fault, times: int) -> None:
        """Let the next ``times`` requests have ``fault``. Raises `ValueError` below 1."""
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        with self._lock:
            self._waiting.extend([fault] * times)

    def take(self) -> Fault:
        """The fault for a request; one that does nothing where none waits."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else Fault()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._waiting.clear()
