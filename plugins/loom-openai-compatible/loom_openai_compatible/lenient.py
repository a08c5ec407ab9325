"""What servers send, made into what OpenAI sends. Pure functions; nothing here raises for what it reads.

The shapes are those of the servers' public documentation and source (2024–2026): vLLM's OpenAI-compatible
server, llama.cpp's ``llama-server``, LM Studio, LiteLLM's proxy, Ollama's ``/v1``, DeepSeek's API, FastAPI.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from loom_py.errors import ProviderError, ServiceUnavailableError
from loom_py.llm.azure.errors import error_from_body
from loom_py.messages import Response

__all__ = [
    "call_of",
    "choices_of",
    "error_of",
    "failure_of",
    "finish_reason_of",
    "id_of",
    "plain_text",
    "reasoning_of",
    "room_of",
    "told",
    "usage_of",
]

_STOPS = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
"""Words of servers for a reply that is over."""
_CALLS = frozenset({"tool_calls", "tool_call", "tool_use", "function_call"})
"""Words for a reply that asks for tools."""
_LENGTHS = frozenset({"length", "max_tokens", "max_length", "model_length"})
"""Words for a reply that was cut at its limit."""
_FAILURES = ("error", "abort")
"""Words for a reply that the server gave up on (OpenRouter; vLLM and SGLang)."""

_TOO_LONG = re.compile(
    r"context ?window|context (length|size|limit)|maximum (context|model) length|available context"
    r"|context the overflows",
    re.IGNORECASE,
)
_FOR_CERTAIN = re.compile(
    r"max_model_len\b|context shift is disabled|reduce the length of the (messages|input|prompt)"
    r"|`inputs` tokens \+ `max_new_tokens` must be",
    re.IGNORECASE,
)
"""Wordings of vLLM, llama.cpp, Groq and TGI for a prompt that is too long, which have no other meaning."""
_POLICY = re.compile(r"ContentPolicyViolation|(usage|content( management)?) policy", re.IGNORECASE)
_NO_MODEL = re.compile(r"model\b.*(not found|does not exist|not exist)|no such model", re.IGNORECASE)
_INVALID_NAME = re.compile(r"invalid model name passed", re.IGNORECASE)
"""LiteLLM's 400 for a model that it does not have."""
_EXTRA = re.compile(r"extra_forbidden.*?'body', '(\w+)'", re.DOTALL)
"""vLLM's and Mistral's pydantic errors, where they are a text."""
_ROOM = re.compile(
    r"available context size \((\d+) tokens\)|(?:model|context) length (?:of|is) (?:only )?(\d+)"
    r"|max_model_len\w*(?:=\w+)*=(\d+)|must be <= (\d+)"
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
    extra = _extra_parameter(found, message)
    code = "unknown_parameter" if extra else found.get("code")
    claimed = int(code) if isinstance(code, (int, str)) and re.fullmatch(r"[45]\d\d", str(code)) else None
    kind = str(found.get("type") or found.get("error_type") or "")
    error = {
        "message": message,
        "type": kind or None,
        "param": extra or found.get("param"),
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


def _extra_parameter(found: Mapping[str, Any], message: str) -> str:
    """The parameter that pydantic does not know, by its list of problems or by that list's text."""
    details = found.get("detail") or found.get("message")
    if isinstance(details, Mapping):
        details = details.get("detail")
    for entry in details if isinstance(details, list) else ():
        if isinstance(entry, Mapping) and entry.get("type") == "extra_forbidden":
            place = entry.get("loc")
            return str(place[-1]) if isinstance(place, (list, tuple)) and place else ""
    named = _EXTRA.search(message)
    return named[1] if named else ""


def _code(message: str, kind: str, status: int | None) -> str | None:
    """OpenAI's code for what a server says in words, in a type of its own, or by its status."""
    if kind == "exceed_context_size_error" or (status not in {401, 403, 404, 429} and _is_too_long(message)):
        return "context_length_exceeded"
    if status == 402 or kind == "budget_exceeded" or "Budget has been exceeded" in message:
        return "insufficient_quota"
    if _POLICY.search(message):
        return "content_policy_violation"
    if (status == 404 and _NO_MODEL.search(message)) or _INVALID_NAME.search(message):
        return "model_not_found"
    return None


def _is_too_long(message: str) -> bool:
    """Whether a message says that the context does not do."""
    if _FOR_CERTAIN.search(message):
        return True
    says_so = re.search(r"exceed|longer|too (long|large)|however|overflow", message, re.IGNORECASE)
    return says_so is not None and _TOO_LONG.search(message) is not None


def room_of(message: str, data: Any) -> tuple[int | None, int | None]:
    """The context's size and the tokens that were asked of it, where a refusal tells."""
    error = data.get("error") if isinstance(data, Mapping) else None
    if isinstance(error, Mapping) and isinstance(error.get("n_ctx"), int):
        used = error.get("n_prompt_tokens")
        return error["n_ctx"], used if isinstance(used, int) else None
    found = _ROOM.search(message)
    return (int(next(filter(None, found.groups()))) if found else None), None


# ── answers ──────────────────────────────────────────────────────────────────────────────


def finish_reason_of(reason: Any, *, has_calls: bool) -> str:
    """OpenAI's word for why the model stopped; ``tool_calls`` wherever it asked for some."""
    said = reason.lower() if isinstance(reason, str) else ""
    if said in _LENGTHS:
        return "length"
    if has_calls:
        return "tool_calls" if said in {"", *_STOPS, *_CALLS} else said
    return "stop" if said in {*_STOPS, *_CALLS} else said


def choices_of(answer: Any) -> list[Mapping[str, Any]]:
    """The choices in an answer or a chunk of one; empty where it has none."""
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    return [choice for choice in choices if isinstance(choice, Mapping)] if isinstance(choices, list) else []


def failure_of(choice: Mapping[str, Any]) -> ProviderError | None:
    """The error of a choice that the server gave up on; ``None`` for any other."""
    error = error_of({"error": choice.get("error")})
    reason = choice.get("finish_reason")
    if error is not None:
        return error_from_body(error)
    if reason not in _FAILURES:
        return None
    return ServiceUnavailableError(f"the server gave up on the answer: its finish reason is {reason!r}")


def reasoning_of(message: Mapping[str, Any]) -> str:
    """The text of a model's thoughts, under any of its names."""
    found = (message.get(name) for name in ("reasoning_content", "reasoning"))
    return next((text for text in found if isinstance(text, str) and text), "")


def plain_text(content: Any) -> Any:
    """Content that comes in parts as the text of those that are text."""
    if not isinstance(content, list):
        return content
    texts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "".join(text for text in texts if isinstance(text, str))


def usage_of(usage: Any) -> dict[str, Any] | None:
    """Usage as OpenAI tells it; ``None`` where it tells no number.

    Numbers with a point become whole ones, and cached tokens that stand beside the rest, as DeepSeek's do,
    go where OpenAI has them.
    """
    if not isinstance(usage, Mapping):
        return None
    found = {name: _whole(value) for name, value in usage.items()}
    if not any(type(found.get(name)) is int for name in ("prompt_tokens", "completion_tokens")):
        return None
    hits = found.get("prompt_cache_hit_tokens")
    if isinstance(hits, int) and not found.get("prompt_tokens_details"):
        found["prompt_tokens_details"] = {"cached_tokens": hits}
    return found


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def told(response: Response, reasoning: str, *, has_usage: bool) -> Response:
    """``response`` with what OpenAI has no place for."""
    more: dict[str, Any] = {"reasoning_content": reasoning} if reasoning else {}
    if not has_usage:
        more["usage_reported"] = False
    return replace(response, metadata={**response.metadata, **more}) if more else response


def call_of(call: Any) -> dict[str, Any] | None:
    """A tool call, or a piece of one, as OpenAI writes it; ``None`` for what is none.

    Arguments that are an object become its JSON; a name and arguments without a function around them get
    one.
    """
    if not isinstance(call, Mapping):
        return None
    function = call.get("function")
    if not isinstance(function, Mapping):
        function = {key: call[key] for key in ("name", "arguments") if key in call}
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        function = {**function, "arguments": json.dumps(arguments)}
    return {**call, "function": dict(function)}


def id_of(call: Mapping[str, Any], taken: Collection[str]) -> str:
    """The id of a call; a new one where it has none, or one that another call of the reply has."""
    given = call.get("id")
    if isinstance(given, str) and given and given not in taken:
        return given
    return f"call_{uuid.uuid4().hex[:24]}"
