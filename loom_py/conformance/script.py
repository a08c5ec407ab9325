"""What a fake service is to do: a script of answers, and the playback of one.

A script is plain data, so that any fake service can act it out, in this process or another. The
same script means the same to every provider: the text, the calls, the tokens and the failures are
those of the service, and what the provider makes of them is what the scenarios judge.
"""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from loom_py.llm.scripted import words
from loom_py.messages import Message, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["FAILURES", "Answer", "Call", "Failure", "Playback", "Script", "SeenRequest"]

FAILURES: Mapping[str, str] = {
    "unauthorized": "the credential is refused, as with HTTP 401",
    "forbidden": "the credential is known but may not do this, as with HTTP 403",
    "not_found": "there is no such model or deployment, as with HTTP 404",
    "invalid_request": "the request is refused as sent, as with HTTP 400",
    "context_length": "the conversation is longer than the context window",
    "content_filter": "the prompt is blocked; with `after_text`, the answer after that text",
    "rate_limited": "too many requests, as with HTTP 429; the wait is `retry_after` seconds",
    "server_error": "the service fails, as with HTTP 500",
    "unreachable": "the connection is dropped without an answer",
    "timeout": "the service says that it took too long, as with HTTP 408",
    "malformed": "HTTP 200 with a body that is no answer, such as an HTML page",
    "cut_stream": "a stream breaks off after `after_text`",
    "stream_error": "a stream brings a server error after `after_text`",
    "empty_stream": "a stream ends without a single event",
}
"""Every kind of failure by its canonical name, and what the fake service does."""

_FAILURE = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Failure:
    """A way in which the service fails; ``kind`` is one of `FAILURES`.

    ``retry_after`` is in seconds. ``after_text`` is what a stream delivers first.
    ``echo_secret`` makes the service repeat the credential in its error message, as some do.
    ``str`` gives the canonical name, such as ``rate_limited(retry_after=2)``, and `parse` reads it.
    Raises `ValueError` for an unknown kind.
    """

    kind: str
    retry_after: float | None = None
    after_text: str = ""
    echo_secret: bool = False

    def __post_init__(self) -> None:
        if self.kind not in FAILURES:
            raise ValueError(f"unknown failure {self.kind!r}: use one of {', '.join(FAILURES)}")

    @classmethod
    def parse(cls, name: str) -> Failure:
        """The failure of a canonical name. Raises `ValueError` for text that is none."""
        match = _FAILURE.fullmatch(name.strip())
        if match is None:
            raise ValueError(f"not the name of a failure: {name!r}")
        try:
            call = ast.parse(f"_({match[2] or ''})", mode="eval").body
            assert isinstance(call, ast.Call)
            settings = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            if call.args:
                raise ValueError("its settings need their names")
            return cls(match[1], **settings)
        except (SyntaxError, TypeError, ValueError, AssertionError) as exc:
            raise ValueError(f"not the name of a failure: {name!r} ({exc})") from None

    def __str__(self) -> str:
        said = [
            f"{spec.name}={getattr(self, spec.name)!r}"
            for spec in fields(self)
            if spec.name != "kind" and getattr(self, spec.name) != spec.default
        ]
        return f"{self.kind}({', '.join(said)})" if said else self.kind


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of the model: ``arguments`` is JSON text, sent as it is even where it is broken.

    ``tool`` is the tool's name on the wire. A number stands for that tool of the request, counted
    from 0, under the name the provider gave it there.
    """

    tool: str | int
    arguments: str = "{}"
    id: str = "call_1"

    @property
    def name(self) -> str:
        """The tool's name on the wire.

        Raises `LookupError` while ``tool`` is a number; a `Playback` puts names for those.
        """
        if isinstance(self.tool, str):
            return self.tool
        raise LookupError(f"the name of tool {self.tool} is not known before the request")

    def to_tool_call(self) -> ToolCall:
        """The call as loom_py's own."""
        return ToolCall.parse(self.id, self.name, self.arguments)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the service.

    Args:
        text: the model's words.
        calls: the tools it asks for, after the text.
        usage: the tokens the service reports; ``None`` leaves them to the fake service.
        finish_reason: ``"tool_calls"`` or ``"stop"`` unless given.
        pieces: the text as a stream delivers it; word by word unless given.
        delay: seconds before the service says anything at all: a slow service.
        pause: seconds before each further piece of a stream.
        failure: what goes wrong; the text and the calls do not come then.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    usage: TokenUsage | None = None
    finish_reason: str = ""
    pieces: tuple[str, ...] = ()
    delay: float = 0.0
    pause: float = 0.0
    failure: Failure | None = None

    def __post_init__(self) -> None:
        if not self.finish_reason:
            object.__setattr__(self, "finish_reason", "tool_calls" if self.calls else "stop")
        if not self.pieces:
            object.__setattr__(self, "pieces", tuple(words(self.text)))
        if "".join(self.pieces) != self.text:
            raise ValueError(f"the pieces make {''.join(self.pieces)!r}, not the text {self.text!r}")

    @classmethod
    def fails(cls, name: str, *, usage: TokenUsage | None = None) -> Answer:
        """A failure by its canonical name, such as ``"rate_limited(retry_after=2)"``."""
        return cls(failure=Failure.parse(name), usage=usage)


@dataclass(frozen=True, slots=True)
class Script:
    """The service's answers, one per request in order; the last is repeated for ever.

    ``by_prompt`` answers by the text of the request's last message instead, where it is found
    there. ``priced`` is false for a model whose price nobody knows.
    Raises `ValueError` for a script without any answer.
    """

    answers: tuple[Answer, ...] = ()
    by_prompt: Mapping[str, Answer] = field(default_factory=dict)
    priced: bool = True

    def __post_init__(self) -> None:
        if not self.answers and not self.by_prompt:
            raise ValueError("a script needs at least one answer")

    def answer(self, index: int, prompt: str) -> Answer:
        """The answer to the request ``index`` (from 0) whose last message is ``prompt``.

        Raises `LookupError` for a prompt nobody expected, where there are no answers in order.
        """
        if prompt in self.by_prompt:
            return self.by_prompt[prompt]
        if not self.answers:
            raise LookupError(f"the script has no answer to {prompt!r}")
        return self.answers[min(index, len(self.answers) - 1)]


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request as the fake service understood it: in the wire's names, in loom_py's nouns."""

    messages: tuple[Message, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    options: ChatOptions = field(default_factory=ChatOptions)

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return self.messages[-1].text if self.messages else ""


class Playback:
    """A script being acted out: notes each request and hands out its answer. Safe for threads."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._lock = threading.Lock()
        self._requests: list[SeenRequest] = []

    @property
    def requests(self) -> tuple[SeenRequest, ...]:
        """The requests so far, in order of arrival."""
        with self._lock:
            return tuple(self._requests)

    def answer(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        options: ChatOptions | None = None,
    ) -> Answer:
        """The answer to this request; calls of a numbered tool have that tool's name.

        Raises `LookupError` for a request the script does not know, or a tool that is not there.
        """
        request = SeenRequest(tuple(messages), tuple(tools), options or ChatOptions())
        with self._lock:
            index = len(self._requests)
            self._requests.append(request)
        answer = self.script.answer(index, request.prompt)
        return replace(answer, calls=tuple(_named(call, request.tools) for call in answer.calls))


def _named(call: Call, tools: Sequence[ToolSpec]) -> Call:
    if isinstance(call.tool, str):
        return call
    if call.tool >= len(tools):
        raise LookupError(f"the model was to ask for tool {call.tool}, but the request has {len(tools)}")
    return replace(call, tool=tools[call.tool].name)
