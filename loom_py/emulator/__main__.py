"""``python -m loom_py.emulator``: run the emulator until Ctrl-C."""

from __future__ import annotations

import argparse
import ipaddress
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from loom_py.emulator.engines import ENGINES, engine_of
from loom_py.errors import LoomError

LOG_SIZE = 100
"""Requests a server that runs for days keeps in memory."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loom_py.emulator", description="A loopback Azure OpenAI for development and tests."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="0 takes a free port (default: %(default)s)")
    parser.add_argument("--allow-remote", action="store_true", help="allow a host other machines can reach")
    parser.add_argument(
        "--deployment",
        action="append",
        metavar="NAME=MODEL",
        help="a deployment and the model it serves; may be repeated",
    )
    parser.add_argument("--key", action="append", help="an accepted API key; may be repeated")
    parser.add_argument("--region", default="eastus", help="the Azure region in the headers")
    parser.add_argument(
        "--engine",
        default="echo",
        metavar="SPEC",
        help=ENGINES,
    )
    parser.add_argument("--cassette", type=Path, metavar="FILE", help="where an upstream is recorded")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="a fault plan, as JSON")
    parser.add_argument("--chunk-delay", type=float, default=0.0, metavar="SECONDS", help="pause per chunk")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if not options.allow_remote and not _is_loopback(options.host):
        parser.error(f"{options.host} can be reached from other machines; add --allow-remote if you mean it")
    deployments = dict(
        _deployment(parser, text) for text in options.deployment or ["gpt-4o-deployment=gpt-4o"]
    )
    try:
        from loom_py.emulator.fault_plan import FaultPlan
        from loom_py.emulator.server import AzureEmulator

        emulator = AzureEmulator(
            engine_of(options.engine, options.cassette),
            deployments=deployments,
            api_keys=options.key or ["emulator-key"],
            host=options.host,
            port=options.port,
            region=options.region,
            chunk_delay=options.chunk_delay,
            log_size=LOG_SIZE,
            faults=None if options.faults is None else FaultPlan.load(options.faults),
        )
        stop = _stop_on_signals()
        with emulator:
            _announce(emulator.endpoint, emulator.api_key, deployments)
            while not stop.wait(0.5):  # a plain wait() would block signals on Windows
                pass
    except (LoomError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("stopped", flush=True)
    return 0


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _announce(endpoint: str, key: str, deployments: dict[str, str]) -> None:
    deployment = next(iter(deployments))
    print(f"endpoint     {endpoint}")
    print(f"api key      {key}")
    for name, model in deployments.items():
        print(f"deployment   {name} (serves {model})")
    print("try          curl -s", end=" ")
    print(f"'{endpoint}/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21'", end=" ")
    print(f"-H 'api-key: {key}' -H 'content-type: application/json'", end=" ")
    print("""-d '{"messages": [{"role": "user", "content": "Hello"}]}'""", flush=True)


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"a port is from 0 to 65535, not {number}")
    return number


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _deployment(parser: argparse.ArgumentParser, text: str) -> tuple[str, str]:
    name, _, model = text.partition("=")
    if not name:
        parser.error(f"--deployment takes NAME=MODEL, not {text!r}")
    return name, model or name


if __name__ == "__main__":
    sys.exit(main())
