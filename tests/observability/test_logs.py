"""Logs: quiet until asked, shown by one call, and never in the way of the application's own."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from loom_py import Agent, AgentBuilder, ScriptedProvider, TokenUsage, configure_logging, tool
from loom_py.errors import AuthenticationError, ConfigError
from loom_py.llm.scripted import call, reply
from loom_py.observability import silence_logging

AGENT = """
import logging, sys
from loom_py import AgentBuilder, ScriptedProvider, configure_logging, tool
from loom_py.errors import ServiceUnavailableError
from loom_py.llm.scripted import call

@tool
def broken() -> str:
    "Fails."
    raise OSError("no")

def run():
    provider = ScriptedProvider([call("broken"), "done", ServiceUnavailableError("down")])
    builder = AgentBuilder().with_llm(provider).with_tools(broken)
    agent = builder.with_circuit_breakers(failure_threshold=1).with_retries(max_attempts=1).build()
    agent.chat("Go", session_id="s")
    try:
        agent.chat("Go")
    except ServiceUnavailableError:
        pass
"""


def output_of(code: str) -> tuple[str, str]:
    """What a fresh interpreter writes to its standard output and error."""
    done = subprocess.run([sys.executable, "-c", AGENT + code], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    yield
    silence_logging()
    structlog.reset_defaults()


@tool
def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


def answering() -> Agent:
    facts: dict[str, Any] = {"tokens": TokenUsage(10, 2), "cost_usd": Decimal("0.0069825")}
    steps = [
        reply(tool_calls=[call("double", number=2)], metadata={"request_id": "r-1"}, **facts),
        reply("4", metadata={"request_id": "r-2"}, **facts),
    ]
    return AgentBuilder().with_llm(ScriptedProvider(steps)).with_tools(double).build()


def test_nothing_is_written_unless_it_is_asked_for() -> None:
    assert output_of("run()") == ("", "")


def test_one_call_shows_events_on_standard_error() -> None:
    out, err = output_of("configure_logging(); run()")
    assert out == ""
    assert "model_call" in err
    assert "session_id=s" in err
    assert "\x1b[" not in err  # no colours where nobody sees them


def test_one_call_writes_json_lines() -> None:
    out, err = output_of("configure_logging('json', stream=sys.stdout); run()")
    assert err == ""
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == [
        "model_call",
        "circuit_breaker",
        "tool_call",
        "tool_withheld",
        "model_call",
        "chat",
        "circuit_breaker",
        "model_call_failed",
        "chat_failed",
    ]
    assert {event["level"] for event in events} == {"info", "warning"}
    assert all(event["timestamp"].endswith("Z") for event in events)


def test_an_application_with_basic_config_reads_the_fields_too() -> None:
    _, err = output_of("logging.basicConfig(level=logging.INFO); run()")
    line = next(line for line in err.splitlines() if ":model_call " in line)
    assert "deployment=scripted-1" in line
    assert "input_tokens=" in line


def test_the_json_has_every_field_of_the_reference() -> None:
    out = io.StringIO()
    configure_logging("json", stream=out)
    answering().chat("Twice 2?", session_id="s-1")
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    models = [event for event in events if event["event"] == "model_call"]
    assert [event["request_id"] for event in models] == ["r-1", "r-2"]
    for event in models:
        assert (event["deployment"], event["session_id"]) == ("scripted-1", "s-1")
        assert (event["input_tokens"], event["output_tokens"], event["cost_usd"]) == (10, 2, "0.0069825")
        assert event["latency_ms"] >= 0
    (chat,) = (event for event in events if event["event"] == "chat")
    assert (chat["input_tokens"], chat["output_tokens"], chat["cost_usd"]) == (20, 4, "0.0139650")
    assert {"deployment", "session_id", "latency_ms", "request_id"} <= set(chat)


def test_the_level_decides_what_is_shown() -> None:
    out = io.StringIO()
    configure_logging("json", level="WARNING", stream=out)
    answering().chat("Go")
    assert out.getvalue() == ""


def test_configuring_again_replaces_and_silencing_takes_it_back() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("json", stream=first)
    configure_logging("json", stream=second)
    answering().chat("Go")
    assert first.getvalue() == ""
    lines = len(second.getvalue().splitlines())
    assert lines == 4
    silence_logging()
    answering().chat("Go")
    assert len(second.getvalue().splitlines()) == lines
    logger = logging.getLogger("loom_py")
    assert (logger.level, logger.propagate) == (logging.NOTSET, True)


@pytest.mark.parametrize(("settings", "field"), [({"format": "xml"}, "format"), ({"level": "LOUD"}, "level")])
def test_an_unknown_format_or_level_is_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure_logging(**settings)
    assert caught.value.field == field


def test_importing_and_running_configures_nothing_of_the_applications() -> None:
    code = """
import structlog
root = logging.getLogger()
before = (list(root.handlers), root.level, structlog.is_configured())
run()
print(before == (list(root.handlers), root.level, structlog.is_configured()))
"""
    assert output_of(code) == ("True\n", "")


def test_an_application_that_configured_structlog_gets_the_events_its_own_way() -> None:
    heard: list[dict[str, Any]] = []

    def listen(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        heard.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, listen])
    with structlog.contextvars.bound_contextvars(user="ada"):
        answering().chat("Go", session_id="s")
    assert [event["event"] for event in heard] == ["model_call", "tool_call", "model_call", "chat"]
    assert {event["user"] for event in heard} == {"ada"}


def test_structlogs_own_capture_works_in_users_tests() -> None:
    with capture_logs() as logs:
        answering().chat("Go")
    assert [entry["event"] for entry in logs] == ["model_call", "tool_call", "model_call", "chat"]


def test_a_logger_of_the_standard_library_gets_whole_events(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="loom_py"):
        answering().chat("Go", session_id="s")
    event = caplog.records[0].__dict__["loom_event"]
    assert (event["event"], event["session_id"], event["input_tokens"]) == ("model_call", "s", 10)


def test_no_secret_is_ever_logged() -> None:
    from loom_py.emulator import AzureEmulator

    out = io.StringIO()
    configure_logging("json", level="DEBUG", stream=out)
    with AzureEmulator(api_keys=["another-key"]) as azure:
        builder = AgentBuilder().with_azure_openai_llm(azure.endpoint, "gpt-4o-deployment", "sk-very-secret")
        with builder.build() as agent, pytest.raises(AuthenticationError) as caught:
            agent.chat("Go")
    assert "model_call_failed" in out.getvalue()
    assert "very-secret" not in out.getvalue() + str(caught.value) + repr(caught.value)
