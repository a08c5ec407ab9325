"""The chat page in a real browser: asking, watching, stopping, coming back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from loom_py import AgentBuilder, ScriptedProvider
from loom_py.errors import ServiceUnavailableError
from loom_py.serve import KeyFile, new_key

if TYPE_CHECKING:
    from playwright.sync_api import Page

Ask = Callable[..., Any]


def until(test: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


# ── answers ──────────────────────────────────────────────────────────────────────────────


def test_an_answer_appears_while_it_is_made(desk: Any, ask: Ask) -> None:
    page = desk.open()
    answer = ask(page, "slow 60", wait=False)
    answer.get_by_text("word2").wait_for()
    early = answer.inner_text()
    assert "word59" not in early
    assert answer.get_attribute("aria-busy") == "true"
    answer.get_by_text("word20").wait_for()
    assert len(answer.inner_text()) > len(early)
    answer.get_by_text("word59").wait_for()
    page.locator(".answer[aria-busy=false]").wait_for()
    assert page.locator("#status").inner_text() == "The answer is complete"


def test_markdown_becomes_lists_tables_code_and_links(desk: Any, ask: Ask) -> None:
    answer = ask(desk.open(), "show me")
    assert answer.locator("tbody tr").count() == 3
    assert "right" in str(answer.locator("tbody td").nth(1).get_attribute("class"))
    assert answer.locator("ol > li").count() == 2
    assert answer.locator("ol > li > ul > li").count() == 2
    assert answer.locator("strong").first.inner_text() == "since March"
    assert answer.locator("blockquote").inner_text() == "Seats sold are counted on the day of departure."
    assert "GROUP BY route" in answer.locator("figure.code pre").inner_text()
    assert answer.locator("figcaption span").first.inner_text() == "sql"
    link = answer.locator("a")
    assert link.get_attribute("href") == "https://docs.example.com/method"
    assert "noopener" in str(link.get_attribute("rel"))


def test_a_tool_call_is_shown_folded_with_its_arguments_and_result(desk: Any, ask: Ask) -> None:
    answer = ask(desk.open(), "both of them")
    tool = answer.locator("details.tool")
    assert tool.count() == 1
    assert tool.get_attribute("open") is None
    assert "query_flights" in tool.locator("summary").inner_text()
    assert "done" in tool.locator("summary").inner_text()
    assert not tool.locator("pre").first.is_visible()
    tool.locator("summary").click()
    arguments, result = tool.locator("pre").all_inner_texts()
    assert json.loads(arguments)["limit"] == 3
    assert json.loads(result)[0] == {"route": "OSL–BGO", "sold": 33977}
    kinds = answer.locator(".body > *").evaluate_all("nodes => nodes.map(node => node.className)")
    assert kinds == ["text", "tool", "text"]  # in the order it happened


def test_a_tool_is_seen_while_it_runs(desk: Any, ask: Ask) -> None:
    page = desk.open()
    answer = ask(page, "wait", wait=False)
    tool = answer.locator("details.tool[data-state=running]")
    tool.wait_for()
    assert "seconds: 3" in tool.inner_text()
    assert "Running wait_for_it" in answer.inner_text()
    page.keyboard.press("Escape")
    answer.get_by_text("Stopped").wait_for()
    assert "not run to its end" in answer.locator("details.tool").inner_text()


def test_a_tool_that_fails_says_so(desk: Any, ask: Ask) -> None:
    tool = ask(desk.open(), "break it").locator("details.tool")
    assert tool.get_attribute("data-state") == "failed"
    tool.locator("summary").click()
    assert "the <b>database</b> is locked" in tool.locator("pre").last.inner_text()


def test_tokens_and_cost_are_told_of_each_answer_and_of_all(desk: Any, ask: Ask) -> None:
    page = desk.open()
    first = ask(page, "hello")
    assert "1,234 tokens · $0.0041" in first.inner_text()
    second = ask(page, "query it")
    assert "2,468 tokens · $0.0082" in second.inner_text()
    assert page.locator("#total").inner_text() == "3,702 tokens · $0.012"


def test_an_answer_can_be_copied(desk: Any, ask: Ask) -> None:
    page = desk.open(permissions=["clipboard-read", "clipboard-write"])
    answer = ask(page, "say **bold** `code`")
    answer.get_by_role("button", name="Copy the answer").click()
    answer.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "**bold** `code`"


def test_an_answer_is_copied_where_the_page_came_without_tls_too(desk: Any, ask: Ask) -> None:
    page = desk.open()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    answer = ask(page, "say the old way")
    answer.get_by_role("button", name="Copy the answer").click()
    answer.get_by_text("Copied").wait_for()
    page.locator("#question").focus()
    page.keyboard.press("Control+V")
    assert page.locator("#question").input_value() == "the old way"


def test_a_very_long_answer_does_not_stall_the_page(desk: Any, ask: Ask) -> None:
    page = desk.open()
    began = time.monotonic()
    answer = ask(page, "long 1500")
    assert len(answer.inner_text()) > 300_000
    assert time.monotonic() - began < 10
    assert page.locator("#conversations li").count() == 1


# ── stop, again, recall ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stop_ends_the_run_on_the_server(desk: Any, ask: Ask, way: str) -> None:
    page = desk.open()
    answer = ask(page, "slow 400", wait=False)
    answer.get_by_text("word3").wait_for()
    if way == "button":
        page.get_by_role("button", name="Stop the answer").click()
    else:
        page.keyboard.press("Escape")
    answer.get_by_text("Stopped").wait_for()
    until(lambda: desk.actor.cancelled == 1)
    assert page.get_by_role("button", name="Send").is_visible()
    ask(page, "and now")
    assert [role for role, _ in desk.actor.heard[-1]] == ["user", "assistant", "user"]
    assert desk.actor.heard[-1][1][1].startswith("word0 word1")


def test_a_question_can_be_asked_again_without_its_first_answer(desk: Any, ask: Ask) -> None:
    page = desk.open()
    ask(page, "one")
    ask(page, "two")
    assert page.get_by_role("button", name="Ask again").count() == 1
    page.get_by_role("button", name="Ask again").click()
    until(lambda: desk.actor.begun == 3)
    page.locator(".answer[aria-busy=false]").nth(1).wait_for()
    assert page.locator(".turn").count() == 2
    asked = [text for role, text in desk.actor.heard[-1] if role == "user"]
    assert asked == ["one", "two"]


def test_up_and_down_recall_what_was_asked(desk: Any, ask: Ask) -> None:
    page = desk.open()
    ask(page, "first")
    ask(page, "second")
    box = page.locator("#question")
    for press, text in (("Up", "second"), ("Up", "first"), ("Up", "first"), ("Down", "second"), ("Down", "")):
        box.press(f"Arrow{press}")
        assert box.input_value() == text
    box.fill("being written")
    box.press("ArrowUp")
    assert box.input_value() == "being written"


def test_shift_enter_makes_a_line_and_enter_sends(desk: Any) -> None:
    page = desk.open()
    box = page.locator("#question")
    box.press_sequentially("say a")
    low = box.bounding_box()["height"]
    box.press("Shift+Enter")
    box.press_sequentially("b")
    assert box.input_value() == "say a\nb"
    assert box.bounding_box()["height"] > low
    assert desk.actor.begun == 0
    box.press("Enter")
    page.locator(".answer[aria-busy=false]").wait_for()
    assert page.locator(".question").inner_text().endswith("say a\nb")


def test_a_question_that_is_sent_before_the_agents_are_known_waits_for_them(desk: Any) -> None:
    page = desk.open(wait=False)

    def late(route: Any) -> None:
        time.sleep(0.3)
        route.continue_()

    page.route("**/v1/models", late)
    page.reload(wait_until="commit")
    page.locator("#question:focus").wait_for()
    page.keyboard.type("early")
    page.keyboard.press("Enter")
    page.get_by_text("You said: early").wait_for()


def test_nothing_is_sent_while_an_input_method_is_at_work_or_the_box_is_empty(desk: Any) -> None:
    page = desk.open()
    page.locator("#question").fill("  \n ")
    page.locator("#question").press("Enter")
    page.locator("#question").fill("にほん")
    page.locator("#question").dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    assert page.locator(".turn").count() == 0
    assert page.locator("#question").input_value() == "にほん"


# ── conversations ────────────────────────────────────────────────────────────────────────


def test_conversations_are_kept_in_this_browser_and_on_the_server(desk: Any, ask: Ask) -> None:
    page = desk.open()
    ask(page, "query the sales")
    ask(page, "second question")
    assert len(desk.agent.sessions()) == 1
    page.get_by_role("button", name="New conversation").click()
    assert page.locator(".turn").count() == 0
    ask(page, "another matter")
    assert len(desk.agent.sessions()) == 2
    page.reload()
    page.get_by_role("button", name="query the sales", exact=True).click()
    assert page.locator(".turn").count() == 2
    ask(page, "third question")
    asked = [text for role, text in desk.actor.heard[-1] if role == "user"]
    assert asked == ["query the sales", "second question", "third question"]
    assert len(desk.agent.sessions()) == 2


def test_a_conversation_that_the_server_forgot_goes_on_with_its_tool_calls(desk: Any, ask: Ask) -> None:
    page = desk.open()
    ask(page, "both of them")
    told = page.evaluate("Object.entries(localStorage).find(([key]) => key.startsWith('loom.chat.'))[1]")
    session = json.loads(told)["session"]
    assert httpx2.delete(f"{desk.url}/v1/sessions/{session}").json()["deleted"]
    ask(page, "and then")
    heard = desk.actor.heard[-1]
    assert [role for role, _ in heard] == ["user", "assistant", "tool", "assistant", "user"]
    assert "33977" in heard[2][1]
    assert "since March" in heard[3][1]


def test_a_conversation_is_deleted_here_and_on_the_server(desk: Any, ask: Ask) -> None:
    page = desk.open()
    ask(page, "a secret matter")
    page.get_by_role("button", name="Delete “a secret matter”").click()
    until(lambda: desk.agent.sessions() == ())
    assert page.locator(".turn").count() == 0
    assert "secret matter" not in page.evaluate("JSON.stringify(localStorage)")


def test_all_conversations_are_deleted_when_that_is_meant(desk: Any, ask: Ask) -> None:
    page = desk.open()
    for question in ("one", "two"):
        page.get_by_role("button", name="New conversation").click()
        ask(page, question)
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete all").click()
    assert page.locator("#conversations li").count() == 2
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete all").click()
    assert page.locator("#conversations li").count() == 0
    until(lambda: desk.agent.sessions() == ())


def test_an_answer_goes_on_while_another_conversation_is_shown(desk: Any, ask: Ask) -> None:
    page = desk.open()
    ask(page, "slow 30", wait=False)
    page.get_by_role("button", name="New conversation").click()
    ask(page, "hello")
    page.get_by_role("button", name="slow 30").first.click()
    page.locator(".answer").get_by_text("word29").wait_for()
    page.locator(".answer[aria-busy=false]").wait_for()
    assert desk.actor.cancelled == 0


def test_an_answer_that_was_under_way_when_the_page_was_left_is_marked(desk: Any, ask: Ask) -> None:
    page = desk.open()
    ask(page, "slow 400", wait=False).get_by_text("word3").wait_for()
    page.reload()
    until(lambda: desk.actor.cancelled == 1)
    page.get_by_role("button", name="slow 400").first.click()
    page.get_by_text("Interrupted").wait_for()
    assert "word2" in page.locator(".answer").inner_text()


def test_a_storage_that_is_broken_or_foreign_does_no_harm(desk: Any, ask: Ask) -> None:
    page = desk.open()
    page.evaluate(
        """() => {
            localStorage.setItem('loom.chat.1', '{"id": 1');
            localStorage.setItem('loom.chat.2', '{"id": "2", "turns": [{"question": 7}]}');
            localStorage.setItem('loom.chat.3', 'null');
        }"""
    )
    page.reload()
    assert "You said: hello" in ask(page, "hello").inner_text()
    assert page.locator("#conversations li").count() == 1


def test_agents_are_chosen_and_a_change_takes_the_conversation_along(
    desk: Any, ask: Ask, browser: Any
) -> None:
    other = type(desk.actor)()
    with AgentBuilder().with_llm(other).with_name("support").build() as second:
        page = desk.open(desk.serve({"analyst": desk.agent, "team/support": second}))
        ask(page, "for the analyst")
        page.get_by_label("Agent", exact=True).select_option("team/support")
        answer = ask(page, "for the others")
        assert "team/support" in answer.inner_text()
        asked = [text for role, text in other.heard[-1] if role == "user"]
        assert asked == ["for the analyst", "for the others"]
        page.context.close()


def test_a_server_of_several_workers_is_sent_the_whole_history(desk: Any, ask: Ask, launch: Any) -> None:
    server = launch(workers=2)
    page = desk.open(server.url)
    ask(page, "one")
    answer = ask(page, "history")
    assert "user: one | assistant: echo one | user: history" in answer.inner_text()


# ── what goes wrong ──────────────────────────────────────────────────────────────────────


def test_an_error_is_told_in_the_servers_words_and_when_to_come_again(desk: Any, ask: Ask) -> None:
    page = desk.open()
    answer = ask(page, "busy")
    alert = answer.get_by_role("alert")
    assert "The model has too much to do now." in alert.inner_text()
    assert "429 · rate_limit_exceeded · req_" in alert.inner_text()
    assert "The server asks to wait" in alert.inner_text()
    button = alert.get_by_role("button", name="Try again")
    assert button.is_disabled()
    until(button.is_enabled)
    button.click()
    until(lambda: desk.actor.begun == 2)
    assert page.locator(".turn").count() == 1


def test_what_policies_decide_is_told_where_it_happens(desk: Any, ask: Ask) -> None:
    script = ScriptedProvider([ServiceUnavailableError("away"), "fine"])
    builder = (
        AgentBuilder()
        .with_llm(script)
        .with_name("trier")
        .with_retries(max_attempts=2, initial_seconds=0.05, jitter_seconds=0)
    )
    with builder.build() as agent:
        page = desk.open(desk.serve(agent))
        answer = ask(page, "hello")
        assert "scripted/scripted-1 failed" in answer.locator(".note").inner_text()
        assert "fine" in answer.locator(".text").inner_text()
        page.context.close()


def test_text_that_is_taken_back_goes_and_what_tools_found_stays(desk: Any, ask: Ask) -> None:
    builder = desk.builder().with_retries(max_attempts=2, initial_seconds=0.05, restart_streams=True)
    with builder.build() as agent:
        page = desk.open(desk.serve(agent))
        answer = ask(page, "restart after a tool")
        assert answer.locator("details.tool[data-state=done]").count() == 1
        assert answer.locator(".text").all_inner_texts() == ["before the tool", "the whole answer"]
        assert "The answer broke off and begins anew" in answer.inner_text()
        page.context.close()


def test_an_answer_that_breaks_off_keeps_what_had_come(desk: Any, ask: Ask) -> None:
    answer = ask(desk.open(), "cut 5")
    assert "word4" in answer.inner_text()
    assert "The model's answer broke off." in answer.get_by_role("alert").inner_text()


def test_a_server_that_is_gone_is_told_of(desk: Any, ask: Ask, launch: Any) -> None:
    server = launch()
    page = desk.open(server.url)
    assert "echo hello" in ask(page, "hello").inner_text()
    server.terminate()
    server.ended()
    assert "The server cannot be reached." in ask(page, "hello again").get_by_role("alert").inner_text()
    page.locator(".health-button[data-light=red]").wait_for()
    assert "Not reachable" in page.locator("#health").inner_text()


def test_the_light_turns_red_when_a_breaker_opens(desk: Any, ask: Ask) -> None:
    page = desk.open()
    health = page.locator("#health")
    page.locator("#health[data-light=green]").wait_for()
    assert "All well" in health.inner_text()
    for _ in range(2):
        assert "The model cannot be reached now." in ask(page, "away").inner_text()
    page.locator("#health[data-light=red]").wait_for()
    assert "Down" in health.inner_text()
    health.click()
    panel = page.get_by_role("region", name="Deployments")
    assert "actor/actor-1" in panel.inner_text()
    assert "Circuit open, tried again in" in panel.inner_text()
    assert "upstream-secret" not in page.content()
    page.keyboard.press("Escape")
    assert not panel.is_visible()


def test_the_health_is_asked_for_again_by_itself_and_seldom_while_nobody_answers(desk: Any) -> None:
    page = desk.open()
    asked: list[str] = []
    page.locator("#health[data-light=green]").wait_for()
    page.clock.install()
    page.reload()
    page.locator("#health[data-light=green]").wait_for()
    page.on("request", lambda sent: asked.append(sent.url) if sent.url.endswith("/health") else None)

    def seconds_until(count: int) -> float:
        """How much of the page's time goes by until it has asked so often."""
        for step in range(200):
            if len(asked) >= count:
                return step * 0.5
            page.clock.run_for(500)
            page.wait_for_timeout(30)  # of real time, in which the last answer arrives
        raise AssertionError(f"asked {len(asked)} times, not {count}")

    assert 4 <= seconds_until(1) <= 6
    page.route("**/health", lambda route: route.abort())
    seconds_until(2)
    page.locator("#health[data-light=red]").wait_for()
    assert seconds_until(3) > 6  # it waits longer now
    page.unroute("**/health")
    seconds_until(5)
    page.locator("#health[data-light=green]").wait_for()


