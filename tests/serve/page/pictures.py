"""Pictures of the chat page for the documentation: ``python tests/serve/page/pictures.py FOLDER``."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import sync_playwright

from loom_py.serve import ServeConfig, new_key, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def _tests() -> Any:
    """The conftest.py next to this file: the agents, and how Chromium is started."""
    spec = importlib.util.spec_from_file_location("page_conftest", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tests = _tests()
Actor, builder, ARGUMENTS = tests.agents.Actor, tests.agents.builder, tests.ARGUMENTS


def open_page(
    browser: Browser, url: str, *, dark: bool = False, width: int = 1060, height: int = 720
) -> Page:
    """A page of its own storage."""
    page = browser.new_page(
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": height},
        device_scale_factor=1.5,
    )
    page.goto(url)
    page.locator("#health[data-light]").wait_for()
    return page


def ask(page: Page, question: str, *, wait: bool = True) -> None:
    """Ask, and wait for the end of the answer."""
    count = page.locator(".answer").count()
    page.locator("#question").fill(question)
    page.locator("#question").press("Enter")
    page.locator(".answer").nth(count).wait_for()
    if wait:
        page.locator(".answer[aria-busy=false]").nth(count).wait_for()


def save(page: Page, folder: Path, name: str) -> None:
    """A picture; of fewer colours where it would be large."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(400)
    path = folder / f"serve-{name}.png"
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        whole = picture.convert("RGB")
    whole.save(path, optimize=True)
    if path.stat().st_size > LARGE:
        whole.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


LARGE = 145_000
"""Bytes."""

QUESTION = "Which routes lost passengers since March?"


def wide(browser: Browser, url: str, folder: Path) -> None:
    """The page on a desk, in both themes."""
    for mode in ("light", "dark"):
        page = open_page(browser, url, dark=mode == "dark")
        save(page, folder, f"welcome-{mode}")
        ask(page, "say There are **212** routes.")
        page.get_by_role("button", name="New conversation").click()
        ask(page, QUESTION)
        page.locator(".transcript").evaluate("node => node.scrollTop = 0")
        save(page, folder, f"answer-{mode}")
        page.locator(".tool summary").first.click()
        save(page, folder, f"tool-{mode}")
        page.locator("#health").click()
        save(page, folder, f"health-{mode}")
        page.close()


def narrow(browser: Browser, url: str, folder: Path) -> None:
    """The page on a telephone."""
    page = open_page(browser, url, dark=True, width=360, height=720)
    save(page, folder, "narrow-welcome")
    ask(page, QUESTION)
    page.locator(".transcript").evaluate("node => node.scrollTop = 0")
    save(page, folder, "narrow")
    page.get_by_role("button", name="Conversations", exact=True).click()
    save(page, folder, "narrow-list")
    page.keyboard.press("Escape")
    page.locator("#health").click()
    save(page, folder, "narrow-health")
    page.close()


def troubles(browser: Browser, url: str, folder: Path) -> None:
    """What is under way, and what went wrong."""
    page = open_page(browser, url)
    ask(page, "wait a moment", wait=False)
    page.locator(".tool[data-state=running]").wait_for()
    save(page, folder, "running")
    page.keyboard.press("Escape")
    ask(page, "slow 60", wait=False)
    page.get_by_text("word20").wait_for()
    save(page, folder, "streaming")
    page.keyboard.press("Escape")
    ask(page, "away")
    ask(page, "away")
    page.get_by_role("button", name="New conversation").click()
    ask(page, QUESTION)
    page.locator("#health[data-light=red]").wait_for()
    page.locator("#health").click()
    save(page, folder, "error")
    page.close()


def main(folder: Path) -> None:
    """All pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        builder(Actor()).build() as agent,
        builder(Actor(), "support").build() as other,
        sync_playwright() as playwright,
        serving({"analyst": agent, "support": other}) as url,
        serving(agent) as alone,
        serving(agent, ServeConfig(port=0, keys=(new_key("ada").key,))) as locked,
    ):
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        wide(browser, url, folder)
        narrow(browser, url, folder)
        page = open_page(browser, locked, dark=True)
        page.get_by_role("dialog").wait_for()
        save(page, folder, "key")
        page.close()
        troubles(browser, alone, folder)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
