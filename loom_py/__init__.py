"""loom_py: the agent library you can put on call.

::

    from loom_py import AgentBuilder, SQLBackend

    agent = (
        AgentBuilder()
        .with_backend(SQLBackend("sqlite:///shop.db"))
        .with_azure_openai_llm("https://myresource.openai.azure.com", "gpt-4o-deployment", "key")
        .with_circuit_breakers()
        .build()
    )
    response = agent.chat("Which product lost the most money last quarter?")

Names are imported when they are first used; importing loom_py imports neither openai nor any
optional package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loom_py._version import __version__

if TYPE_CHECKING:
    from loom_py.agent import Agent
    from loom_py.backends import Backend, BaseBackend, QueryResult, SQLBackend
    from loom_py.builder import AgentBuilder
    from loom_py.clock import VirtualClock
    from loom_py.conversation import Conversation
    from loom_py.emulator import AzureEmulator, OpenAIEmulator
    from loom_py.errors import BudgetExceededError, BuilderError, LoomError, RetriesExhausted, ToolError
    from loom_py.events import (
        FinalResponse,
        StreamEvent,
        StreamRestarted,
        TextDelta,
        ToolCallCompleted,
        ToolCallStarted,
        ToolResultEvent,
        UsageEvent,
    )
    from loom_py.llm import (
        BaseProvider,
        Cost,
        CostReport,
        LLMProvider,
        ModelPrice,
        ModelProfile,
        PriceOverride,
        ScriptedProvider,
    )
    from loom_py.llm.azure import AzureOpenAIClient, AzureOpenAIConfig, KeyVaultSecret
    from loom_py.llm.openai import OpenAIClient, OpenAIConfig
    from loom_py.llm.scripted import call, reply
    from loom_py.loop import Limits
    from loom_py.messages import (
        ContentPart,
        ImagePart,
        Message,
        Response,
        TextPart,
        TokenUsage,
        ToolCall,
        ToolResult,
        ToolSpec,
    )
    from loom_py.observability import configure_logging
    from loom_py.options import ChatOptions
    from loom_py.resilience.budget import BudgetAlert
    from loom_py.resilience.deployment import Deployment
    from loom_py.resilience.events import PolicyEvent
    from loom_py.resilience.health import Health
    from loom_py.tools import Tool, tool

__all__ = [
    "Agent",
    "AgentBuilder",
    "AzureEmulator",
    "AzureOpenAIClient",
    "AzureOpenAIConfig",
    "Backend",
    "BaseBackend",
    "BaseProvider",
    "BudgetAlert",
    "BudgetExceededError",
    "BuilderError",
    "ChatOptions",
    "ContentPart",
    "Conversation",
    "Cost",
    "CostReport",
    "Deployment",
    "FinalResponse",
    "Health",
    "ImagePart",
    "KeyVaultSecret",
    "LLMProvider",
    "Limits",
    "LoomError",
    "Message",
    "ModelPrice",
    "ModelProfile",
    "OpenAIClient",
    "OpenAIConfig",
    "OpenAIEmulator",
    "PolicyEvent",
    "PriceOverride",
    "QueryResult",
    "Response",
    "RetriesExhausted",
    "SQLBackend",
    "ScriptedProvider",
    "StreamEvent",
    "StreamRestarted",
    "TextDelta",
    "TextPart",
    "TokenUsage",
    "Tool",
    "ToolCall",
    "ToolCallCompleted",
    "ToolCallStarted",
    "ToolError",
    "ToolResult",
    "ToolResultEvent",
    "ToolSpec",
    "UsageEvent",
    "VirtualClock",
    "__version__",
    "call",
    "configure_logging",
    "reply",
    "tool",
]

_HOMES = {
    "agent": ("Agent",),
    "backends": ("Backend", "BaseBackend", "QueryResult", "SQLBackend"),
    "builder": ("AgentBuilder",),
    "emulator": ("AzureEmulator", "OpenAIEmulator"),
    "clock": ("VirtualClock",),
    "conversation": ("Conversation",),
    "errors": ("BudgetExceededError", "BuilderError", "LoomError", "RetriesExhausted", "ToolError"),
    "events": (
        "FinalResponse",
        "StreamEvent",
        "StreamRestarted",
        "TextDelta",
        "ToolCallCompleted",
        "ToolCallStarted",
        "ToolResultEvent",
        "UsageEvent",
    ),
    "llm": (
        "BaseProvider",
        "Cost",
        "CostReport",
        "LLMProvider",
        "ModelPrice",
        "ModelProfile",
        "PriceOverride",
        "ScriptedProvider",
    ),
    "llm.azure": ("AzureOpenAIClient", "AzureOpenAIConfig", "KeyVaultSecret"),
    "llm.openai": ("OpenAIClient", "OpenAIConfig"),
    "llm.scripted": ("call", "reply"),
    "loop": ("Limits",),
    "messages": (
        "ContentPart",
        "ImagePart",
        "Message",
        "Response",
        "TextPart",
        "TokenUsage",
        "ToolCall",
        "ToolResult",
        "ToolSpec",
    ),
    "observability": ("configure_logging",),
    "options": ("ChatOptions",),
    "resilience.budget": ("BudgetAlert",),
    "resilience.deployment": ("Deployment",),
    "resilience.events": ("PolicyEvent",),
    "resilience.health": ("Health",),
    "tools": ("Tool", "tool"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
