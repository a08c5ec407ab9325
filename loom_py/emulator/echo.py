"""The built-in engine: a model that repeats what the user said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from loom_py.events import FinalResponse, StreamEvent, TextDelta, UsageEvent
from loom_py.llm.estimates import estimate_usage
from loom_py.llm.provider import BaseProvider
from loom_py.llm.scripted import words
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["EchoProvider"]


class EchoProvider(BaseProvider):
    """Answers with the text of the last user message; never asks for a tool."""

    name = "echo"
    model = "echo-1"

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """The user's words, one by one."""
        text = next((message.text for message in reversed(messages) if message.role == "user"), "")
        usage = estimate_usage(messages, tools, Message.assistant(text))
        for word in words(text):
            yield TextDelta(word)
        yield UsageEvent(usage)
        yield FinalResponse(Response(text, usage, model=self.model, metadata={"usage_estimated": True}))
