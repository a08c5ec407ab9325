"""What ``loom emulate`` does: an emulated resource, and every request as it is answered."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from errno import EADDRINUSE
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loom_py.cli.exits import ExitCode
from loom_py.cli.screen import is_terminal, out, print_table, safe
from loom_py.cli.streams import write_json
from loom_py.emulator import AzureEmulator, FaultPlan, RecordedRequest
from loom_py.emulator.engines import engine_of
from loom_py.emulator.settings_file import load_settings
from loom_py.errors import ConfigError
from loom_py.llm.azure.config import is_loopback

__all__ = ["EmulateRequest", "emulate", "screen_of"]

LOG_SIZE = 1000
"""Requests that are remembered."""
REFRESH = 0.1
"""Seconds between two looks at the log."""
FRAME = 8
"""Lines of the screen that are neither requests nor deployments."""


@dataclass(frozen=True, slots=True)
class EmulateRequest:
    """What the command line asked for; what it does not say is the file's."""

    file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    allow_remote: bool = False
    deployments: Sequence[str] = ()
    keys: Sequence[str] = ()
    region: str | None = None
    engine: str | None = None
    cassette: Path | None = None
    faults: Path | None = None
    as_json: bool = False


def emulate(request: EmulateRequest) -> ExitCode:
    """Serve until Ctrl-C or SIGTERM. Raises `ConfigError` for settings that make no sense."""
    if not (is_loopback(request.host) or request.allow_remote):
        raise ConfigError(
            f"{request.host} can be reached from other machines",
            field="--host",
            hint="Add --allow-remote if you mean it: whoever knows the key may ask.",
        )
    try:
        emulator = AzureEmulator(
            host=request.host, port=request.port, log_size=LOG_SIZE, **_settings(request)
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from None
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with _listening(emulator, request):
        if request.as_json:
            _place(emulator)
            _lines(emulator, stop, _as_json)
        elif is_terminal(sys.stdout):
            _live(emulator, stop)
        else:
            print_table(_heading(emulator))
            _lines(emulator, stop, _as_text)
    return ExitCode.OK


@contextmanager
def _listening(emulator: AzureEmulator, request: EmulateRequest) -> Iterator[None]:
    """Meanwhile it serves. Raises `ConfigError` for a place where it cannot listen."""
    with ExitStack() as stack:
        try:
            stack.enter_context(emulator)
        except OSError as error:
            hint = "Choose another with --port; 0 takes a free one." if error.errno == EADDRINUSE else None
            place = f"{request.host}:{request.port}"
            told = error.strerror or str(error)
            raise ConfigError(f"cannot listen on {place}: {told}", field="--port", hint=hint) from None
        yield


def _settings(request: EmulateRequest) -> dict[str, Any]:
    """The file's settings, and over them those of the command line."""
    made = {} if request.file is None else load_settings(request.file)
    if request.deployments:
        made["deployments"] = dict(map(_deployment, request.deployments))
    if request.keys:
        made["api_keys"] = list(request.keys)
    if request.region is not None:
        made["region"] = request.region
    if request.engine is not None:
        made["engine"] = engine_of(request.engine, request.cassette)
    if request.faults is not None:
        made["faults"] = FaultPlan.load(request.faults)
    return made


def _deployment(text: str) -> tuple[str, str]:
    name, _, model = text.partition("=")
    if not name.strip():
        raise ConfigError(f"--deployment takes NAME=MODEL, not {text!r}", field="--deployment")
    return name.strip(), model.strip() or name.strip()


# ── showing ──────────────────────────────────────────────────────────────────────────────


def _lines(emulator: AzureEmulator, stop: threading.Event, write: Any) -> None:
    """Each request in a line of its own, when it is answered."""
    shown: set[int] = set()
    while True:
        stopping = stop.wait(REFRESH)
        for entry in emulator.requests:
            if entry.seconds is not None and entry.number not in shown:
                shown.add(entry.number)
                sys.stdout.write(write(entry) + "\n")
        sys.stdout.flush()
        if stopping:
            return


def _place(emulator: AzureEmulator) -> None:
    """The first line of JSON: where it listens, known only now where the port was a free one."""
    write_json({"endpoint": emulator.endpoint, "deployments": list(emulator.deployments)}, indent=None)


def _as_json(entry: RecordedRequest) -> str:
    usage = None if entry.usage is None else entry.usage.to_dict()
    told: Mapping[str, Any] = {
        "number": entry.number,
        "at": entry.at,
        "method": entry.method,
        "path": entry.path,
        "deployment": entry.deployment,
        "status": entry.status,
        "seconds": entry.seconds,
        "usage": usage,
        "fault": entry.fault or None,
    }
    return json.dumps(told, ensure_ascii=False)


def _as_text(entry: RecordedRequest) -> str:
    return "  ".join(cell for cell in _cells(entry) if cell)


def _live(emulator: AzureEmulator, stop: threading.Event) -> None:
    """A screen that is drawn anew: the resource, its quotas, and the last requests."""
    console = out()
    with Live(console=console, auto_refresh=False, transient=True) as screen:
        while not stop.wait(REFRESH):
            rows = max(3, console.height - FRAME - len(emulator.deployments))
            screen.update(screen_of(emulator, rows), refresh=True)
    console.print(_heading(emulator), soft_wrap=True)
    console.print(Text(f"{_sum(emulator)}; stopped.", style="dim"))


def screen_of(emulator: AzureEmulator, rows: int) -> RenderableType:
    """The resource, its quotas and its last requests, ``rows`` at most."""
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for name in ("at", "deployment", "status", "took", "tokens", ""):
        table.add_column(name, justify="right" if name in {"took", "tokens"} else "left", no_wrap=True)
    for entry in emulator.requests[-rows:]:
        cells = _cells(entry)
        table.add_row(*(Text(cell, _style(entry) if place == 2 else "") for place, cell in enumerate(cells)))
    nothing = Text("No request yet. Try the line above.", style="dim")
    body = table if emulator.requests else nothing
    foot = Text(f"{_sum(emulator)} · Ctrl-C stops", style="dim")
    return Group(_heading(emulator), Text(""), body, Text(""), foot)


def _heading(emulator: AzureEmulator) -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_row(Text("endpoint", "bold"), emulator.endpoint)
    facts.add_row(Text("key", "bold"), emulator.api_key)
    for name, model in emulator.deployments.items():
        quota = emulator.quota_of(name)
        told = f"{name} serves {model}" + (f" · {quota} used this minute" if quota else "")
        facts.add_row(Text("deployment", "bold"), safe(told))
    first = next(iter(emulator.deployments))
    facts.add_row(
        Text("try", "bold"),
        f"AZURE_OPENAI_API_KEY={emulator.api_key} \\\n"
        f"loom chat --endpoint {emulator.endpoint} --deployment {safe(first)}",
    )
    return facts


def _cells(entry: RecordedRequest) -> tuple[str, ...]:
    took = "…" if entry.seconds is None else f"{entry.seconds * 1000:,.0f} ms"
    tokens = "" if entry.usage is None else f"{entry.usage.input:,} + {entry.usage.output:,}"
    return (
        datetime.fromtimestamp(entry.at).astimezone().strftime("%H:%M:%S"),
        safe(entry.deployment or entry.path),
        _status(entry),
        took,
        tokens,
        entry.fault,
    )


def _status(entry: RecordedRequest) -> str:
    if entry.status is not None:
        return str(entry.status)
    return "…" if entry.seconds is None else "cut off"


def _style(entry: RecordedRequest) -> str:
    if entry.status is None:
        return "dim" if entry.seconds is None else "red"
    return "green" if entry.status < 400 else "yellow" if entry.status == 429 else "red"


def _sum(emulator: AzureEmulator) -> str:
    entries = emulator.requests
    answered = [entry for entry in entries if entry.status is not None]
    failed = sum(entry.status >= 400 for entry in answered if entry.status is not None)
    tokens = sum(entry.usage.total for entry in entries if entry.usage is not None)
    count = entries[-1].number if entries else 0
    return f"{count:,} requests, {failed:,} of the last {len(entries):,} refused, {tokens:,} tokens"
