"""``python -m loom_py.conformance``: try a provider and print its scorecard."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loom_py.conformance.adapter import BUILT_IN
from loom_py.conformance.printing import print_scorecard
from loom_py.conformance.running import TIMEOUT, run, scenarios
from loom_py.errors import ConfigError

PROGRAM = "python -m loom_py.conformance"
PASSED, FAILED, USAGE = 0, 1, 2
"""Exit codes."""


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """The command line of ``program``."""
    parser = argparse.ArgumentParser(
        prog=program,
        description="Try a provider against every promise of loom_py's provider protocol.",
        epilog="Exit code: 0 all that applies passed, 1 something failed, 2 wrong usage.",
    )
    parser.add_argument(
        "adapter", nargs="?", help=f"{', '.join(BUILT_IN)}, or module:attribute for one of your own"
    )
    parser.add_argument(
        "--only", action="append", metavar="GLOB", help="ids to run, such as 'errors/*'; may be repeated"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write them as JUnit XML")
    parser.add_argument("--list", action="store_true", help="list the scenarios and run none")
    parser.add_argument(
        "--timeout",
        type=_positive,
        default=TIMEOUT,
        metavar="SECONDS",
        help="for each scenario (default: %(default)g)",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="scenarios at a time (default: 1)")
    parser.add_argument("--plain", action="store_true", help="plain lines instead of a table")
    return parser


def main(arguments: Sequence[str] | None = None, *, program: str = PROGRAM) -> int:
    """Run the suite; the exit code. Wrong usage leaves by `SystemExit` with code 2."""
    parser = build_parser(program)
    options = parser.parse_args(arguments)
    adapter: str = options.adapter or ""
    if not (adapter or options.list):
        parser.error("which adapter? Name one, or ask for --list")
    try:
        if options.list:
            for scenario in scenarios(options.only):
                needs = f"  [needs {', '.join(sorted(scenario.needs))}]" if scenario.needs else ""
                sys.stdout.write(f"{scenario.id:<40} {scenario.sentence}{needs}\n")
            return PASSED
        scorecard = run(adapter, only=options.only, timeout=options.timeout, jobs=options.jobs)
    except ConfigError as error:
        parser.error(str(error))
    print_scorecard(scorecard, sys.stdout, plain=options.plain)
    try:
        if options.json is not None:
            options.json.write_text(scorecard.to_json() + "\n", "utf-8")
        if options.junit is not None:
            options.junit.write_text(scorecard.to_junit(), "utf-8")
    except OSError as error:
        parser.error(f"the results cannot be written: {error}")
    return PASSED if scorecard.ok else FAILED


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be more than 0 seconds, not {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
