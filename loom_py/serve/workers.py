"""Several processes behind one socket, and the one that looks after them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from prometheus_client import multiprocess, values

from loom_py._log import get_logger
from loom_py.agent import Agent
from loom_py.builder import AgentBuilder
from loom_py.errors import ConfigError, LoomError
from loom_py.serve import loops
from loom_py.serve.config import ServeConfig
from loom_py.serve.metrics import MULTIPROCESS
from loom_py.serve.server import GRACE, OnReady, Server, listen, serve, url_of
from loom_py.serve.service import Service

__all__ = ["run_server"]

READY, DRAIN, FORCE = b"r", b"d", b"f"

START_SECONDS = 60.0
"""How long a worker may take to build its agents."""

LOOK_SECONDS = 0.1
"""How often to look whether a worker has died, or a signal has come."""

RESTART_SECONDS = 1.0
"""How long to wait before a worker that died is replaced."""

LAST_SECONDS = GRACE + 3.0
"""How long a worker may take to end once its time is over, before it is killed."""

_log = get_logger()


def run_server(
    builders: Mapping[str, AgentBuilder],
    config: ServeConfig | None = None,
    *,
    workers: int = 1,
    on_ready: OnReady | None = None,
) -> int:
    """Build the agents, serve them until SIGTERM or SIGINT, and close them; the exit code.

    With several ``workers`` each is a process that builds agents of its own and listens on the same
    socket; one that dies is replaced. What they share, and what not, is said in the docs: rates and
    budgets of keys with ``shared_state`` and ``budget_ledger``; sessions not at all, so they are refused.

    0 if all answers under way came to their end, else 1. Raises `ConfigError` and what `build` raises.
    """
    config = config or ServeConfig()
    if type(workers) is not int or workers < 1:
        raise ConfigError(f"workers must be a whole number of at least 1, not {workers!r}", field="workers")
    if workers == 1:
        return _serve_alone(builders, config, on_ready)
    if not hasattr(os, "fork"):
        raise ConfigError("several workers need a system that can fork", field="workers")
    return _Supervisor(builders, config, workers, on_ready).run()


def _serve_alone(builders: Mapping[str, AgentBuilder], config: ServeConfig, on_ready: OnReady | None) -> int:
    with ExitStack() as stack:
        agents = _built(builders, stack)
        return serve(agents, config, on_ready=on_ready)


def _built(builders: Mapping[str, AgentBuilder], stack: ExitStack) -> dict[str, Agent]:
    return {name: stack.enter_context(builder.build()) for name, builder in builders.items()}


@dataclass(slots=True)
class _Child:
    """A worker: ``line`` is what it is told by, and closes when either side ends."""

    pid: int
    line: socket.socket


class _Supervisor:
    """Forks the workers before it has a thread, an event loop or a connection of its own."""

    def __init__(
        self,
        builders: Mapping[str, AgentBuilder],
        config: ServeConfig,
        workers: int,
        on_ready: OnReady | None,
    ) -> None:
        self._builders = builders
        self._config = config
        self._workers = workers
        self._on_ready = on_ready
        self._listener = listen(config)
        self._children: dict[int, _Child] = {}
        self._signals = 0

    def run(self) -> int:
        """Start them, look after them, and end them; the exit code."""
        folder = tempfile.mkdtemp(prefix="loom-serve-")
        os.environ[MULTIPROCESS] = folder
        before = {each: signal.signal(each, self._told) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            while len(self._children) < self._workers and not self._signals:
                self._start()
            if self._on_ready is not None and not self._signals:
                self._on_ready(url_of(self._listener))
            self._look_after()
            return self._end()
        finally:
            self._end(forced=True)
            for each, handler in before.items():
                signal.signal(each, handler)
            del os.environ[MULTIPROCESS]
            shutil.rmtree(folder, ignore_errors=True)

    def _told(self, *_: object) -> None:
        self._signals += 1

    # ── workers ──────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        """Fork a worker and wait until it serves or a signal comes. Raises `ConfigError` if it cannot."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for child in self._children.values():
                child.line.close()
            _work(self._builders, self._config, self._listener, theirs)
        theirs.close()
        said = self._first_words(ours)
        if said == READY:
            self._children[pid] = _Child(pid, ours)
            return
        os.kill(pid, signal.SIGKILL)  # it serves nobody yet
        os.waitpid(pid, 0)
        ours.close()
        if not self._signals:
            message = said.decode("utf-8", "replace") or "it ended without a word"
            raise ConfigError(f"a worker could not start: {message}", field="workers")

    def _first_words(self, line: socket.socket) -> bytes:
        """What a worker says of its start: one byte if it serves, else why not until it hangs up."""
        line.settimeout(LOOK_SECONDS)
        said, until = b"", time.monotonic() + START_SECONDS
        while said != READY and not self._signals:
            try:
                part = line.recv(4096)
            except TimeoutError:
                if time.monotonic() < until:
                    continue
                return b"it took too long to start"
            if not part:
                break
            said += part
        return said

    def _look_after(self) -> None:
        """Until a signal comes: replace whoever dies."""
        while not self._signals:
            time.sleep(LOOK_SECONDS)
            for pid, code in self._reap():
                _log.warning("worker_died", pid=pid, exit_code=code)
            if len(self._children) < self._workers:
                time.sleep(RESTART_SECONDS)
                if not self._signals:
                    self._replace()

    def _replace(self) -> None:
        try:
            self._start()
        except ConfigError as exc:
            _log.warning("worker_not_replaced", error=exc.message)
            if not self._children:
                raise

    def _end(self, *, forced: bool = False) -> int:
        """Let them finish; at once when a further signal comes. Who does not end in time is killed."""
        config, worst = self._config, 0
        self._listener.close()
        self._tell(FORCE if forced else DRAIN)
        patience = 0.0 if forced else config.drain_delay + config.drain_timeout
        until = time.monotonic() + patience + LAST_SECONDS
        while self._children:
            if self._signals > 1 and not forced:
                forced, until = True, time.monotonic() + LAST_SECONDS
                self._tell(FORCE)
            if time.monotonic() > until:
                self._kill()
            worst = max([worst, *(abs(code) for _, code in self._reap())])
            time.sleep(0.02)
        return min(worst, 1)

    def _kill(self) -> None:
        for pid in self._children:
            _log.warning("worker_killed", pid=pid)
            os.kill(pid, signal.SIGKILL)

    def _tell(self, word: bytes) -> None:
        for child in self._children.values():
            with suppress(OSError):
                child.line.sendall(word)

    def _reap(self) -> list[tuple[int, int]]:
        """Those that have ended, with their exit codes."""
        ended = []
        for pid, child in list(self._children.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                ended.append((pid, os.waitstatus_to_exitcode(status)))
                child.line.close()
                del self._children[pid]
                multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
        return ended


# ── within a worker ──────────────────────────────────────────────────────────────────────


def _work(
    builders: Mapping[str, AgentBuilder], config: ServeConfig, listener: socket.socket, line: socket.socket
) -> None:
    """Serve, and end the process. It never returns: what follows is the parent's to do."""
    code = 3
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent tells us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _keep_figures_in_files()
        with ExitStack() as stack:
            agents = _built(builders, stack)
            code = loops.run(_serve_in_worker(agents, config, listener, line))
    except LoomError as exc:
        with suppress(OSError):
            line.sendall(exc.message.encode("utf-8", "replace"))
    except BaseException as exc:  # noqa: BLE001 - nobody else is there to tell it
        with suppress(OSError):
            line.sendall(type(exc).__name__.encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _keep_figures_in_files() -> None:
    """Let prometheus_client look again at how it keeps figures: it was imported before the fork."""
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]


async def _serve_in_worker(
    agents: Mapping[str, Agent], config: ServeConfig, listener: socket.socket, line: socket.socket
) -> int:
    service = Service(agents, config, keeps_sessions=False)
    line.setblocking(False)
    server = Server(service, lambda _: line.send(READY))
    loop = asyncio.get_running_loop()

    def heed() -> None:
        try:
            said = line.recv(16)
        except BlockingIOError:
            return
        if not said:  # the parent is gone
            loop.remove_reader(line)
        if FORCE in said:
            server.force()
        else:
            server.drain()

    loop.add_reader(line, heed)
    await server.serve_in_worker([listener])
    loop.remove_reader(line)
    return int(server.was_cut)