# ── keys ─────────────────────────────────────────────────────────────────────────────────


def _enter(page: Page, secret: str) -> None:
    page.get_by_label("API key", exact=True).last.fill(secret)
    page.keyboard.press("Enter")


def test_a_key_is_asked_for_kept_for_the_tab_and_shown_nowhere(desk: Any, ask: Ask) -> None:
    secret, known = new_key("ada")
    page = desk.open(desk.serve(keys=(known,)), wait=False)
    dialog = page.get_by_role("dialog", name="This server asks for an API key")
    dialog.wait_for()
    assert page.locator("#key-input").get_attribute("type") == "password"
    _enter(page, "loom-wrong")
    dialog.get_by_text("The server does not know this key.").wait_for()
    assert page.locator("#key-input").input_value() == ""
    _enter(page, "no key at all")
    assert "without spaces" in dialog.inner_text()
    _enter(page, secret)
    dialog.wait_for(state="hidden")
    assert "You said: hello" in ask(page, "hello").inner_text()
    assert page.evaluate("sessionStorage.getItem('loom.key')") == secret
    assert secret not in page.evaluate("JSON.stringify(localStorage) + document.documentElement.outerHTML")
    page.reload()
    assert "You said: again" in ask(page, "again").inner_text()
    assert not dialog.is_visible()


def test_who_has_no_key_can_say_so_and_come_back_to_it(desk: Any) -> None:
    page = desk.open(desk.serve(keys=(new_key("ada").key,)), wait=False)
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.locator("#question").fill("hello")
    page.locator("#question").press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(".turn").count() == 0
    page.get_by_role("button", name="API key").click()
    page.get_by_role("dialog").wait_for()


def test_a_key_that_is_taken_back_is_asked_for_once(desk: Any, ask: Ask, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    secret = file.add("ada")
    page = desk.open(desk.serve(keys_file=file.path), wait=False)
    page.get_by_role("dialog").wait_for()
    _enter(page, secret)
    page.get_by_role("dialog").wait_for(state="hidden")
    desk.wait_until_ready(page)
    file.remove("ada")
    time.sleep(1.1)
    answer = ask(page, "hello")
    assert "401" in answer.inner_text()
    page.get_by_role("dialog").get_by_text("does not take this key any more").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_timeout(200)
    assert not page.get_by_role("dialog").is_visible()
