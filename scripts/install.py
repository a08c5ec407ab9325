"""Install the project into this interpreter's environment, with a line that shows how far it is.

Run with the environment's own Python: ``.venv/bin/python scripts/install.py demo``. Versions come
from ``constraints.txt``. Where the local model's package cannot be installed (it has no build for
the platform, say), the rest is installed without it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
STEP = re.compile(
    r"^\s*(Collecting|Downloading|Using cached|Building|Preparing|Installing) (?P<what>[\w.-]+)"
)


def main() -> None:
    """Install with the extra named on the command line; ``dev`` brings every plugin along."""
    extra = sys.argv[1]
    project = ["-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[{extra}]"]
    local = ROOT / "plugins" / "loom-needle"
    if extra == "dev":
        others = [
            path.parent for path in sorted(ROOT.glob("plugins/*/pyproject.toml")) if path.parent != local
        ]
        project += [part for path in others for part in ("-e", str(path))]
    if install([*project, "-e", str(local)]) is None:
        return
    print("The local model's package cannot be installed here; going on without it.")
    if (failure := install(project)) is not None:
        sys.exit(failure)


def install(arguments: list[str]) -> str | None:
    """Run pip; ``None`` if it went well, else what it printed."""
    started = time.monotonic()
    printed: list[str] = []
    packages: set[str] = set()
    command = [*PIP, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            if step := STEP.match(line):
                if line.lstrip().startswith("Collecting"):
                    packages.add(step["what"])
                seconds = time.monotonic() - started
                what = "unpacking" if line.startswith("Installing collected") else step["what"]
                show(f"Installing, once: {len(packages)} packages, {seconds:.0f} s … {what}")
    show("")
    if process.returncode != 0:
        return "".join(printed)
    print(f"Installed {len(packages)} packages in {time.monotonic() - started:.0f} s.")
    return None


def show(text: str) -> None:
    """Write over the last line of a terminal; print nothing elsewhere."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text[:79]}", end="", flush=True)


if __name__ == "__main__":
    main()
