"""A loopback Azure OpenAI, and a loopback OpenAI, for tests and demonstrations; needs the extra ``emulator``.

::

    with AzureEmulator(ScriptedProvider(["Hello!"])) as azure:
        ...  # point any Azure OpenAI client at azure.endpoint with azure.api_key
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loom_py.clock import Clock, RealClock, VirtualClock
    from loom_py.emulator.catalogue import failure_names
    from loom_py.emulator.echo import EchoProvider
    from loom_py.emulator.fault_plan import FaultPlan, FaultRule, Latency
    from loom_py.emulator.filters import ContentFilters
    from loom_py.emulator.openai_server import OpenAIEmulator
    from loom_py.emulator.quotas import Ptu, Quota
    from loom_py.emulator.resource import RecordedRequest
    from loom_py.emulator.server import AzureEmulator
    from loom_py.emulator.upstream import AzureUpstream

__all__ = [
    "AzureEmulator",
    "AzureUpstream",
    "Clock",
    "ContentFilters",
    "EchoProvider",
    "FaultPlan",
    "FaultRule",
    "Latency",
    "OpenAIEmulator",
    "Ptu",
    "Quota",
    "RealClock",
    "RecordedRequest",
    "VirtualClock",
    "failure_names",
]

_HOMES = {
    "AzureEmulator": "server",
    "AzureUpstream": "upstream",
    "Clock": ".clock",
    "ContentFilters": "filters",
    "EchoProvider": "echo",
    "FaultPlan": "fault_plan",
    "FaultRule": "fault_plan",
    "Latency": "fault_plan",
    "OpenAIEmulator": "openai_server",
    "Ptu": "quotas",
    "Quota": "quotas",
    "RealClock": ".clock",
    "RecordedRequest": "resource",
    "VirtualClock": ".clock",
    "failure_names": "catalogue",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
