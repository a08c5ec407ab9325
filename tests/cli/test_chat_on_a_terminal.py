"""``loom chat`` as it is typed into: a real process on a real (pseudo) terminal."""

from __future__ import annotations

import os
import re
import signal
import stat
import time

import pytest

from loom_py import AzureEmulator
from loom_py.cli.repl.interruption import uninterrupted
from tests.cli.terminal import ALT_ENTER, CTRL_C, ENTER, Loom

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")


def test_a_conversation_is_streamed_and_shows_tools_tokens_and_cost(loom: Loom, agent: str) -> None:
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("helper · azure-openai/gpt-4o-deployment")
        terminal.wait_for("2 tools")
        terminal.type("what is the weather?", ENTER)
        terminal.wait_for("→ weather(city='Oslo')")
        terminal.wait_for("← rain in Oslo and wind")
        terminal.wait_for("It says: rain in Oslo")
        bill = terminal.wait_for("as gpt-4o-2024-11-20")
        assert "tokens in, " in bill
        assert " out · $0.00" in bill
        terminal.type("do you remember?", ENTER)
        terminal.wait_for("You said 2 things")
        assert terminal.leave() == 0


def test_ctrl_c_stops_the_answer_and_not_the_session(loom: Loom, agent: str) -> None:
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("/help")
        terminal.type("remember one", ENTER)
        terminal.wait_for("as gpt-4o")
        terminal.type("tell me something long", ENTER)
        terminal.wait_for("word5 ")
        terminal.type(CTRL_C)
        terminal.wait_for("interrupted")
        assert "word399" not in terminal.text
        terminal.type("remember two", ENTER)
        terminal.wait_for("You said 2 things")  # the one that was interrupted is not among them
        terminal.type("/quit", ENTER)
        assert terminal.exit_code() == 0


def test_ctrl_c_stops_waiting_for_a_tool_at_once(loom: Loom, agent: str) -> None:
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("/help")
        terminal.type("wait", ENTER)
        terminal.wait_for("→ wait()")
        terminal.type(CTRL_C)
        terminal.wait_for("interrupted", seconds=10)
        assert terminal.leave() == 0


def test_ctrl_c_at_any_moment_of_a_turn_ends_the_turn_and_nothing_else(loom: Loom, agent: str) -> None:
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("›")
        for moment in range(10):
            terminal.type("wait", ENTER)
            terminal.wait_for("ing ")  # thinking, asking or running
            time.sleep(moment * 0.01)
            terminal.type(CTRL_C)
            terminal.wait_for("interrupted")
            terminal.wait_for("\n› ")
        terminal.type("still there", ENTER)
        terminal.wait_for("You said: still there")
        assert terminal.leave() == 0
    assert "Error" not in terminal.text


