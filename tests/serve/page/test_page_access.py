"""The chat page for every eye, hand and screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., Any]

CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")
"""Texts seen, and those whose contrast is below WCAG 2.1's 4.5, or 3 for large ones."""

FOCUS = Path(__file__).with_name("focus.js").read_text("utf-8")
"""What has the focus, and whether that can be seen."""

STRUCTURE = Path(__file__).with_name("structure.js").read_text("utf-8")
"""What a screen reader would stumble over."""


def _fill(page: Any, ask: Ask) -> None:
    """Everything that can be seen: answers, tools, an error, the panel."""
    ask(page, "both of them").locator("summary").click()
    ask(page, "break it").locator("summary").click()
    ask(page, "slow 400", wait=False).get_by_text("word1").wait_for()
    page.keyboard.press("Escape")
    ask(page, "busy")
    page.locator("#health").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(desk: Any, ask: Ask, scheme: str) -> None:
    page = desk.open(color_scheme=scheme)
    seen, poor = page.evaluate(CONTRAST)
    assert poor == []
    _fill(page, ask)
    seen, poor = page.evaluate(CONTRAST)
    assert poor == []
    assert seen > 60
    page.keyboard.press("Escape")
    page.evaluate("document.getElementById('key-dialog').showModal()")
    page.evaluate("document.getElementById('key-problem').textContent = 'wrong'")
    assert page.evaluate(CONTRAST)[1] == []


def test_names_roles_and_references_are_whole(desk: Any, ask: Ask) -> None:
    page = desk.open()
    assert page.evaluate(STRUCTURE) == []
    _fill(page, ask)
    assert page.evaluate(STRUCTURE) == []
    log = page.get_by_role("log", name="Conversation")
    assert log.get_attribute("aria-live") == "polite"
    assert log.get_by_role("article").count() == 4
    assert page.get_by_role("status").count() == 1
    assert page.get_by_role("navigation", name="Earlier conversations").count() == 1


def test_the_state_of_a_light_is_told_by_words_and_shape_and_not_by_colour_alone(desk: Any, ask: Ask) -> None:
    page = desk.open()
    light = page.locator("#health .light")
    shape = "node => [getComputedStyle(node).clipPath, getComputedStyle(node).borderRadius].join(' ')"
    page.locator("#health[data-light=green]").wait_for()
    green = light.evaluate(shape)
    ask(page, "busy")
    page.locator("#health[data-light=amber], #health[data-light=red]").wait_for()
    assert light.evaluate(shape) != green
    assert page.get_by_role("button", name="Health:").inner_text() != "All well"


def test_the_keyboard_alone_is_enough(desk: Any) -> None:
    page = desk.open()
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("both of them")
    page.keyboard.press("Enter")
    page.locator(".answer[aria-busy=false]").wait_for()
    assert page.evaluate("document.activeElement.id") == "question"
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    page.keyboard.press("Enter")
    assert page.locator("details.tool[open]").count() == 1
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "question"
    assert page.locator("#question").input_value() == ""


def test_everything_is_reached_in_order_and_the_focus_is_seen(desk: Any, ask: Ask) -> None:
    page = desk.open()
    ask(page, "both of them")
    page.locator(".skip").focus()
    order: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        at, is_seen = page.evaluate(FOCUS)
        if at in ("BODY", "skip"):
            break
        assert is_seen, at
        order.append(at)
    assert page.locator("a, button, summary, textarea, select").first.get_attribute("class") == "skip"
    expected = ["new", "health", "theme", "transcript", "question"]
    assert [each for each in order if each in expected] == expected
    assert "SUMMARY" in order


def test_the_skip_link_leads_to_the_message(desk: Any) -> None:
    page = desk.open()
    skip = page.get_by_role("link", name="Skip to your message")
    skip.focus()
    page.wait_for_timeout(50)
    assert skip.bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "question"


def test_the_theme_follows_the_system_until_it_is_chosen(desk: Any) -> None:
    page = desk.open(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert dark != light
    page.get_by_role("button", name="Theme: as the system").click()
    assert page.evaluate(ground) == light
    page.reload()
    assert page.evaluate(ground) == light
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Theme: dark").click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == light


def test_who_wants_less_motion_gets_none(desk: Any, ask: Ask) -> None:
    page = desk.open(reduced_motion="reduce")
    ask(page, "slow 400", wait=False).get_by_text("word1").wait_for()
    names = page.evaluate(
        "[...document.querySelectorAll('*')].map((node) => getComputedStyle(node).animationName)"
    )
    assert set(names) == {"none"}


@pytest.mark.parametrize("width", [320, 360, 799])
def test_a_narrow_screen_has_no_scrolling_sideways(desk: Any, ask: Ask, width: int) -> None:
    page = desk.open(viewport={"width": width, "height": 700})
    wide = "[document.documentElement.scrollWidth, document.querySelector('.transcript').scrollWidth]"
    assert max(page.evaluate(wide)) <= width
    ask(page, "long 3")
    ask(page, "show it")
    ask(page, "hostile rows").locator("summary").click()
    ask(page, "busy")
    page.locator("#health").click()
    assert max(page.evaluate(wide)) <= width
    panel = page.locator("#health-panel").bounding_box()
    assert panel["x"] >= 0
    assert panel["x"] + panel["width"] <= width
    page.keyboard.press("Escape")
    send = page.get_by_role("button", name="Send").bounding_box()
    assert send["x"] + send["width"] <= width
    assert send["y"] + send["height"] <= 700


def test_on_a_narrow_screen_the_list_is_a_drawer_that_keeps_the_focus(desk: Any, ask: Ask) -> None:
    page = desk.open(viewport={"width": 360, "height": 700})
    ask(page, "hello")
    assert not page.locator("#sidebar").is_visible()
    opener = page.get_by_role("button", name="Conversations", exact=True)
    opener.click()
    page.locator("#sidebar").wait_for()
    assert opener.get_attribute("aria-expanded") == "true"
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("!document.activeElement.closest('#main-column')")
    page.keyboard.press("Escape")
    page.locator("#sidebar").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.id") == "open-sidebar"


def test_the_end_is_followed_unless_the_reader_has_gone_back(desk: Any, ask: Ask) -> None:
    page = desk.open(viewport={"width": 700, "height": 420})
    transcript = page.locator(".transcript")
    left = "node => node.scrollHeight - node.scrollTop - node.clientHeight"
    ask(page, "show it")
    assert transcript.evaluate(left) < 2
    transcript.evaluate("node => node.scrollTop = 0")
    answer = ask(page, "slow 30", wait=False)
    answer.get_by_text("word3").wait_for()
    assert transcript.evaluate(left) < 2  # one's own question is looked at
    transcript.evaluate("node => node.scrollTop = 0")
    answer.get_by_text("word20").wait_for()
    assert transcript.evaluate("node => node.scrollTop") == 0
    page.get_by_role("button", name="Latest").click()
    assert transcript.evaluate(left) < 2
