"""``loom`` as a process: with pipes, or on a terminal of its own."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import NamedTuple, Self, TextIO

from tests.cli.warm import Process, Warm

_STEERING = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[@-_=>]|\r")

PROMPT = "› "
CTRL_C, CTRL_D, ENTER, ALT_ENTER = "\x03", "\x04", "\r", "\x1b\r"


@dataclass
class Loom:
    """Runs ``loom`` in ``folder``, with an environment in which nothing is configured."""

    folder: Path
    warm: Warm
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str, stdin: str | bytes | None = None, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        given = stdin.encode() if isinstance(stdin, str) else stdin or b""
        with TemporaryFile() as asked, TemporaryFile() as out, TemporaryFile() as err:
            asked.write(given)
            asked.seek(0)
            streams = (asked.fileno(), out.fileno(), err.fileno())
            environment = self.environment | dict(more or {})
            code = self.warm.start(arguments, environment, self.folder, streams).wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read().decode(), err.read().decode())

    def cold(
        self, *arguments: str, stdin: bytes | None = None, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """The same in a new interpreter, with pipes."""
        return subprocess.run(
            [sys.executable, "-m", "loom_py.cli", *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=60,
            cwd=self.folder,
            env=self.environment | dict(more or {}),
        )

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """The same with pipes to read from while it runs."""
        out, out_side = os.pipe()
        err, err_side = os.pipe()
        with Path(os.devnull).open("rb") as nothing:
            streams = (nothing.fileno(), out_side, err_side)
            process = self.warm.start(arguments, self.environment, self.folder, streams)
        os.close(out_side)
        os.close(err_side)
        with os.fdopen(out, encoding="utf-8") as stdout, os.fdopen(err, encoding="utf-8") as stderr:
            try:
                yield Running(process, stdout, stderr)
            finally:
                process.kill()

    def on_a_terminal(self, *arguments: str, columns: int = 100, **more: str) -> Terminal:
        """The same on a terminal."""
        return Terminal(self.warm, arguments, self.environment | more, self.folder, columns)


class Running(NamedTuple):
    """A process, and what it writes."""

    process: Process
    stdout: TextIO
    stderr: TextIO


class Terminal:
    """Runs ``loom`` with a pseudo-terminal as its standard input, output and error."""

    def __init__(
        self,
        warm: Warm,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        columns: int,
    ) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        given = {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **environment}
        self.process = warm.start(arguments, given, folder, (side, side, side), terminal=True)
        os.close(side)
        self._seen = ""
        self._read_up_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        os.close(self._main)

    @property
    def text(self) -> str:
        """All that was written so far, without what steers the terminal."""
        return _STEERING.sub("", self._seen)

    @property
    def raw(self) -> str:
        """All that was written so far."""
        return self._seen

    def type(self, *keys: str) -> None:
        """Type ``keys``, one after the other."""
        for each in keys:
            os.write(self._main, each.encode())

    def wait_for(self, expected: str, seconds: float = 30.0) -> str:
        """Wait until ``expected`` is seen after what was waited for before; what was written up to it."""
        end = time.monotonic() + seconds
        while (place := self.text.find(expected, self._read_up_to)) < 0:
            left = end - time.monotonic()
            assert left > 0, f"{expected!r} was not seen:\n{self.text[self._read_up_to :]}"
            if not self._read(left):
                assert expected in self.text[self._read_up_to :], (
                    f"it ended before {expected!r}:\n{self.text}"
                )
        begun, self._read_up_to = self._read_up_to, place + len(expected)
        return self.text[begun : self._read_up_to]

    def leave(self) -> int:
        """Wait for the prompt, type Ctrl-D at it, and wait for the end; the exit code."""
        self.wait_for(PROMPT)
        self.type(CTRL_D)
        return self.exit_code()

    def exit_code(self, seconds: float = 30.0) -> int:
        """The exit code, once the process has ended."""
        end = time.monotonic() + seconds
        while self._read(0.1):
            assert time.monotonic() < end, f"it has not ended:\n{self.text[self._read_up_to :]}"
        return self.process.wait(max(end - time.monotonic(), 1))

    def _read(self, seconds: float) -> bool:
        """Read what there is; whether the process may write more."""
        ready, _, _ = select.select([self._main], [], [], min(seconds, 0.2))
        if not ready:
            return self.process.poll() is None
        try:
            data = os.read(self._main, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self._seen += data.decode("utf-8", "replace")
        return bool(data)
