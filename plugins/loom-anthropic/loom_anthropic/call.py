"""One call of a provider: what is asked, and the request it becomes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from loom_anthropic.config import AnthropicConfig
from loom_anthropic.connections import CONNECT_TIMEOUT, HttpRequest
from loom_anthropic.stream import StreamDecoder, is_about_thinking
from loom_anthropic.wire import encode_request
from loom_py.errors import LoomError
from loom_py.llm.azure.schema import EncodedTools
from loom_py.messages import Message
from loom_py.options import ChatOptions

__all__ = ["Call"]


class Call:
    """Everything that belongs to one call, and to no other."""

    __slots__ = ("carries", "config", "end", "http", "messages", "settings", "started", "stream", "tools")

    def __init__(
        self,
        config: AnthropicConfig,
        messages: Sequence[Message],
        tools: EncodedTools,
        settings: ChatOptions,
        stream: bool,
    ) -> None:
        self.started = time.perf_counter()
        self.config = config
        self.messages = messages
        self.tools = tools
        self.settings = settings
        total = settings.total_timeout
        self.end = None if total is None else time.monotonic() + total
        self.stream = stream
        self.carries = True
        self.http = self._write()

    def _write(self) -> HttpRequest:
        settings = self.settings
        request = encode_request(
            self.messages,
            self.tools,
            settings,
            config=self.config,
            stream=self.stream,
            carries=self.carries,
        )
        return HttpRequest(
            request.content,
            request.headers,
            settings.timeout or self.config.timeout,
            settings.connect_timeout or CONNECT_TIMEOUT,
            settings.total_timeout,
            self.end,
        )

    def decoder(self) -> StreamDecoder:
        """What reads the stream of the request."""
        return StreamDecoder(self.tools, model=self.config.model)

    def correct(self, failure: LoomError, *, may_repeat: bool = True) -> None:
        """Write the request anew without the thinking that the API refused; or raise the failure."""
        if not (may_repeat and self.carries and is_about_thinking(failure) and self._has_thinking()):
            raise failure
        self.carries = False
        self.http = self._write()

    def _has_thinking(self) -> bool:
        return any(message.provider_data for message in self.messages)
