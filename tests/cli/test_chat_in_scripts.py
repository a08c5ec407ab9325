"""``loom chat`` and ``loom run`` with pipes: what a script reads, and the exit code it goes by."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from loom_py import AzureEmulator, Response
from loom_py.events import FinalResponse, event_from_dict
from tests.cli.terminal import Loom

KEY = "emulated-key-0123456789"


def test_what_is_piped_in_is_one_question_and_only_its_answer_comes_out(loom: Loom, agent: str) -> None:
    done = loom("chat", agent, stdin="first line\nsecond line\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "You said: first line\nsecond line\n", "")


def test_with_lines_each_line_is_a_question_of_one_conversation(loom: Loom, agent: str) -> None:
    done = loom("chat", agent, "--lines", stdin="remember a\n\nremember b\n")
    assert done.stdout == "You said 1 things\nYou said 2 things\n"


def test_json_is_one_response_a_line_and_with_stream_every_event(loom: Loom, agent: str) -> None:
    whole = loom("chat", agent, "--json", "--lines", "--session", "ada", stdin="weather\nremember\n")
    first, second = (Response.from_json(line) for line in whole.stdout.splitlines())
    assert [call.name for call in first.tool_calls] == ["weather"]
    assert second.message == "You said 2 things"
    assert second.metadata["session_id"] == "ada"
    streamed = loom("chat", agent, "--json", "--stream", stdin="weather")
    events = [event_from_dict(json.loads(line)) for line in streamed.stdout.splitlines()]
    assert isinstance(events[-1], FinalResponse)
    assert "".join(event.delta for event in events) == events[-1].response.message


def test_a_failed_question_is_a_line_of_json_too_and_the_next_is_still_asked(
    loom: Loom, agent: str, azure: AzureEmulator
) -> None:
    azure.fail_next(500)
    done = loom("chat", agent, "--json", "--lines", stdin="a\nb\n")
    failed, answered = map(json.loads, done.stdout.splitlines())
    assert failed["type"] == "error"
    assert failed["error"]["retryable"] is True
    assert answered["message"] == "You said: b"
    assert done.returncode == 4


def test_a_question_of_no_characters_or_no_utf8_is_wrong_usage(loom: Loom, agent: str) -> None:
    for command, given in (("chat", b" \n"), ("run", b""), ("run", b"\xff\xfe")):
        done = loom(command, agent, stdin=given)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")


def test_a_question_may_hold_anything_that_unicode_has(loom: Loom, agent: str) -> None:
    question = "naïve 日本語 🎉 ﷽ e\u0301 \u202e"
    assert loom("run", agent, stdin=question).stdout == f"You said: {question}\n"


def test_a_control_character_reaches_a_pipe_as_it_is(loom: Loom, agent: str) -> None:
    assert "\x1b]0;owned\x07" in loom("run", agent, "evil").stdout


def test_run_answers_on_standard_output_and_can_write_a_file_instead(loom: Loom, agent: str) -> None:
    done = loom("run", agent, "weather?")
    assert (done.returncode, done.stdout) == (0, "It says: rain in Oslo\n\nand wind\n")
    done = loom("run", agent, "hello", "--output", "answer.txt")
    assert (done.returncode, done.stdout) == (0, "")
    assert (loom.folder / "answer.txt").read_text("utf-8") == "You said: hello\n"
    loom("run", agent, "hello", "--json", "-o", "answer.txt")
    assert Response.from_json((loom.folder / "answer.txt").read_text("utf-8")).message == "You said: hello"


def test_a_file_that_cannot_be_written_is_told_of_before_anything_is_paid_for(
    loom: Loom, agent: str, azure: AzureEmulator
) -> None:
    for place in ("nowhere/answer.txt", "."):
        done = loom("run", agent, "hello", "--output", place)
        assert (done.returncode, done.stdout) == (2, "")
        assert "folder" in done.stderr
    assert len(azure.requests) == 0


def test_flags_come_before_the_file(loom: Loom, agent: str) -> None:
    done = loom("run", agent, "hello", "--deployment", "another")
    assert done.returncode == 2
    assert "deployment another" in done.stderr
    done = loom("run", agent, "hello", "--set", "llm.temperature=9")
    assert done.returncode == 2
    assert "temperature" in done.stderr


@pytest.mark.parametrize(
    ("fault", "arguments", "code", "told"),
    [
        (400, (), 1, "error: "),
        (401, (), 3, "hint "),
        (503, (), 4, "error: "),
        (None, ("--set", "budget.usd=0.000001"), 5, "budget of 0.000001 USD"),
        (None, ("--endpoint", "http://127.0.0.1:9"), 4, "127.0.0.1:9"),
    ],
)
def test_the_exit_code_tells_what_kind_of_failure_it_was(
    loom: Loom,
    agent: str,
    azure: AzureEmulator,
    fault: int | None,
    arguments: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    if fault is not None:
        azure.fail_next(fault)
    done = loom("run", agent, "hello", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr


def test_a_traceback_is_shown_only_when_asked_for_and_never_a_key(loom: Loom, agent: str) -> None:
    (loom.folder / "helper_tools.py").write_text(f"raise RuntimeError('no {KEY} here')", "utf-8")
    for arguments, is_shown in (((), False), (("--debug",), True)):
        done = loom(*arguments, "run", agent, "hello")
        assert done.returncode == 2
        assert ("Traceback" in done.stderr) is is_shown
        assert KEY not in done.stdout + done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_ctrl_c_ends_a_run_with_130_and_without_a_traceback(
    loom: Loom, agent: str, azure: AzureEmulator
) -> None:
    with loom.running("run", agent, "wait") as (process, _, stderr):
        _wait_until(lambda: len(azure.requests) == 1 and azure.requests[0].seconds is not None)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        told = stderr.read()
        process.wait(20)
    assert process.returncode == 130
    assert "Traceback" not in told


@pytest.mark.skipif(os.name == "nt", reason="no such pipes")
def test_a_reader_that_goes_away_ends_it_quietly(loom: Loom, agent: str) -> None:
    with loom.running("run", agent, "something long") as (process, stdout, stderr):
        os.read(stdout.fileno(), 5)
        stdout.close()
        told = stderr.read()
        assert (process.wait(), told) == (141, "")


def _wait_until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)
