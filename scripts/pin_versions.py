"""Write ``constraints.txt``: every package the project and its plugins install, with its version.

Run with uv on the PATH: ``python scripts/pin_versions.py``. The file holds names, versions and
environment markers only, and no host names.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "constraints.txt"
HEADER = "# Versions the project is tested with. Written by scripts/pin_versions.py.\n"


def requirements() -> list[str]:
    """The direct requirements of the project and all plugins, without the project's own packages."""
    found: list[str] = []
    for path in (ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))):
        project = tomllib.loads(path.read_text())["project"]
        found += project.get("dependencies", [])
        for extra in project.get("optional-dependencies", {}).values():
            found += extra
    return sorted({line for line in found if not re.match(r"loom[-_]", line)})


def main() -> None:
    """Resolve and write."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "requirements.in"
        source.write_text("\n".join([*requirements(), "hatchling"]) + "\n")
        command = ["uv", "pip", "compile", "--universal", "--no-header", "--no-annotate", "--quiet"]
        result = subprocess.run(
            [*command, "--python-version", "3.11", str(source)], check=True, capture_output=True, text=True
        )
    lines = [line for line in result.stdout.splitlines() if "==" in line]
    TARGET.write_text(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