def test_ctrl_c_waits_until_what_is_drawn_is_whole() -> None:
    before, done = signal.getsignal(signal.SIGINT), []

    def draw() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("drawn")

    with pytest.raises(KeyboardInterrupt):
        draw()
    assert done == ["drawn"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_at_the_prompt_clears_the_line_and_on_an_empty_one_tells_how_to_leave(
    loom: Loom, agent: str
) -> None:
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("›")
        terminal.type("half a ques", CTRL_C, "whole", ENTER)
        terminal.wait_for("You said: whole")
        terminal.wait_for("›")
        terminal.type(CTRL_C)
        terminal.wait_for("/quit or Ctrl-D leaves")
        assert terminal.leave() == 0


def test_a_question_may_have_several_lines_typed_continued_or_pasted(loom: Loom, agent: str) -> None:
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("›")
        terminal.type("one", ALT_ENTER, "two\\", ENTER, "three", ENTER)
        terminal.wait_for("You said: one\n  two\n  three")
        terminal.wait_for("›")
        terminal.type("\x1b[200~four\nfive\n\nsix\x1b[201~", ENTER)
        terminal.wait_for("You said: four\n  five\n\n  six")


def test_the_slash_commands_tell_of_tools_cost_and_health_and_save_and_reset(loom: Loom, agent: str) -> None:
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("›")
        for command, shown in [
            ("/cost", "Nothing yet"),
            ("/tools", "weather(city)  The weather in a city."),
            ("remember a", "You said 1 things"),
            ("/cost", "0.000"),
            ("/health", "● ok"),
            ("/save talk.md", "2 messages in talk.md"),
            ("/save talk.md", "/save! talk.md replaces it"),
            ("/save nowhere/talk.md", "No such file or directory"),
            ("/reset", "Forgotten."),
            ("remember b", "You said 1 things"),
            ("/halth", "Did you mean /health?"),
            ("/etc/passwd, what is it", "You said: /etc/passwd"),
            ("/help", "/save FILE"),
        ]:
            terminal.type(command, ENTER)
            terminal.wait_for(shown)
            terminal.wait_for("\n› ")
        terminal.type("/quit", ENTER)
        assert terminal.exit_code() == 0
    assert (loom.folder / "talk.md").read_text("utf-8") == (
        "## User\n\nremember a\n\n## Assistant\n\nYou said 1 things\n"
    )


def test_a_narrow_terminal_cuts_nothing_off(loom: Loom, agent: str) -> None:
    file = loom.folder / agent
    file.write_text(file.read_text("utf-8") + "budget: {usd: 1.50, tokens: 20000, per: agent}\n", "utf-8")
    with loom.on_a_terminal("chat", agent, columns=50) as terminal:
        terminal.wait_for("›")
        shown = ""
        for command in ("remember a", "/tools", "/cost", "/health"):
            terminal.type(command, ENTER)
            shown += terminal.wait_for("\n› ")
    assert "of $1.50 · " in shown
    assert "of 20,000 tokens" in " ".join(shown.split())
    assert re.search(r"USD *\n +gpt-4o\S+ +1 +[\d,]+ +[\d,]+ +\$0\.\d*[1-9] *\n", shown)
    assert "weather(city)\n    The weather in a city." in shown
    assert "…" not in shown.replace("thinking …", "")


def test_questions_are_remembered_for_their_owner_alone_unless_told_not_to(loom: Loom, agent: str) -> None:
    file = loom.folder.parent / "home" / ".local" / "state" / "loom-py" / "chat_history"
    with loom.on_a_terminal("chat", agent, "--no-history") as terminal:
        terminal.wait_for("›")
        terminal.type("a secret thing", ENTER)
        terminal.wait_for("as gpt-4o")
        terminal.leave()
    assert not file.exists()
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("›")
        terminal.type("an old question", ENTER)
        terminal.wait_for("as gpt-4o")
        terminal.leave()
    assert "an old question" in file.read_text("utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("›")
        terminal.type("\x1b[A")
        terminal.wait_for("an old question")


def test_an_answer_cannot_steer_the_terminal(loom: Loom, agent: str) -> None:
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("›")
        terminal.type("evil", ENTER)
        terminal.wait_for("after")
        assert "\x1b]0;owned" not in terminal.raw
        assert "before ␛]0;owned␇␛[2J after" in terminal.text


def test_a_turn_that_fails_is_told_and_the_session_goes_on(
    loom: Loom, agent: str, azure: AzureEmulator
) -> None:
    azure.fail_next(500)
    with loom.on_a_terminal("chat", agent) as terminal:
        terminal.wait_for("›")
        terminal.type("first", ENTER)
        terminal.wait_for("error: ")
        told = terminal.wait_for("deployment gpt-4o-deployment")
        assert "Traceback" not in told
        terminal.type("second", ENTER)
        terminal.wait_for("You said: second")


def test_with_nothing_configured_the_offline_demo_answers_and_says_so(loom: Loom) -> None:
    with loom.on_a_terminal("chat") as terminal:
        terminal.wait_for("No model is configured, so the offline demo answers")
        terminal.type("2", ENTER)
        terminal.wait_for("159 of the 304 flights")
        terminal.type("what else?", ENTER)
        terminal.wait_for("1. Which airline")
