"""A loopback Azure OpenAI for tests and demonstrations; needs the extra ``emulator``.

::

    with AzureEmulator(ScriptedProvider(["Hello!"])) as azure:
        ...  # point any Azure OpenAI client at azure.endpoint with azure.api_key
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loom_py.emulator.echo import EchoProvider
    from loom_py.emulator.resource import RecordedRequest
    from loom_py.emulator.server import AzureEmulator

__all__ = ["AzureEmulator", "EchoProvider", "RecordedRequest"]

_HOMES = {"AzureEmulator": "server", "EchoProvider": "echo", "RecordedRequest": "resource"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
