"""`ScriptedProvider`, which is its own service: no wire, no credential, no price."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loom_py.conformance.adapter import FEATURES, BaseAdapter
from loom_py.conformance.adapters.errors import error_of
from loom_py.conformance.script import Playback, Script, SeenRequest
from loom_py.llm import scripted
from loom_py.llm.provider import LLMProvider

__all__ = ["ScriptedAdapter"]


class ScriptedAdapter(BaseAdapter):
    """A provider that answers from memory."""

    name = "scripted"
    capabilities = frozenset(FEATURES) - {
        "prices",
        "paced_streams",
        "deadlines",
        "request_ids",
        "secrets",
    }

    def __init__(self) -> None:
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A scripted provider that takes its steps from the script."""
        playback = self._playback = Playback(script)

        async def step(request: scripted.ScriptedRequest) -> scripted.Answer:
            answer = playback.answer(request.messages, request.tools, request.options)
            await asyncio.sleep(answer.delay)
            if (error := error_of(answer)) is not None:
                return error
            return scripted.reply(
                answer.text,
                tool_calls=[call.to_tool_call() for call in answer.calls],
                tokens=answer.usage,
                finish_reason=answer.finish_reason,
            )

        yield scripted.ScriptedProvider(step)

    def requests(self) -> Sequence[SeenRequest]:
        """What the provider was asked."""
        return () if self._playback is None else self._playback.requests
