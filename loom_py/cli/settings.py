"""The user's own settings: ``config.toml`` in the folder for settings, and the variables before it.

::

    llm = "ollama:llama3.2"   # the model of `loom chat` where no agent is named
    keys = "file"             # where API keys are kept: keyring, file or file:PATH
    history = false           # whether `loom chat` remembers what was asked
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loom_py.errors import ConfigError
from loom_py.keys._places import config_folder

__all__ = ["Found", "config_file", "found", "state_folder"]

VARIABLES = {"llm": "LOOM_LLM", "keys": "LOOM_KEYS", "history": "LOOM_HISTORY"}
_TYPES: Mapping[str, type] = {"llm": str, "keys": str, "history": bool}
_NO = {"0", "false", "no", "off"}


@dataclass(frozen=True, slots=True)
class Found:
    """A setting's value and where it comes from: ``environment (NAME)``, a file, ``default``, …"""

    value: Any
    source: str


def config_file() -> Path:
    """Where the settings are, whether or not there are any."""
    return config_folder() / "config.toml"


def state_folder() -> Path:
    """Where ``loom`` keeps what it remembers: ``~/.local/state/loom-py``, or below ``XDG_STATE_HOME``."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base).expanduser() / "loom-py"


def found(name: str, default: Any = None) -> Found:
    """The setting ``name``, from its variable, else from the file, else ``default``.

    Raises `ConfigError` for a file that cannot be read or has settings that are none.
    """
    variable = VARIABLES[name]
    text = os.environ.get(variable, "").strip()
    if text:
        value = text.lower() not in _NO if _TYPES[name] is bool else text
        return Found(value, f"environment ({variable})")
    values = _file_values()
    if name in values:
        return Found(values[name], str(config_file()))
    return Found(default, "default")


def _file_values() -> dict[str, Any]:
    path = config_file()
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from None
    except ValueError as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from None
    for name, value in values.items():
        if name not in _TYPES:
            known = ", ".join(sorted(_TYPES))
            raise ConfigError(f"{path} has no setting {name!r}", field=name, hint=f"It may have {known}.")
        if type(value) is not _TYPES[name]:
            wanted = "true or false" if _TYPES[name] is bool else "text"
            raise ConfigError(f"{name} in {path} must be {wanted}", field=name)
    return values
