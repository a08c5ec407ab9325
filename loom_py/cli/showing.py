"""What ``loom config show`` does: every setting, its value, and where it comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from loom_py.cli.agents import agent_file
from loom_py.cli.models import KEY_VARIABLES, ModelFlags, user_keys
from loom_py.cli.screen import err, out, safe
from loom_py.cli.settings import config_file, found
from loom_py.cli.streams import write_json
from loom_py.description import Description, Setting, masked
from loom_py.errors import ConfigError
from loom_py.llm.azure.config import AzureOpenAIConfig

__all__ = ["show_settings"]


def show_settings(path: Path | None, flags: ModelFlags, changes: Sequence[str], *, as_json: bool) -> None:
    """Print the settings of an agent, or those that hold without one. Raises `ConfigError`."""
    described = Description(_own(flags)) if path is None else agent_file(path, flags, changes).describe()
    if as_json:
        write_json(described.to_dict())
        return
    cells = [(each.name, _shown(each.value), each.source) for each in described]
    widths = [max(map(len, column), default=0) for column in list(zip(*cells, strict=True))[:2]]
    console = out()
    for name, shown, source in cells:
        style = "dim" if source == "default" else ""
        line = f"{name:<{widths[0]}}  {shown:<{widths[1]}}  {source}"
        console.print(Text(safe(line), style=style), soft_wrap=True)
    err().print(Text("A flag comes before the environment, then file, keyring and default.", style="dim"))


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _own(flags: ModelFlags) -> Iterator[Setting]:
    """The settings of the user's own: those of ``loom chat`` without a file, and the keys."""
    llm = found("llm")
    given = flags.llm is not None
    yield Setting("llm", flags.llm if given else llm.value, "flag" if given else llm.source)
    yield from _azure(flags)
    yield Setting("history", *_pair("history", True))
    yield Setting("keys", *_pair("keys", "keyring"))
    yield from _keys()
    is_there = config_file().exists()
    yield Setting("settings file", str(config_file()), "file" if is_there else "default: there is none")


def _azure(flags: ModelFlags) -> Iterator[Setting]:
    by_flag = {"endpoint": flags.endpoint, "deployment_id": flags.deployment}
    for name in ("endpoint", "deployment_id", "api_version"):
        value, source = by_flag.get(name), "flag"
        if value is None:
            names = _variables(name)
            variable = next((each for each in names if os.environ.get(each, "").strip()), None)
            value = os.environ[variable] if variable else None
            source = f"environment ({variable})" if variable else "default"
        yield Setting(f"azure-openai.{name}", value, source)


def _variables(name: str) -> tuple[str, ...]:
    from loom_py.llm.azure import config

    known = getattr(AzureOpenAIConfig, "environment", None) or getattr(config, "ENVIRONMENT", {})
    return tuple(known.get(name, ()))


def _pair(name: str, default: Any) -> tuple[Any, str]:
    setting = found(name, default)
    return setting.value, setting.source


def _keys() -> Iterator[Setting]:
    """Every key, masked; one in the environment comes before one that is kept."""
    store = user_keys()
    kept = store.names()
    if store.problem is not None:
        yield Setting("kept keys", "none", f"default: {store.problem.message}")
    for name in dict.fromkeys((*KEY_VARIABLES, *kept)):
        variable = next((v for v in KEY_VARIABLES.get(name, ()) if os.environ.get(v, "").strip()), None)
        if variable is not None:
            yield Setting(f"{name}.key", masked(os.environ[variable].strip()), f"environment ({variable})")
        elif name in kept:
            yield Setting(f"{name}.key", _masked_key(store, name), store.place)
        else:
            yield Setting(f"{name}.key", None, "default")


def _masked_key(store: Any, name: str) -> str:
    try:
        return masked(store.get(name) or "")
    except ConfigError as exc:
        return exc.message
