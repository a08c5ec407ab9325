"""The Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loom_py.emulator.checks import check_reasoning_model, is_reasoning_model
from loom_py.emulator.conversations import Conversations
from loom_py.emulator.decode import ChatRequest
from loom_py.emulator.encode import Completion, encode_json
from loom_py.emulator.responses_decode import check_responses_request, decode_responses_request
from loom_py.emulator.responses_encode import ResponseDocument
from loom_py.emulator.responses_stream import ResponsesStreamEncoder
from loom_py.messages import Response

__all__ = ["ResponsesSurface"]


class ResponsesSurface:
    """``…/responses``: one per request, for the answer repeats much of it."""

    operation = "Responses_Create"
    end = b""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._body: Mapping[str, Any] = {}
        self._request: ChatRequest | None = None

    def decode(self, body: Mapping[str, Any]) -> ChatRequest:
        """The request in ``body``, after the conversation it continues."""
        self._body = body
        self._request = decode_responses_request(body, self._conversations)
        return self._request

    def check(self, request: ChatRequest, body: Mapping[str, Any], model: str) -> None:
        """Refuse what the service refuses."""
        check_responses_request(request, body)
        if is_reasoning_model(model):
            check_reasoning_model(body, model)

    def whole(self, response: Response, completion: Completion) -> dict[str, Any]:
        """A response object."""
        document = self._document(completion)
        self._store(document, response)
        return document.finished(response)

    def encoder(self, completion: Completion) -> ResponsesStreamEncoder:
        """Response events."""
        return ResponsesStreamEncoder(self._document(completion), self._store)

    def frame(self, chunk: Mapping[str, Any]) -> bytes:
        """An ``event:`` line and a ``data:`` line."""
        return b"event: " + str(chunk["type"]).encode() + b"\ndata: " + encode_json(chunk) + b"\n\n"

    def _document(self, completion: Completion) -> ResponseDocument:
        return ResponseDocument(completion, self._body)

    def _store(self, document: ResponseDocument, response: Response) -> None:
        if self._body.get("store") is not False and self._request is not None:
            instructions = 1 if self._body.get("instructions") else 0  # they do not carry over
            messages = self._request.messages[instructions:]
            self._conversations.store(document.id, (*messages, response.to_message()))
