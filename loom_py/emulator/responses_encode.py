"""To the wire: a response as the Responses API's object."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from loom_py.emulator.checks import is_reasoning_model
from loom_py.emulator.encode import Completion
from loom_py.emulator.responses_decode import REASONING_ITEMS
from loom_py.emulator.wire_errors import filter_down, verdicts
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["ResponseDocument", "encode_responses_usage"]

_ENCRYPTED = "reasoning.encrypted_content"


def encode_responses_usage(usage: TokenUsage) -> dict[str, Any]:
    """The ``usage`` object of the Responses API."""
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {
            "cache_write_tokens": usage.cache_writes,
            "cached_tokens": usage.cached_input,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


class ResponseDocument:
    """The response object from its creation to its end. It repeats the request's settings.

    ``model`` in it is the deployment's name; which model served it stands in a header alone.
    """

    def __init__(self, completion: Completion, body: Mapping[str, Any]) -> None:
        self.completion = completion
        self.body = body
        self.token = uuid.uuid4().hex
        self.id = f"resp_{self.token}"

    def started(self) -> dict[str, Any]:
        """The object as it is before there is any output."""
        return self._object("in_progress", [], None, None)

    def finished(self, response: Response) -> dict[str, Any]:
        """The object of a whole ``response``."""
        output = [*self.reasoning_items(response)]
        if response.message or (response.finish_reason == "stop" and not response.tool_calls):
            output.append(self.message_item(response.message, len(output)))
        output += [self.call_item(call) for call in response.tool_calls]
        return self.with_output(response, output)

    def with_output(self, response: Response, output: list[dict[str, Any]]) -> dict[str, Any]:
        """The object at its end, with the given ``output`` items."""
        reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(
            response.finish_reason
        )
        status = "completed" if reason is None else "incomplete"
        document = self._object(status, output, response.tokens_used, reason)
        if status == "completed":
            document["completed_at"] = self.completion.created
        document["content_filters"] = self._filters(len(response.message))
        return document

    def failed(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """The object of a response that broke off with ``error``."""
        document = self._object("failed", [], None, None)
        document["error"] = {"code": error.get("code") or "server_error", "message": error.get("message")}
        return document

    # ── items ────────────────────────────────────────────────────────────────────────────

    def reasoning_items(self, response: Response) -> list[dict[str, Any]]:
        """The engine's own reasoning items, or an opaque one where the model reasons."""
        own = response.provider_data.get(REASONING_ITEMS)
        if isinstance(own, list):
            return [dict(item) for item in own]
        if not (is_reasoning_model(self.completion.model) or response.tokens_used.reasoning):
            return []
        item: dict[str, Any] = {
            "id": self.item_id("rs", 0),
            "type": "reasoning",
            "content": [],
            "summary": [],
        }
        if _ENCRYPTED in (self.body.get("include") or ()):
            item["encrypted_content"] = self._opaque()
        return [item]

    def message_item(self, text: str, index: int, status: str = "completed") -> dict[str, Any]:
        """A message of the assistant."""
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
        return {
            "id": self.item_id("msg", index),
            "type": "message",
            "status": status,
            "content": [part] if status != "in_progress" else [],
            "role": "assistant",
        }

    def call_item(self, call: ToolCall, status: str = "completed") -> dict[str, Any]:
        """A call of a function."""
        return {
            "id": f"fc_{hashlib.sha256((self.token + call.id).encode()).hexdigest()[:32]}",
            "type": "function_call",
            "status": status,
            "arguments": call.arguments_json if status != "in_progress" else "",
            "call_id": call.id,
            "name": call.name,
        }

    def item_id(self, kind: str, index: int) -> str:
        """The id of the item at ``index``."""
        return f"{kind}_{hashlib.sha256(f'{self.token}{index}'.encode()).hexdigest()[:32]}"

    def _opaque(self) -> str:
        """Looks like the service's encrypted reasoning, and means nothing."""
        noise = b"".join(hashlib.sha512(f"{self.token}{part}".encode()).digest() for part in range(6))
        return "gAAAAA" + base64.urlsafe_b64encode(noise).decode("ascii")

    # ── the object ───────────────────────────────────────────────────────────────────────

    def _filters(self, size: int) -> list[dict[str, Any]]:
        filtering = self.completion.filtering
        blocked = filtering.blocked if filtering.blocked is not None else filtering.late
        protected = {
            "protected_material_code": {"detected": False, "filtered": False},
            "protected_material_text": {"detected": False, "filtered": False},
        }
        answer = verdicts({**protected, **(blocked or {})})
        if self.completion.filter_down:
            answer = filter_down().body
        prompt = verdicts({"jailbreak": {"detected": False, "filtered": False}})
        return [
            _filter("prompt", prompt, 0, blocked=False),
            _filter("completion", answer, size, blocked=blocked is not None),
        ]

    def _object(
        self, status: str, output: list[dict[str, Any]], usage: TokenUsage | None, reason: str | None
    ) -> dict[str, Any]:
        body = self.body
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.completion.created,
            "status": status,
            "background": False,
            "completed_at": None,
            "content_filters": None,
            "error": None,
            "incomplete_details": None if reason is None else {"reason": reason},
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "max_tool_calls": body.get("max_tool_calls"),
            "model": self.completion.deployment,
            "output": output,
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "previous_response_id": body.get("previous_response_id"),
            "prompt_cache_key": body.get("prompt_cache_key"),
            "reasoning": {"effort": "medium", "summary": None, **(body.get("reasoning") or {})},
            "safety_identifier": body.get("safety_identifier"),
            "service_tier": "default",
            "store": body.get("store") is not False,
            "temperature": _first(body.get("temperature"), 1.0),
            "text": {"format": {"type": "text"}, "verbosity": "medium", **_mapping(body.get("text"))},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "top_logprobs": 0,
            "top_p": _first(body.get("top_p"), 1.0),
            "truncation": body.get("truncation") or "disabled",
            "usage": None if usage is None else encode_responses_usage(usage),
            "user": body.get("user"),
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
            "metadata": body.get("metadata") or {},
        }


def _first(value: Any, default: float) -> Any:
    return default if value is None else value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _filter(source: str, results: dict[str, Any], size: int, *, blocked: bool) -> dict[str, Any]:
    return {
        "blocked": blocked,
        "source_type": source,
        "content_filter_raw": [],
        "content_filter_results": results,
        "content_filter_offsets": {"start_offset": 0, "end_offset": size, "check_offset": 0},
    }
