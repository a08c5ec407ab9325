"""Measure loom_py against the plain SDK: ``python -m benchmarks [--peers] [--json FILE] [--plot FILE]``.

Figures are printed as markdown tables; progress goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.lineup import ours, peers
from benchmarks.peers import PEERS
from benchmarks.peers.environments import default_cache
from benchmarks.race import Race
from benchmarks.report import markdown, renew_page
from benchmarks.suite import METRICS, POLICIES, TINY, run


def main() -> None:
    """Measure what the command line asks for."""
    arguments = _parser().parse_args()
    entries = ours()
    problems: dict[str, str] = {}
    if arguments.peers is not None:
        more, problems = peers(arguments.peers or list(PEERS), arguments.cache)
        entries += more
    with Race(entries, rounds=arguments.rounds, least=0.0 if arguments.tiny else 0.1) as race:
        sizes = TINY if arguments.tiny else None
        report = run(race, sizes=sizes, only=arguments.only, problems=problems)
    print(markdown(report))
    print(f"measured in {report.seconds:.0f} s", file=sys.stderr)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
        print(f"written to {arguments.json}", file=sys.stderr)
    if arguments.page is not None:
        renew_page(report, arguments.page)
        print(f"figures renewed in {arguments.page}", file=sys.stderr)
    if arguments.plot is not None:
        from scripts.plots.performance import draw_report

        draw_report(report.to_dict(), arguments.plot)
        print(f"drawn to {arguments.plot}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=list(PEERS),
        metavar="PEER",
        help=f"also measure these, or all: {', '.join(PEERS)}; they are installed when first needed",
    )
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="where the peers' environments are kept"
    )
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds per metric (default 7)")
    parser.add_argument(
        "--only", nargs="+", choices=[*METRICS, POLICIES], default=(), help="only these metrics"
    )
    parser.add_argument("--tiny", action="store_true", help="only see that everything works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round to this file")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="also put the tables into this page, between its marks"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the ratios, as SVG")
    return parser


if __name__ == "__main__":
    main()
