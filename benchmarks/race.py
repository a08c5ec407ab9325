"""Runs the contenders against each other: each in a process of its own, in turns, round by round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from benchmarks.contender import Contender
from benchmarks.figures import Sample

ROOT = Path(__file__).parents[1]


class ContenderError(Exception):
    """A contender could not do what it was asked; the message is what it said."""


@dataclass(frozen=True)
class Entry:
    """A contender as it is started: its name, adapter, arguments and interpreter."""

    name: str
    adapter: str
    arguments: tuple[str, ...] = ()
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def contender(self) -> type[Contender]:
        """The adapter's class, which imports nothing of the client before an instance is made."""
        module, _, name = self.adapter.partition(":")
        found: type[Contender] = getattr(import_module(module), name)
        return found

    @property
    def is_ours(self) -> bool:
        """Whether it is loom_py."""
        return self.adapter.startswith("benchmarks.contenders.loom:")


class Process:
    """A running contender."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._process = subprocess.Popen(
            [entry.python, "-m", "benchmarks.worker", entry.adapter, *entry.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=clean_environment() | dict(entry.environment) | {"PYTHONPATH": str(ROOT)},
        )
        try:
            self.hello: dict[str, Any] = self._result()
        except ContenderError:
            self.close()
            raise

    def ask(self, do: str, **request: Any) -> Any:
        """The result of one request. Raises `ContenderError`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ContenderError("its process has ended") from None
        return self._result()

    def _result(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ContenderError("its process has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"].splitlines()[0])
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it may have ended already
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def clean_environment() -> dict[str, str]:
    """The environment without what would make every import compile anew, or make a client phone home."""
    quiet = {"AGNO_TELEMETRY": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | quiet


@contextmanager
def canned_server(scenarios: Iterable[str]) -> Iterator[dict[str, str]]:
    """The canned server in a process of its own; the endpoint of each scenario."""
    command = [sys.executable, "-m", "benchmarks.canned_server", *scenarios]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        ports = json.loads(process.stdout.readline())
        try:
            yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        finally:
            process.stdin.close()


class Race:
    """Contenders and the server they call. What one of them cannot do is kept in ``problems``.

    ``rounds`` is how often each metric is measured, ``least`` how many seconds of CPU a round takes at least.
    """

    def __init__(self, entries: Iterable[Entry], *, rounds: int = 7, least: float = 0.1) -> None:
        self.rounds = rounds
        self.least = least
        self.problems: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.entries = list(entries)
        self._processes: dict[str, Process] = {}
        self._endpoints: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for entry in list(self.entries):
            try:
                process = Process(entry)
            except ContenderError as error:
                self.problems[entry.name] = str(error)
                self.entries.remove(entry)
                continue
            self._stack.callback(process.close)
            self._processes[entry.name] = process
            self.versions[entry.name] = process.hello["versions"]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def builders(self) -> list[Entry]:
        """Those contenders that have agents to build."""
        return [entry for entry in self.entries if entry.contender.HAS_AGENTS]

    def endpoint(self, scenario: str) -> str:
        """Where the server plays ``scenario``; started when first needed."""
        if scenario not in self._endpoints:
            self._endpoints |= self._stack.enter_context(canned_server([scenario]))
        return self._endpoints[scenario]

    def interleaved(
        self, do: str, entries: list[Entry] | None = None, *, rounds: int | None = None, **request: Any
    ) -> dict[str, list[Sample]]:
        """What each contender needs for the same, in turns. Who begins changes from round to round."""
        entries = self.entries if entries is None else entries
        if do == "run":
            request = {"least": self.least, **request}
        samples: dict[str, list[Sample]] = {entry.name: [] for entry in entries}
        for number in range(self.rounds if rounds is None else rounds):
            start = number % len(entries)
            for entry in entries[start:] + entries[:start]:
                if entry.name not in samples:
                    continue
                try:
                    result = self._processes[entry.name].ask(do, **request)
                except ContenderError as error:
                    self.problems[f"{entry.name}: {_described(do, request)}"] = str(error)
                    del samples[entry.name]
                    continue
                samples[entry.name].append(Sample(**result))
        return samples

    def alone(self, entry: Entry, do: str, **request: Any) -> Any:
        """What a fresh process of ``entry`` answers; ``None`` if it cannot."""
        try:
            process = Process(entry)
        except ContenderError as error:
            self.problems[f"{entry.name}: {do}"] = str(error)
            return None
        try:
            return process.ask(do, **request)
        except ContenderError as error:
            self.problems[f"{entry.name}: {do}"] = str(error)
            return None
        finally:
            process.close()


def _described(do: str, request: Mapping[str, Any]) -> str:
    words = [do, *(f"{name}={value}" for name, value in request.items() if name != "endpoint")]
    return " ".join(words)
