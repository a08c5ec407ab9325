"""Run every benchmark: ``python -m benchmarks [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

from benchmarks import call_overhead, import_time


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds per figure (default 7)")
    arguments = parser.parse_args()
    figures = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "import_time": import_time.measure(arguments.rounds),
        "call_overhead": call_overhead.measure(arguments.rounds),
    }
    print(f"Python {figures['python']} on {figures['machine']}; medians of {arguments.rounds} rounds\n")
    print(import_time.table(figures["import_time"]))  # type: ignore[arg-type]
    print(call_overhead.table(figures["call_overhead"]))  # type: ignore[arg-type]
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
        print(f"written to {arguments.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
