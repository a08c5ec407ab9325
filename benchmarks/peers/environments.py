"""A virtual environment per peer, made when first asked for and kept in a folder the user names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

DONE = "installed.txt"


class InstallError(Exception):
    """A peer could not be installed; the message is the installer's last words."""


def default_cache() -> Path:
    """Where environments are kept unless a folder is named."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "loom_py" / "benchmarks"


def python_of(name: str, requirements: Sequence[str], cache: Path) -> Path:
    """The interpreter of the environment ``name``, made with this Python if need be.

    Raises `InstallError` where that fails.
    """
    folder = cache / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = "\n".join(requirements)
    done = folder / DONE
    if not (done.exists() and done.read_text() == wanted):
        print(f"installing {name} into {folder}", file=sys.stderr)
        try:
            _install(folder, python, requirements)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            raise InstallError(said.strip()[-300:]) from error
        done.write_text(wanted)
    return python


def _install(folder: Path, python: Path, requirements: Sequence[str]) -> None:
    uv = shutil.which("uv")
    if uv is not None:
        _run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *requirements])
    else:
        venv.create(folder, with_pip=True)
        _run([str(python), "-m", "pip", "install", "--quiet", *requirements])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
