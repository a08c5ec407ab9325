"""What is asked of each client, in words that every one of them can be given. Standard library only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.metadata import PackageNotFoundError, version
from typing import Any

DEPLOYMENT = "gpt-4o"
API_VERSION = "2024-10-21"
KEY = "benchmark-key"
SYSTEM = "You are helpful."
QUESTION = "What is the answer?"
ANSWER = "The answer is 42."
TOOL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


class Weather:
    """Counts how often the tool ran, so that no client can skip it unseen."""

    asked = 0


def get_weather(city: str) -> str:
    """The weather of a city."""
    Weather.asked += 1
    return f"{city}: sunny"


def word(index: int) -> str:
    """The text of a stream's chunk; no two in a row are the same, as some clients take that for a fault."""
    return f"word{index % 50} "


def streamed(chunks: int) -> str:
    """The whole text of a stream of so many chunks."""
    return "".join(map(word, range(chunks)))


def conversation(length: int) -> list[tuple[str, str]]:
    """``length`` earlier messages: role and text, user and assistant in turn."""
    return [
        ("user", f"Question {index}: how many desk lamps are in stock?")
        if index % 2 == 0
        else ("assistant", f"Answer {index}: there are {index % 97} desk lamps, 12 of them reserved.")
        for index in range(length)
    ]


def wire_messages(history: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The system prompt, ``history`` and the question, as they go over the wire."""
    turns = [("system", SYSTEM), *history, ("user", QUESTION)]
    return [{"role": role, "content": text} for role, text in turns]


class Contender(ABC):
    """One client. Each endpoint gets a client and an agent of its own, made when first needed and kept."""

    REQUIREMENTS: tuple[str, ...] = ()
    """What to install to run it."""
    IMPORT: str | None = None
    """The statement its users begin with, whose time is measured."""
    HAS_AGENTS = False
    """Whether it has agents of its own to `build`."""
    PACKAGES: tuple[str, ...] = ()
    """The distributions whose versions are reported."""

    def __init__(self) -> None:
        self._agents: dict[str, Any] = {}

    def agent(self, endpoint: str) -> Any:
        """The agent for that endpoint."""
        if endpoint not in self._agents:
            self._agents[endpoint] = self.connect(endpoint)
        return self._agents[endpoint]

    @classmethod
    def versions(cls) -> dict[str, str]:
        """The versions of what it runs on, as far as installed."""
        found = {}
        for package in (*cls.PACKAGES, "openai"):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return found

    @abstractmethod
    def connect(self, endpoint: str) -> Any:
        """A client, and an agent with the system prompt and the tool, that calls ``endpoint``."""

    @abstractmethod
    async def ask(self, endpoint: str, history: Any = None) -> str:
        """The answer to the question, after ``history`` if there is one; tools are run as asked for."""

    @abstractmethod
    async def stream(self, endpoint: str) -> str:
        """The text of the streamed answer, put together from its pieces."""

    @abstractmethod
    def history(self, messages: list[tuple[str, str]]) -> Any:
        """Earlier messages in the client's own types; ready before the clock starts."""

    def build(self, endpoint: str) -> Any:
        """One more agent, on the client that is there already."""
        raise TypeError(f"{type(self).__name__} has no agents")

    async def aclose(self) -> None:  # noqa: B027 - those that need not hang up have nothing to do
        """Hang up."""
