"""An environment without any AWS in it, and an emulator to call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loom_bedrock import BedrockProvider
from loom_bedrock.emulator import BedrockEmulator
from loom_py.llm.provider import LLMProvider

NOVA = "us.amazon.nova-lite-v1:0"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the developer's own credentials nor a machine's role are ever touched."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "BOTO"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


Serve = Callable[..., tuple[BedrockEmulator, BedrockProvider]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes an emulator with an engine, and a provider that calls it."""
    running: list[Any] = []

    def make(
        engine: LLMProvider | None = None,
        *,
        model: str = CLAUDE,
        emulated: dict[str, Any] | None = None,
        **settings: Any,
    ) -> tuple[BedrockEmulator, BedrockProvider]:
        bedrock = BedrockEmulator(engine, **(emulated or {})).start()
        provider = BedrockProvider(model=model, **{**bedrock.settings, **settings})
        running.extend((bedrock.stop, provider.close))
        return bedrock, provider

    yield make
    for end in reversed(running):
        end()
