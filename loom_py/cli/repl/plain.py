"""Questions from a pipe, answers for a script: bare text, or one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from loom_py.agent import Agent
from loom_py.cli.exits import ExitCode, exit_code
from loom_py.cli.failures import masked_secrets, show_failure
from loom_py.cli.screen import is_terminal, safe
from loom_py.cli.streams import write_json
from loom_py.errors import ConfigError, LoomError
from loom_py.events import StreamRestarted, TextDelta, ToolCallCompleted
from loom_py.messages import Response

__all__ = ["answer_all", "answer_one", "read_lines", "read_stdin"]


def read_stdin() -> str:
    """All of standard input as one question. Raises `ConfigError` for what is not UTF-8."""
    return _decoded(sys.stdin.buffer.read())


def read_lines() -> Iterator[str]:
    """The lines of standard input that are not empty, as they come. Raises `ConfigError` as `read_stdin`."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        if question := _decoded(line, f", in line {number}"):
            yield question


def _decoded(data: bytes, where: str = "") -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as exc:
        message = f"standard input is not UTF-8: byte {exc.start}{where}"
        raise ConfigError(message, hint="Is it text? iconv -t utf-8 converts it.") from None


def answer_all(
    agent: Agent, questions: Iterable[str], *, session_id: str | None, stream: bool, as_json: bool
) -> ExitCode:
    """Answer each question in turn; the exit code of the first that failed."""
    worst = ExitCode.OK
    for question in questions:
        try:
            answer_one(agent, question, session_id=session_id, stream=stream, as_json=as_json)
        except LoomError as exc:
            if as_json:
                write_json({"type": "error", "error": _plain_error(exc)}, indent=None)
            show_failure(exc)
            worst = worst or exit_code(exc)
    return worst


def answer_one(
    agent: Agent, question: str, *, session_id: str | None = None, stream: bool, as_json: bool
) -> Response:
    """Answer one question on standard output. Raises what the agent raises."""
    if not stream:
        response = agent.chat(question, session_id=session_id)
        if as_json:
            write_json(response.to_dict(), indent=None)
        else:
            _write(f"{_shown(response.message)}\n")
        return response
    with closing(agent.stream_chat(question, session_id=session_id)) as events:
        return _follow(events, as_json)


def _follow(events: Iterable[Any], as_json: bool) -> Response:
    response: Response | None = None
    is_line_open = False
    for event in events:
        response = event.response
        if as_json:
            write_json(event.to_dict(), indent=None)
        elif isinstance(event, TextDelta):
            _write(_shown(event.delta))
            is_line_open = not event.delta.endswith("\n") if event.delta else is_line_open
        elif is_line_open and isinstance(event, (ToolCallCompleted, StreamRestarted)):
            _write("\n")
            is_line_open = False
    if is_line_open:
        _write("\n")
    assert response is not None
    return response


def _shown(text: str) -> str:
    """``text`` as it is for a file or a pipe; made harmless for a terminal."""
    return safe(text) if is_terminal(sys.stdout) else text


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _plain_error(error: LoomError) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(masked_secrets(json.dumps(error.to_dict())))
    return plain
