"""Run the soak: ``python -m benchmarks.chaos [--runs 5000] [--seed 7] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.chaos.agent_caller import agent_caller
from benchmarks.chaos.plan import Scenario
from benchmarks.chaos.report import figures, table
from benchmarks.chaos.sdk_caller import sdk_caller
from benchmarks.chaos.soak import Ask, run_soak

CALLERS: dict[str, Ask] = {
    "loom_py": agent_caller(budget_ratio=0.5),
    "loom_py, default retry budget": agent_caller(),
    "openai, one region": sdk_caller(),
    "openai, regions in turn": sdk_caller(regions=2),
    "openai, in turn, tuned": sdk_caller(regions=2, timeout=20.0, max_retries=4),
}

METHOD = """\
Two emulated regions on real sockets, seed {seed}. {rate:g} runs a second begin, each a question, one tool
call and an answer that is compared. Of the requests 10 % get a 429 (told to wait 1 s), 5 % a 500 or 502, 1 %
no answer ever; 2 % of the streams are cut; eastus answers 503 from {start:.0f} s to {end:.0f} s. Answers take
0.8 s in the median. The 429s come by chance, not by load: who comes back too early is not punished for it.

All waits go by the virtual time of one event loop, for both sides alike and with nothing patched: the SDK's
backoffs and timeouts are asyncio's. loom_py does a tenth of its runs in threads, whose sockets wait on that
loop; the SDK's are all async. loom_py has two regions in turn, read timeout 20 s, run timeout 180 s, rate
limit, budget, breakers, 5 attempts and streams that begin anew, with retries for up to half of the recent
calls in the first column and its default, a fifth, in the second. `openai` has its defaults (600 s,
2 retries); tuned is timeout=20 and max_retries=4. Money: gpt-4o, for whatever the model generated.
"""


def main() -> int:
    """Run every caller; 1 if any answer of loom_py was wrong, any error untyped, or anything leaked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=5000, help="runs of each caller (default 5000)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the fault plan (default 7)")
    parser.add_argument("--rate", type=float, default=8.0, help="runs that begin in a second (default 8)")
    parser.add_argument("--impatient", type=float, default=0.0, help="share of async runs that are cancelled")
    parser.add_argument("--only", choices=list(CALLERS), action="append", help="only this caller")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    scenario = Scenario(arguments.runs, arguments.seed, arguments.rate, impatient=arguments.impatient)
    columns, failures = {}, []
    for name in arguments.only or CALLERS:
        soak = run_soak(name, CALLERS[name], scenario)
        columns[name] = figures(soak)
        if name.startswith("loom_py"):
            failures += [f"{name}: {each}" for each in soak.failures]
        print(f"{name}: {soak.real_seconds:.0f} s", file=sys.stderr)
    start, end = scenario.outage
    print(METHOD.format(seed=arguments.seed, rate=arguments.rate, start=start, end=end))
    print(table(columns))
    for failure in failures:
        print(f"FAILURE {failure}", file=sys.stderr)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(columns, indent=2) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
