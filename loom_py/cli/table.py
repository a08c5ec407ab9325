"""The commands that come with loom_py: one table, read without importing any of them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COMMANDS", "CommandEntry"]

AGENTS = "Agents"
KEYS = "Keys and settings"
PROVIDERS = "Providers and models"


class CommandEntry(NamedTuple):
    """A command: its ``name``, the ``module`` that has it as ``app`` (a `typer.Typer`), its ``help`` in a
    line, and the ``panel`` of ``loom --help`` it is listed in.
    """

    name: str
    module: str
    help: str
    panel: str = AGENTS


COMMANDS: tuple[CommandEntry, ...] = (
    CommandEntry("demo", "loom_py.cli.commands.demo", "Watch an agent answer questions, offline."),
    CommandEntry("chat", "loom_py.cli.commands.chat", "Talk with an agent, or with a model."),
    CommandEntry("run", "loom_py.cli.commands.run", "Ask an agent one question."),
    CommandEntry("validate", "loom_py.cli.commands.validate", "Find everything wrong with agent files."),
    CommandEntry("serve", "loom_py.cli.commands.serve", "Serve agents over HTTP, with a chat page."),
    CommandEntry("serve-key", "loom_py.cli.commands.serve_key", "Keep the keys of a server's callers.", KEYS),
    CommandEntry(
        "config", "loom_py.cli.commands.config", "Keep API keys, and see where settings come from.", KEYS
    ),
    CommandEntry("emulate", "loom_py.cli.commands.emulate", "Run an Azure OpenAI of your own.", PROVIDERS),
    CommandEntry("doctor", "loom_py.cli.commands.doctor", "Find out why a model does not answer.", PROVIDERS),
    CommandEntry(
        "providers",
        "loom_py.cli.commands.providers",
        "List the providers and where they come from.",
        PROVIDERS,
    ),
    CommandEntry(
        "models", "loom_py.cli.commands.models", "List models: what they can do, and cost.", PROVIDERS
    ),
    CommandEntry("prices", "loom_py.cli.commands.prices", "Show every listed price of a model.", PROVIDERS),
    CommandEntry(
        "conformance", "loom_py.cli.commands.conformance", "Try a provider against its promises.", PROVIDERS
    ),
    CommandEntry("plugin", "loom_py.cli.commands.plugin", "Write a provider package.", PROVIDERS),
)
