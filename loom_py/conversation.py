"""A chat whose history the caller keeps, perhaps with tools that the caller runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loom_py.messages import Message, ToolSpec

__all__ = ["Conversation"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages to answer, in place of a single one: ``agent.chat(Conversation(messages))``.

    They follow the agent's own system prompt and, with a ``session_id``, what was said in the session.
    The last is the user's, or the result of a tool.

    ``tools`` are the caller's: the model is offered them beside the agent's, and the agent runs none of
    them. When the model asks for one the chat ends with the finish reason ``"tool_calls"``, and what is
    asked for are the last of ``response.tool_calls``, those that have no result. The caller runs them and
    goes on with a conversation that holds the calls and their results. Calls of the agent's own tools in
    that same reply are not run.

    Raises `ValueError` for a conversation that nobody can answer, or two tools of one name.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()

    def __init__(self, messages: Iterable[Message], tools: Iterable[ToolSpec] = ()) -> None:
        object.__setattr__(self, "messages", tuple(messages))
        object.__setattr__(self, "tools", tuple(tools))
        for message in self.messages:
            if not isinstance(message, Message):
                raise TypeError(f"a conversation is made of messages, not of {type(message).__name__}")
        if not self.messages or self.messages[-1].role not in ("user", "tool"):
            raise ValueError("a conversation to answer ends with a message of the user, or a tool's result")
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError(f"two tools have the same name: {', '.join(sorted(names))}")
