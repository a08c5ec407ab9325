"""The chat-completions API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loom_py.emulator.checks import check_request
from loom_py.emulator.decode import ChatRequest, decode_request
from loom_py.emulator.encode import DONE, Completion, StreamEncoder, encode_response, sse
from loom_py.messages import Response

__all__ = ["ChatSurface"]


class ChatSurface:
    """``…/chat/completions``."""

    operation = "ChatCompletions_Create"
    end = DONE

    def decode(self, body: Mapping[str, Any]) -> ChatRequest:
        """The request in ``body``."""
        return decode_request(body)

    def check(self, request: ChatRequest, body: Mapping[str, Any], model: str) -> None:
        """Refuse what the service refuses."""
        check_request(request, body, model)

    def whole(self, response: Response, completion: Completion) -> dict[str, Any]:
        """A chat completion."""
        return encode_response(response, completion)

    def encoder(self, completion: Completion) -> StreamEncoder:
        """Chat completion chunks."""
        return StreamEncoder(completion)

    def frame(self, chunk: Mapping[str, Any]) -> bytes:
        """A ``data:`` line."""
        return sse(chunk)
