"""Which model ``loom chat`` talks with where no agent is named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loom_py.cli.failures import remember_secret
from loom_py.cli.settings import Found, found
from loom_py.errors import ConfigError, LoomError
from loom_py.keys import LazyStore

if TYPE_CHECKING:
    from loom_py.builder import AgentBuilder

__all__ = ["Chosen", "ModelFlags", "chosen_model", "key_settings", "no_model", "user_keys"]

KEY_VARIABLES = {
    "azure-openai": ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENTRA_TOKEN", "AZURE_OPENAI_AD_TOKEN"),
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
}
"""The variables of the best-known providers' keys; they come before the keyring."""


@dataclass(frozen=True, slots=True)
class ModelFlags:
    """What the command line says of the model."""

    llm: str | None = None
    endpoint: str | None = None
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model that is used, as a builder; ``label`` and ``source`` are for people. ``is_demo`` if none
    was configured.
    """

    builder: AgentBuilder
    label: str
    source: str
    is_demo: bool = False


class _KnownKeys(LazyStore):
    """The user's keys; each that is read is kept out of error messages."""

    def get(self, name: str) -> str | None:
        key = super().get(name)
        if key is not None:
            remember_secret(key)
        return key


def user_keys(where: str | None = None) -> LazyStore:
    """The user's keys: those in ``where``, else where the settings say, else the usual place."""
    return _KnownKeys(where if where is not None else found("keys").value)


def chosen_model(flags: ModelFlags) -> Chosen:
    """The model by flag, else environment, else the user's settings; else the offline demo's.

    Raises `ConfigError` for flags that contradict each other.
    """
    from loom_py.builder import AgentBuilder

    if flags.llm and (flags.endpoint or flags.deployment):
        raise ConfigError(
            "--llm and --endpoint or --deployment are two models",
            hint="Give --llm for any provider, or --endpoint and --deployment for Azure OpenAI.",
        )
    if flags.endpoint or flags.deployment:
        return _azure(flags, "flag")
    llm = Found(flags.llm, "flag") if flags.llm else found("llm")
    if llm.value:
        provider = llm.value.partition(":")[0]
        builder = AgentBuilder().with_llm(llm.value, **key_settings(provider))
        return Chosen(builder, llm.value, llm.source)
    if os.environ.get("AZURE_OPENAI_ENDPOINT", "").strip():
        return _azure(flags, "environment (AZURE_OPENAI_ENDPOINT)")
    from loom_py.cli.demo import demo_builder

    return Chosen(demo_builder(), "demo", "default", is_demo=True)


def no_model() -> ConfigError:
    """For a command that has no use for the demo."""
    return ConfigError(
        "no model is configured",
        hint="Name an agent's file, --llm PROVIDER:MODEL, or --endpoint URL and --deployment NAME. "
        "AZURE_OPENAI_ENDPOINT and LOOM_LLM do, too.",
    )


def _azure(flags: ModelFlags, source: str) -> Chosen:
    from loom_py.builder import AgentBuilder

    builder = AgentBuilder().with_azure_openai_llm(
        flags.endpoint, flags.deployment, **key_settings("azure-openai")
    )
    label = flags.deployment or os.environ.get("AZURE_OPENAI_DEPLOYMENT") or "azure-openai"
    return Chosen(builder, label, source)


def key_settings(provider: str) -> dict[str, Any]:
    """``api_key=`` from the user's keys, where ``provider`` takes one and the environment has none for it."""
    from loom_py.agent_file.providers import environment_of, setting_names

    name = provider.strip().lower().replace("_", "-")
    try:
        taken, told = setting_names(name), environment_of(name)
    except LoomError:
        return {}  # there is no such provider: building the agent tells what to install
    if taken is not None and "api_key" not in taken:
        return {}
    known = (*told.get("api_key", ()), *told.get("entra_token", ()))
    variables = known or KEY_VARIABLES.get(name, ())
    if any(os.environ.get(each, "").strip() for each in variables):
        return {}
    key = user_keys().get(name)
    return {} if key is None else {"api_key": key}
