"""Pictures of the chat page for the documentation: ``python tests/serve/page/shots.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from agents import Actor, builder
from playwright.sync_api import Browser, Page, sync_playwright

from loom_py.serve import ServeConfig, new_key, serving

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def open_page(browser: Browser, url: str, *, dark: bool = False, width: int = 1180, height: int = 780) -> Page:
    """A page of its own storage."""
    scheme = "dark" if dark else "light"
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
    page.goto(url)
    page.get_by_role("button", name="Health").get_by_text("All well").wait_for()
    return page


def ask(page: Page, question: str, *, wait: bool = True) -> None:
    """Ask, and wait for the end of the answer."""
    page.get_by_label("Your message", exact=True).last.fill(question)
    page.keyboard.press("Enter")
    if wait:
        page.locator(".answer").last.and_(page.locator("[aria-busy=false]")).wait_for()
        page.locator(".answer[aria-busy=false] .end > *").last.wait_for()


def save(page: Page, folder: Path, name: str) -> None:
    """A picture."""
    page.wait_for_timeout(300)
    page.screenshot(path=folder / f"serve-{name}.png")


def main(folder: Path) -> None:
    """All pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with builder(Actor()).build() as agent, builder(Actor(), "support").build() as other:
        with sync_playwright() as playwright, serving({"analyst": agent, "support": other}) as url:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
            for dark in (False, True):
                mode = "dark" if dark else "light"
                page = open_page(browser, url, dark=dark)
                save(page, folder, f"welcome-{mode}")
                ask(page, "say the number of routes: **212**")
                page.get_by_role("button", name="New conversation").click()
                ask(page, "query which routes lost passengers since March")
                save(page, folder, f"answer-{mode}")
                page.locator(".tool summary").first.click()
                page.locator(".transcript").evaluate("node => node.scrollTop = 0")
                page.get_by_role("button", name="Health").click()
                save(page, folder, f"tool-{mode}")
                page.close()
            page = open_page(browser, url, dark=True, width=360, height=740)
            save(page, folder, "narrow-welcome")
            ask(page, "query which routes lost passengers since March")
            save(page, folder, "narrow")
            page.get_by_role("button", name="Conversations").click()
            save(page, folder, "narrow-list")
            page.keyboard.press("Escape")
            page.get_by_role("button", name="Health").click()
            save(page, folder, "narrow-health")
            page.close()
            page = open_page(browser, url)
            ask(page, "wait a moment", wait=False)
            page.locator(".tool[data-state=running]").wait_for()
            save(page, folder, "running")
            page.keyboard.press("Escape")
            ask(page, "slow 60", wait=False)
            page.get_by_text("word20").wait_for()
            save(page, folder, "streaming")
            page.keyboard.press("Escape")
            ask(page, "break it")
            ask(page, "busy")
            save(page, folder, "error")
            for _ in range(3):
                ask(page, "away")
            page.get_by_role("button", name="Health").get_by_text("Degraded").wait_for()
            page.get_by_role("button", name="Health").click()
            save(page, folder, "down")
            page.close()
            browser.close()
        key = new_key("ada")
        with sync_playwright() as playwright, serving(agent, ServeConfig(port=0, keys=(key.key,))) as url:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1180, "height": 780})
            page.goto(url)
            page.get_by_role("dialog").wait_for()
            save(page, folder, "key")
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
