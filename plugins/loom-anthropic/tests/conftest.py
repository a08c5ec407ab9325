"""What the tests share: an environment without credentials, and the API on loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from loom_anthropic import AnthropicEmulator, AnthropicProvider

Make = Callable[..., AnthropicProvider]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def api() -> Iterator[AnthropicEmulator]:
    """The API, with a model that repeats what the user said."""
    with AnthropicEmulator() as emulator:
        yield emulator


@pytest.fixture
def claude(api: AnthropicEmulator) -> Iterator[Make]:
    """Makes providers of the emulated API, and closes them."""
    made = []

    def make(model: str = "claude-sonnet-4-6", **settings: object) -> AnthropicProvider:
        settings = {"api_key": api.api_key, "base_url": api.base_url, **settings}
        provider = AnthropicProvider(model=model, **settings)  # type: ignore[arg-type]
        made.append(provider)
        return provider

    yield make
    for provider in made:
        provider.close()
