"""A real Chromium that looks at a real server; neither may talk to anything but this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from loom_py import Agent, AgentBuilder
from loom_py.serve import ServeConfig, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

INSTALL_SECONDS = 300
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"page_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


agents = _load("agents")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is; Debian's package is installed where it is missing and that can be done."""
    for attempt in (False, True):
        if attempt and shutil.which("apt-get") is not None and os.geteuid() == 0:
            quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
                with suppress(subprocess.SubprocessError):
                    subprocess.run(
                        ["apt-get", "-q", *words],
                        check=False,
                        capture_output=True,
                        timeout=INSTALL_SECONDS,
                        env=quietly,
                    )
        for program in ("chromium", "chromium-browser", "google-chrome"):
            if (found := shutil.which(program)) is not None:
                return found
    pytest.skip("Chromium is not installed and cannot be (Debian's package is chromium)")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One browser for the tests of a module; playwright's loop must not outlive it."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (PyPI)")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield found
        found.close()


class Desk:
    """The server, the model behind it, and what the pages that were opened complained of."""

    def __init__(self, browser: Browser, stack: ExitStack) -> None:
        self.actor = agents.Actor()
        self.complaints: list[str] = []
        self.agent: Agent = stack.enter_context(agents.builder(self.actor).build())
        self.url = ""
        self._browser = browser
        self._stack = stack

    def builder(self) -> AgentBuilder:
        """The agent's builder, to serve it with other policies."""
        found: AgentBuilder = agents.builder(self.actor)
        return found

    def serve(self, served: Any = None, **settings: Any) -> str:
        """Serve the agent, or others; the URL."""
        config = ServeConfig(port=0, **settings)
        self.url = self._stack.enter_context(serving(served or self.agent, config))
        return self.url

    def open(self, url: str | None = None, *, wait: bool = True, **settings: Any) -> Page:
        """A page with storage of its own, ready to be asked."""
        self.url = url or self.url or self.serve()
        settings = {"viewport": {"width": 1100, "height": 760}, **settings}
        context = self._stack.enter_context(self._browser.new_context(**settings))
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("console", lambda said: self._hear(said.type, said.text))
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("request", lambda sent: self._watch(sent.url))
        page.add_init_script(
            "addEventListener('securitypolicyviolation',"
            " (event) => console.error('policy: ' + event.violatedDirective))"
        )
        page.goto(self.url)
        if wait:
            self.wait_until_ready(page)
        return page

    def wait_until_ready(self, page: Page) -> None:
        """Wait until the page knows the agents."""
        page.locator("#question[placeholder^='Ask ']:not([placeholder='Ask something'])").wait_for()

    def _hear(self, kind: str, text: str) -> None:
        # A refusal of the server is noted by the browser itself, and shown by the page.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.complaints.append(f"{kind}: {text}")

    def _watch(self, url: str) -> None:
        if not url.startswith((f"{self.url}/", "data:")):
            self.complaints.append(f"asked {url}")


@pytest.fixture
def desk(browser: Browser) -> Iterator[Desk]:
    """A desk; a page that logged an error, broke its policy or asked another host fails the test."""
    with ExitStack() as stack:
        found = Desk(browser, stack)
        yield found
        assert found.complaints == []


Ask = Callable[..., Any]


@pytest.fixture
def ask() -> Ask:
    """Asks a page and waits for the end of the answer; the answer."""

    def send(page: Page, question: str, *, wait: bool = True) -> Any:
        count = page.locator(".answer").count()
        page.locator("#question").fill(question)
        page.locator("#question").press("Enter")
        answer = page.locator(".answer").nth(count)
        answer.wait_for()
        if wait:
            page.locator(".answer[aria-busy=false]").nth(count).wait_for()
        return answer

    return send
