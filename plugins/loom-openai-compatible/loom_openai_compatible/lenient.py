"""What servers send, made into what OpenAI sends. Pure functions; nothing here raises for what it reads.

The shapes are those of the servers' public documentation and source (2024–2026): vLLM's OpenAI-compatible
server, llama.cpp's ``llama-server``, LM Studio, LiteLLM's proxy, Ollama's ``/v1``, DeepSeek's API, FastAPI.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

__all__ = ["call_of", "error_of", "finish_reason_of", "reasoning_of", "room_of", "usage_of"]

_STOPS = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "function_call"})
"""Words of servers for a reply that is over."""

_TOO_LONG = re.compile(
    r"context ?window|context (length|size|limit)|maximum (context|model) length|available context"
    r"|context the overflows",
    re.IGNORECASE,
)
_POLICY = re.compile(r"ContentPolicyViolation|(usage|content( management)?) policy", re.IGNORECASE)
_NO_MODEL = re.compile(r"model\b.*(not found|does not exist|not exist)|no such model", re.IGNORECASE)
_ROOM = re.compile(
    r"available context size \((\d+) tokens\)|(?:model|context) length (?:of|is) (?:only )?(\d+)"
)


def error_of(data: Any, status: int | None = None) -> dict[str, Any] | None:
    """The error in an answer as OpenAI's ``{"error": {…}}``; ``None`` where there is none.

    ``status`` is that of the answer; without one, it came with 200 or in a stream.
    """
    if not isinstance(data, Mapping):
        return None
    found = _source(data, status)
    if found is None:
        return None
    message = _message(found)
    code = found.get("code")
    claimed = int(code) if isinstance(code, (int, str)) and re.fullmatch(r"[45]\d\d", str(code)) else None
    kind = str(found.get("type") or found.get("error_type") or "")
    error = {
        "message": message,
        "type": kind or None,
        "param": found.get("param"),
        "code": _code(message, kind, status or claimed) or (None if claimed else code),
    }
    if status is None and claimed:
        error["status"] = claimed
    return {"error": error}


def _source(data: Mapping[str, Any], status: int | None) -> Mapping[str, Any] | None:
    """Where in a body the error stands."""
    error = data.get("error")
    if isinstance(error, Mapping) and error:
        return error
    if isinstance(error, str) and error:
        return {**data, "message": data.get("message") or error}
    if data.get("object") == "error":  # vLLM until 2025
        return data
    if status is None and data.keys() & {"choices", "output", "object"}:
        return None
    return data if data.keys() & {"detail", "message"} else None


def _message(found: Mapping[str, Any], depth: int = 3) -> str:
    """What went wrong, in one line; of FastAPI's list of problems each with its place."""
    said = next((found[key] for key in ("message", "detail", "error") if found.get(key)), "")
    if isinstance(said, list):
        return "; ".join(_problem(entry) for entry in said) or "the server refused the request"
    if isinstance(said, Mapping) and depth:
        return _message(said, depth - 1)
    return str(said) or "the server reported an error without a message"


def _problem(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return str(entry)
    place = entry.get("loc")
    where = ".".join(str(part) for part in place) if isinstance(place, (list, tuple)) else ""
    what = str(entry.get("msg") or entry.get("message") or "refused")
    return f"{where}: {what}" if where else what


def _code(message: str, kind: str, status: int | None) -> str | None:
    """OpenAI's code for what a server says in words, or in a type of its own."""
    if kind == "exceed_context_size_error" or (
        status not in {401, 403, 404, 429} and _TOO_LONG.search(message) and _is_about_length(message)
    ):
        return "context_length_exceeded"
    if kind == "budget_exceeded" or "Budget has been exceeded" in message:
        return "insufficient_quota"
    if _POLICY.search(message):
        return "content_policy_violation"
    if status == 404 and _NO_MODEL.search(message):
        return "model_not_found"
    return None


def _is_about_length(message: str) -> bool:
    """Whether a message that names the context says that it does not do."""
    return re.search(r"exceed|longer|too (long|large)|however|overflow", message, re.IGNORECASE) is not None


def room_of(message: str, data: Any) -> tuple[int | None, int | None]:
    """The context's size and the tokens that were asked of it, where a refusal tells."""
    error = data.get("error") if isinstance(data, Mapping) else None
    if isinstance(error, Mapping) and isinstance(error.get("n_ctx"), int):
        used = error.get("n_prompt_tokens")
        return error["n_ctx"], used if isinstance(used, int) else None
    found = _ROOM.search(message)
    return (int(found[1] or found[2]) if found else None), None


# ── answers ──────────────────────────────────────────────────────────────────────────────


def finish_reason_of(reason: Any, *, has_calls: bool) -> str:
    """OpenAI's word for why the model stopped; ``tool_calls`` wherever it asked for some."""
    said = reason if isinstance(reason, str) else ""
    if has_calls and (said in _STOPS or not said):
        return "tool_calls"
    return "stop" if said in _STOPS else said


def reasoning_of(message: Mapping[str, Any]) -> str:
    """The text of a model's thoughts, under any of its names."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str):
            return str(message[name])
    return ""


def usage_of(usage: Any) -> Any:
    """Usage with cached tokens where OpenAI has them; DeepSeek tells them beside the rest."""
    if not isinstance(usage, Mapping):
        return usage
    hits = usage.get("prompt_cache_hit_tokens")
    if isinstance(hits, int) and not usage.get("prompt_tokens_details"):
        return {**usage, "prompt_tokens_details": {"cached_tokens": hits}}
    return usage


def call_of(call: Any, *, makes_id: bool) -> dict[str, Any] | None:
    """A tool call, or a piece of one, as OpenAI writes it; ``None`` for what is none.

    Arguments that are an object become its JSON; a name and arguments without a function around them get
    one; and with ``makes_id`` a call that has no id.
    """
    if not isinstance(call, Mapping):
        return None
    function = call.get("function")
    if not isinstance(function, Mapping):
        function = {key: call[key] for key in ("name", "arguments") if key in call}
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        function = {**function, "arguments": json.dumps(arguments)}
    whole = {**call, "function": dict(function)}
    if makes_id and not (isinstance(call.get("id"), str) and call["id"]):
        whole["id"] = f"call_{uuid.uuid4().hex[:24]}"
    return whole
