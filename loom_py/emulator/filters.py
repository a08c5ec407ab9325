"""The content filter: words that set it off, and what it says then."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from loom_py.emulator.decode import ChatRequest
from loom_py.emulator.wire_errors import content_filtered
from loom_py.events import FinalResponse, StreamEvent, TextDelta
from loom_py.llm.estimates import estimate_usage
from loom_py.messages import Message, Response

__all__ = ["ContentFilters", "Filtering", "check_prompt", "filter_events", "filter_response", "verdict"]

CATEGORIES = ("hate", "self_harm", "sexual", "violence")
_DETECTED = (
    "jailbreak",
    "indirect_attack",
    "protected_material_text",
    "protected_material_code",
    "profanity",
)


def verdict(category: str) -> dict[str, Any]:
    """What the filter says of ``category`` when it blocks."""
    if category in CATEGORIES:
        return {category: {"filtered": True, "severity": "high"}}
    if category == "custom_blocklists":
        return {category: {"filtered": True, "details": [{"filtered": True, "id": "EmulatorBlocklist"}]}}
    return {category: {"filtered": True, "detected": True}}


def _words(name: str, words: Iterable[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(words, str):
        raise TypeError(f"{name} must be a sequence of words, not one string: write [{words!r}]")
    chosen = dict(words) if isinstance(words, Mapping) else dict.fromkeys(words, "violence")
    known = (*CATEGORIES, *_DETECTED, "custom_blocklists")
    for word, category in chosen.items():
        if not word:
            raise ValueError(f"{name} has an empty word, which would match everything")
        if category not in known:
            raise ValueError(f"{name}: {category!r} is no category; use one of {', '.join(known)}")
    return {word.lower(): category for word, category in chosen.items()}


class ContentFilters:
    """Words that set the content filter off, wherever they occur, in upper or lower case.

    Args:
        prompt: in a message of the request: it is refused with 400 ``content_filter``.
        completion: in the model's text: it breaks off there, with that finish reason.
        asynchronous: in the model's streamed text: all of it goes out, and the verdict comes
            afterwards, in chunks without a delta. An answer that is not streamed is blocked.

    Each is a sequence of words (category "violence") or a mapping of words to categories:
    ``hate``, ``self_harm``, ``sexual``, ``violence``, ``jailbreak``, ``indirect_attack``,
    ``profanity``, ``protected_material_text``, ``protected_material_code``, ``custom_blocklists``.
    """

    def __init__(
        self,
        *,
        prompt: Iterable[str] | Mapping[str, str] = (),
        completion: Iterable[str] | Mapping[str, str] = (),
        asynchronous: Iterable[str] | Mapping[str, str] = (),
    ) -> None:
        self.prompt = _words("prompt", prompt)
        self.completion = _words("completion", completion)
        self.asynchronous = _words("asynchronous", asynchronous)

    def __repr__(self) -> str:
        counts = len(self.prompt), len(self.completion), len(self.asynchronous)
        return "ContentFilters({} prompt, {} completion, {} asynchronous words)".format(*counts)


@dataclass(slots=True)
class Filtering:
    """The filter's work on one answer.

    ``blocked`` are the verdicts that stopped it, ``late`` those that came after it; ``None`` for
    neither. ``always`` and ``always_late`` make the filter strike whatever the text.
    """

    filters: ContentFilters = field(default_factory=ContentFilters)
    always: bool = False
    always_late: bool = False
    blocked: dict[str, Any] | None = None
    late: dict[str, Any] | None = None

    def position(self, text: str) -> int | None:
        """Where ``text`` is to be broken off, noting the verdict; ``None`` for not at all."""
        found = _found(self.filters.completion, text)
        if found is not None:
            self.blocked = verdict(found[1])
            return found[0]
        if self.always and text:
            self.blocked = {}
            return len(text)
        return None

    def judge_late(self, text: str) -> bool:
        """Whether the asynchronous filter objects to the whole ``text``; its verdict is noted."""
        found = _found(self.filters.asynchronous, text)
        if found is not None:
            self.late = verdict(found[1])
        elif self.always_late:
            self.late = verdict("violence")
        return self.late is not None


def _found(words: Mapping[str, str], text: str) -> tuple[int, str] | None:
    lowered = text.lower()
    hits = [(lowered.find(word), category) for word, category in words.items() if word in lowered]
    return min(hits, default=None)


def check_prompt(filters: ContentFilters, request: ChatRequest) -> None:
    """Raises `WireError` (400) for a prompt with a word that is not let through."""
    for message in request.messages:
        found = _found(filters.prompt, message.text)
        if found is not None:
            raise content_filtered(verdict(found[1]))


def filter_response(response: Response, filtering: Filtering) -> Response:
    """``response`` as the filter leaves it: blocked answers have no text at all."""
    at = filtering.position(response.message)
    if at is None and filtering.judge_late(response.message):
        filtering.blocked, filtering.late = filtering.late, None
    if filtering.blocked is None:
        return response
    return replace(response, message="", tool_calls=(), finish_reason="content_filter")


async def filter_events(
    events: AsyncGenerator[StreamEvent, None], request: ChatRequest, filtering: Filtering
) -> AsyncGenerator[StreamEvent, None]:
    """The events the filter lets through, and its end if it stops them."""
    text = ""
    async with aclosing(events):
        async for event in events:
            sent = len(text)
            text = event.response.message if event.response is not None else text + event.delta
            at = filtering.position(text) if len(text) > sent else None
            if at is not None:
                if at > sent:
                    yield TextDelta(text[sent:at])
                yield FinalResponse(_broken_off(request, text[: max(at, sent)]))
                return
            if event.response is not None:
                filtering.judge_late(text)
            yield event


def _broken_off(request: ChatRequest, text: str) -> Response:
    """What was said until then is billed, so it has its usage."""
    usage = estimate_usage(request.messages, request.tools, Message.assistant(text))
    return Response(text, usage, finish_reason="content_filter")
