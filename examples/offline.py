"""One line that lets every example run anywhere: against your Azure deployment, or offline.

With ``AZURE_OPENAI_ENDPOINT`` set the settings are empty and the library reads the environment.
Without it an emulator of Azure OpenAI is started on this machine and plays the given replies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from loom_py import AzureEmulator, ScriptedProvider
from loom_py.llm.scripted import Step

Settings: TypeAlias = tuple[str | None, str | None, str | None]
"""Endpoint, deployment and API key; ``None`` is read from the environment."""


@contextmanager
def azure(*replies: Step) -> Iterator[Settings]:
    """What ``with_azure_openai_llm`` takes; ``replies`` are what the emulated model will say."""
    if os.environ.get("AZURE_OPENAI_ENDPOINT"):
        yield None, None, None
        return
    with AzureEmulator(ScriptedProvider(replies)) as emulator:
        yield emulator.endpoint, "gpt-4o-deployment", emulator.api_key
