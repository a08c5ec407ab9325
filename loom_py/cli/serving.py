"""What ``loom serve`` and ``loom serve-key`` do."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rich.table import Table
from rich.text import Text

from loom_py.cli.agents import agent_file
from loom_py.cli.models import ModelFlags, chosen_model
from loom_py.cli.screen import err, is_terminal, out, safe
from loom_py.errors import ConfigError

if TYPE_CHECKING:
    from loom_py.builder import AgentBuilder
    from loom_py.serve import KeyFile, ServeConfig

__all__ = ["ServeRequest", "add_key", "list_keys", "remove_key", "serve_agents"]


LogFormat: TypeAlias = Literal["auto", "console", "json", "none"]


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """What the command line asked for; ``settings`` are those of `ServeConfig` that were given."""

    files: Sequence[Path] = ()
    flags: ModelFlags = field(default_factory=ModelFlags)
    changes: Sequence[str] = ()
    workers: int = 1
    log: LogFormat = "auto"
    settings: dict[str, Any] = field(default_factory=dict)


def serve_agents(request: ServeRequest) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit code. Raises `ConfigError` for what cannot be served."""
    from loom_py.serve import ServeConfig, run_server

    config = ServeConfig(**request.settings)
    _log_to_standard_error(request.log)
    builders = _builders(request)
    shown: set[str] = set()

    def ready(url: str) -> None:
        if url not in shown:
            shown.add(url)
            _announce(url, list(builders), config)

    return run_server(builders, config, workers=request.workers, on_ready=ready)


def _log_to_standard_error(chosen: LogFormat) -> None:
    """Show the log of this process, and of the workers that are forked from it.

    With ``none`` it goes where the application's own configuration, if there is one, sends it.
    """
    if chosen == "none":
        return
    from loom_py.observability import configure_logging

    is_for_people = chosen == "console" or (chosen == "auto" and is_terminal(sys.stderr))
    configure_logging("console" if is_for_people else "json")


def _builders(request: ServeRequest) -> dict[str, AgentBuilder]:
    """The agents, by the names of their models."""
    if not request.files:
        if request.changes:
            raise ConfigError("--set changes an agent's file, and none is named", field="--set")
        chosen = chosen_model(request.flags)
        if chosen.is_demo:
            err().print("No model is configured: the offline demo answers.", style="dim")
        name = chosen.label.partition(":")[2] or chosen.label
        return {name: chosen.builder}
    from loom_py.builder import AgentBuilder

    found: dict[str, AgentBuilder] = {}
    for path in request.files:
        file = agent_file(path, request.flags, request.changes)
        if file.name in found:
            raise ConfigError(
                f"two of the files describe an agent called {file.name!r}",
                field="name",
                hint="A client asks for an agent by its name: give one of them another.",
            )
        found[file.name] = file.apply(AgentBuilder())
    return found


def _announce(url: str, names: Sequence[str], config: ServeConfig) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_row(Text("chat", "bold"), f"{url}/")
    facts.add_row(Text("API", "bold"), f"{url}/v1")
    facts.add_row(Text("agents", "bold"), safe(", ".join(names)))
    facts.add_row(Text("keys", "bold"), _keys(config))
    facts.add_row(Text("health", "bold"), f"{url}/health")
    console = out()
    console.print(facts, soft_wrap=True)
    console.print(Text("Ctrl-C stops, once what is being answered is done.", style="dim"))
    sys.stdout.flush()


def _keys(config: ServeConfig) -> str:
    if config.keys_file is not None:
        return f"those of {safe(str(config.keys_file))}"
    return "asked for" if config.needs_keys else "none is asked for: only this machine can reach it"


# ── the keys of callers ──────────────────────────────────────────────────────────────────


def add_key(
    file: Path, name: str, *, requests: int | None, tokens: int | None, usd: str | None, as_json: bool
) -> None:
    """Make a key and keep its hash; the key itself is printed, this once. Raises `ConfigError`."""
    secret = _file(file).add(
        name, requests_per_minute=requests, tokens_per_minute=tokens, usd_per_day=_money(usd)
    )
    if as_json:
        sys.stdout.write(json.dumps({"name": name, "key": secret, "file": str(file)}) + "\n")
        return
    sys.stdout.write(secret + "\n")
    err().print(
        f"The key of {safe(name)}. It is shown this once; {safe(str(file))} holds only its hash.", style="dim"
    )


def list_keys(file: Path, *, as_json: bool) -> None:
    """Print who may call, and how much. Raises `ConfigError`."""
    keys = _file(file).load()
    if as_json:
        told = [key.model_dump(mode="json", exclude={"hash"}) for key in keys]
        sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=2) + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "made", "requests/min", "tokens/min", "USD/day"):
        table.add_column(column)
    for key in keys:
        limits = (key.requests_per_minute, key.tokens_per_minute, key.usd_per_day)
        table.add_row(key.name, key.created[:10], *("" if each is None else f"{each:,}" for each in limits))
    out().print(table if keys else Text("There are no keys.", style="dim"))


def remove_key(file: Path, name: str) -> None:
    """Take a key back; a server that reads the file refuses it within a second. Raises `ConfigError`."""
    if not _file(file).remove(name):
        raise ConfigError(
            f"there is no key of {name!r} in {file}", field="name", hint="loom serve-key list shows them."
        )
    err().print(f"{safe(name)} may call no longer.", style="dim")


def _file(path: Path) -> KeyFile:
    from loom_py.serve import KeyFile

    return KeyFile(path)


def _money(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ConfigError(f"--usd-per-day takes an amount such as 2.50, not {text!r}") from None
