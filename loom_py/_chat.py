"""Which chat the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["chat_id"]

chat_id: ContextVar[str | None] = ContextVar("loom_py_chat_id", default=None)
"""The id of the chat that runs the code that asks; ``None`` outside of one. Tools see their chat's."""
