"""Where a user's own settings are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["config_folder", "default_file"]


def config_folder() -> Path:
    """loom_py's folder among the user's settings: ``~/.config/loom-py``, or below ``XDG_CONFIG_HOME``."""
    if os.name == "nt":
        base = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base).expanduser() / "loom-py"


def default_file() -> Path:
    """The key file where no other is named: ``keys.json`` in the user's folder for settings."""
    return config_folder() / "keys.json"
