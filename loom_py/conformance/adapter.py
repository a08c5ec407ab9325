"""What the suite needs to know of a provider: an `Adapter`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from loom_py.conformance.script import FAILURES, Script, SeenRequest
from loom_py.errors import ConfigError, LoomError
from loom_py.llm.provider import LLMProvider

__all__ = ["BUILT_IN", "FEATURES", "Adapter", "AdapterSource", "BaseAdapter", "load_adapter", "new_adapter"]

FEATURES: Mapping[str, str] = {
    "text": "the model writes the words of a reply, which reach the caller as they are",
    "requests": "`requests()` tells what the service saw",
    "options": "temperature, token limit and the choice of no tool are sent, and seen",
    "tools": "the model can ask for tools",
    "call_ids": "a call has the id that the service gave it, not one of the provider's own",
    "argument_text": "the arguments of a call travel as JSON text, not as an object",
    "tool_choice": "a tool call can be demanded: any, or one tool by its name",
    "images": "messages may hold images",
    "image_urls": "images may be given by their address",
    "usage": "the service reports tokens",
    "cached_usage": "it reports cached input tokens",
    "reasoning_usage": "it reports reasoning tokens",
    "prices": "the provider knows the price of its model",
    "unknown_prices": "a script can be for a model without a known price",
    "paced_streams": "a stream's pieces arrive one after the other, as `Answer.pause` says",
    "slow": "an answer can be made to wait, as `Answer.delay` says",
    "deadlines": "the provider's own clock ends a call, by `ChatOptions.timeout`",
    "request_ids": "every answer and error has a request id",
    "secrets": "the provider holds a credential; `secrets` says which texts must never show",
    "length": "an answer may end by its token limit",
    **FAILURES,
}
"""What a plugin and its fake service can do. A scenario that needs more is skipped."""


@runtime_checkable
class Adapter(Protocol):
    """Sets a provider up for the suite. `BaseAdapter` has defaults for most of it."""

    @property
    def name(self) -> str:
        """What the scorecard calls it."""
        ...

    @property
    def capabilities(self) -> AbstractSet[str]:
        """Names of `FEATURES`. Scenarios that need others are skipped, and say why."""
        ...

    @property
    def secrets(self) -> Sequence[str]:
        """Credentials the provider is given; none may show in any text."""
        ...

    def provider(self, script: Script) -> AbstractContextManager[LLMProvider]:
        """A live provider whose service does what ``script`` says; leaving it ends the service.

        The suite closes the provider itself.
        """
        ...

    def requests(self) -> Sequence[SeenRequest]:
        """What the service of the latest `provider` saw, in order."""
        ...


class BaseAdapter:
    """An adapter to derive from: `provider` is still to be written.

    ``capabilities`` begins as everything in `FEATURES`; a plugin takes away what does not apply.
    """

    name: str = "adapter"
    capabilities: AbstractSet[str] = frozenset(FEATURES)
    secrets: Sequence[str] = ()

    def requests(self) -> Sequence[SeenRequest]:
        """What the service saw: nothing, unless a subclass says otherwise."""
        return ()


AdapterSource: TypeAlias = str | Adapter | Callable[[], Adapter]
"""A name, an import path ``module:attribute``, an adapter, or what makes one (such as its class)."""

BUILT_IN: Mapping[str, str] = {
    "azure": "loom_py.conformance.adapters.azure:AzureAdapter",
    "azure-v1": "loom_py.conformance.adapters.azure:AzureV1Adapter",
    "azure-responses": "loom_py.conformance.adapters.azure:AzureResponsesAdapter",
    "openai": "loom_py.conformance.adapters.openai:OpenAIAdapter",
    "openai-responses": "loom_py.conformance.adapters.openai:OpenAIResponsesAdapter",
    "scripted": "loom_py.conformance.adapters.scripted:ScriptedAdapter",
}
"""The adapters that come with loom_py."""


def load_adapter(path: str) -> Callable[[], Adapter]:
    """What makes the adapter called ``path``: a built-in name, or ``module:attribute``.

    Modules are also looked for in the current folder. Raises `ConfigError` where there is none.
    """
    target = BUILT_IN.get(path, path)
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(
            f"no adapter {path!r}",
            field="adapter",
            hint=f"Use {', '.join(BUILT_IN)}, or module:attribute.",
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except LoomError:
        raise  # an extra that is missing, with its own hint
    except Exception as exc:
        reason = f"{type(exc).__name__}: {exc}"
        raise ConfigError(f"the adapter {path!r} cannot be loaded: {reason}", field="adapter") from exc
    return lambda: new_adapter(found)


def new_adapter(source: AdapterSource) -> Adapter:
    """The adapter that ``source`` is or makes.

    Raises `ConfigError` for what is none, cannot be made, or claims capabilities nobody knows.
    """
    made: Any = load_adapter(source) if isinstance(source, str) else source
    if callable(made) and (isinstance(made, type) or not isinstance(made, Adapter)):
        try:
            made = made()
        except LoomError:
            raise
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}"
            raise ConfigError(f"the adapter cannot be made: {reason}", field="adapter") from exc
    if not isinstance(made, Adapter):
        wanted = "name, capabilities, secrets, provider() and requests()"
        raise ConfigError(f"{made!r} is no adapter: it needs {wanted}", field="adapter")
    unknown = sorted(set(made.capabilities) - set(FEATURES))
    if unknown:
        raise ConfigError(
            f"adapter {made.name!r} claims unknown capabilities: {', '.join(unknown)}",
            field="adapter",
            hint=f"Known are {', '.join(FEATURES)}.",
        )
    return made
