"""Scripted trouble: what the emulator is told to do to the next requests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from loom_anthropic.emulator.errors import api_error, type_of_status
from loom_py.emulator.wire_errors import WireError

__all__ = ["Cut", "Fault", "Plan", "RawAnswer", "StreamError", "Troubles"]


@dataclass(frozen=True, slots=True)
class Fault:
    """An error answer. Parts left out are the service's own for that status.

    ``body`` is sent raw if it is text or bytes, as JSON otherwise. Raises `ValueError` below 400.
    """

    status: int
    type: str | None = None
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"a fault has a status from 400 to 599, not {self.status}")

    def to_error(self) -> WireError:
        """The error to answer with."""
        if self.body is not None:
            kind = "text/html" if isinstance(self.body, (str, bytes)) else "application/json"
            return WireError(self.status, self.body, headers=self.headers, media_type=kind)
        kind, message = type_of_status(self.status)
        error = api_error(self.status, self.type or kind, self.message or message)
        error.headers.update({name.lower(): value for name, value in self.headers.items()})
        return error


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer whose ``body`` and ``headers`` go out as they are; what is no text or bytes as JSON."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = b""


@dataclass(frozen=True, slots=True)
class Cut:
    """A stream that breaks off after ``after_events`` events; ``clean`` ends the HTTP answer properly."""

    after_events: int = 1
    clean: bool = False


@dataclass(frozen=True, slots=True)
class StreamError:
    """An error event in a stream after ``after_events`` events."""

    type: str = "overloaded_error"
    message: str = "Overloaded"
    after_events: int = 3


Trouble: TypeAlias = Fault | RawAnswer | Cut | StreamError | float


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one request: it waits ``delay`` seconds, then what ``trouble`` says."""

    delay: float = 0.0
    trouble: Fault | RawAnswer | Cut | StreamError | None = None


class Troubles:
    """The troubles to come, in order; safe for threads. A number is a delay, and goes with the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._delays: deque[float] = deque()
        self._answers: deque[Fault | RawAnswer] = deque()
        self._streams: deque[Cut | StreamError] = deque()

    def add(self, trouble: Trouble, times: int = 1) -> None:
        """Let the next ``times`` requests have this trouble."""
        with self._lock:
            if isinstance(trouble, (Fault, RawAnswer)):
                self._answers.extend([trouble] * times)
            elif isinstance(trouble, (Cut, StreamError)):
                self._streams.extend([trouble] * times)
            else:
                self._delays.extend([trouble] * times)

    def next(self, *, stream: bool) -> Plan:
        """What the request that has just come is in for."""
        with self._lock:
            delay = self._delays.popleft() if self._delays else 0.0
            if self._answers:
                return Plan(delay, self._answers.popleft())
            return Plan(delay, self._streams.popleft() if stream and self._streams else None)

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._delays.clear()
            self._answers.clear()
            self._streams.clear()
