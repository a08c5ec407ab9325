"""What the Responses API stores, so that ``previous_response_id`` can continue it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from loom_py.emulator.wire_errors import invalid_request
from loom_py.messages import Message

__all__ = ["Conversations"]


class Conversations:
    """The last ``size`` stored responses, by id. Safe for threads."""

    def __init__(self, size: int = 1000) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._stored: OrderedDict[str, tuple[Message, ...]] = OrderedDict()

    def store(self, response_id: str, messages: Sequence[Message]) -> None:
        """Remember the conversation that ended with ``response_id``."""
        with self._lock:
            self._stored[response_id] = tuple(messages)
            while len(self._stored) > self._size:
                self._stored.popitem(last=False)

    def before(self, response_id: str | None) -> tuple[Message, ...]:
        """The conversation until ``response_id``. Raises `WireError` (400) for one not stored."""
        if response_id is None:
            return ()
        with self._lock:
            stored = self._stored.get(response_id)
        if stored is None:
            raise invalid_request(
                f"Previous response with id '{response_id}' not found.",
                "previous_response_id",
                "previous_response_not_found",
            )
        return stored

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._stored.clear()
