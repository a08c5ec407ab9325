"""Processes of ``loom`` that need not import everything first.

One process imports what commands need and waits. For each command it forks: a process of its own, with
its own arguments, environment, folder and streams, which ends as any other does. What depends on how
Python starts (encodings, what is imported) is tested with a new interpreter instead.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Process", "Warm"]

IMPORTED = (
    "openai.resources.chat.completions",
    "prompt_toolkit",
    "rich.live",
    "rich.status",
    "starlette.applications",
    "typer.rich_utils",
    "uvicorn",
    "yaml",
    "loom_py.agent_file",
    "loom_py.backends",
    "loom_py.builder",
    "loom_py.cli.app",
    "loom_py.cli.chatting",
    "loom_py.cli.demo",
    "loom_py.cli.doctor",
    "loom_py.cli.emulating",
    "loom_py.cli.listing",
    "loom_py.cli.models",
    "loom_py.cli.repl.prompt",
    "loom_py.cli.running",
    "loom_py.emulator",
    "loom_py.llm.azure",
    "loom_py.serve",
)
"""What commands need, and what reads no environment when it is imported."""


class Process:
    """A command that runs; much like `subprocess.Popen`."""

    def __init__(self, status: int) -> None:
        self._status = status
        begun = self._line()
        assert begun, "the process that forks has ended: standard error tells why"
        self.pid = int(begun)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, below 0 for a signal; ``None`` while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._line() or "1")
            os.close(self._status)
        return self.returncode

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for the exit code."""
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            left = end - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("loom", seconds)
            select.select([self._status], [], [], left)
        return code

    def send_signal(self, number: int) -> None:
        """Send it the signal, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, and wait for that."""
        self.send_signal(signal.SIGKILL)
        self.wait(10)

    def _line(self) -> str:
        line = b""
        while (byte := os.read(self._status, 1)) not in (b"", b"\n"):
            line += byte
        return line.decode()


class Warm:
    """The process that waits. `close` ends it."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        streams: tuple[int, int, int],
        *,
        terminal: bool = False,
    ) -> Process:
        """Run ``loom`` with the file descriptors ``streams``; on a ``terminal``, in a session of its own."""
        wanted = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder),
            "terminal": terminal,
        }
        status, told = os.pipe()
        request, text = os.pipe()
        try:
            socket.send_fds(self._ours, [b"."], [*streams, request, told])
        finally:
            os.close(told)
            os.close(request)
        with os.fdopen(text, "w") as file:
            json.dump(wanted, file)
        return Process(status)

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.wait(10)


# ── in the process that waits ────────────────────────────────────────────────────────────


@dataclass
class _Wait:
    """Forks when it is asked to, and tells how those it forked ended."""

    asked: socket.socket

    def __post_init__(self) -> None:
        self._running: dict[int, int] = {}

    def until_closed(self) -> None:
        ended, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready = select.select([self.asked.fileno(), ended], [], [])[0]
            if ended in ready:
                os.read(ended, 4096)
                self._reap()
            if self.asked.fileno() in ready:
                message, descriptors, *_ = socket.recv_fds(self.asked, 1, 5)
                if not message:
                    return
                self._fork(descriptors)

    def _fork(self, descriptors: list[int]) -> None:
        *streams, request, told = descriptors
        with os.fdopen(request) as file:
            wanted = json.load(file)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.asked.close()
            for other in (told, *self._running.values()):
                os.close(other)
            _become(wanted, streams)
        for stream in streams:
            os.close(stream)
        os.write(told, f"{pid}\n".encode())
        self._running[pid] = told

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            told = self._running.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os.close(told)


def _become(wanted: Mapping[str, Any], streams: list[int]) -> None:
    """Run the command, and end as it does."""
    import fcntl
    import termios

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if wanted["terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.chdir(wanted["folder"])
    sys.path[:0] = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["loom", *wanted["arguments"]]
    from loom_py.cli import main

    sys.exit(main())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in IMPORTED:
        with contextlib.suppress(Exception):  # the command that needs it tells what is wrong with it
            importlib.import_module(each)
    gc.freeze()
    _Wait(socket.socket(fileno=int(sys.argv[1]))).until_closed()
