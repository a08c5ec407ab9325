"""Real servers on loopback, for the tests that need them; ended with the test process."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START_SECONDS = 60
INSTALL_SECONDS = 120


def _find(program: str) -> str | None:
    found = shutil.which(program)
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)
    # A link on PATH hides where the server's other files are.
    return str(installed[0]) if installed else found


def _install(package: str) -> None:
    """Install one of Debian's packages, where that can be done; no service of it is started."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for step in (["install"], ["update"], ["install"]):
        words = [*step, "-y", package] if step == ["install"] else step
        with contextlib.suppress(subprocess.SubprocessError):
            done = subprocess.run(
                ["apt-get", "-q", *words],
                check=False,
                capture_output=True,
                timeout=INSTALL_SECONDS,
                env=quietly,
            )
            if step == ["install"] and done.returncode == 0:
                return


@pytest.fixture(scope="session")
def redis_program() -> str:
    """Where the redis-server is."""
    if shutil.which("redis-server") is None:
        _install("redis-server")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed and cannot be (Debian's package is redis-server)")
    return program


def _programs() -> tuple[str, str]:
    if _find("initdb") is None:
        _install("postgresql")
    initdb, server = _find("initdb"), _find("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed and cannot be")
    return initdb, server


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.skip("PostgreSQL needs a user other than root, and there is none")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    import psycopg

    end = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"PostgreSQL did not start: {log.read_text()}")
            time.sleep(0.05)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of an empty PostgreSQL server, started for this test process and ended with it."""
    initdb, server = _programs()
    user = _user()
    home = Path(tempfile.mkdtemp(prefix="loom-pg-"))
    if user is not None:
        shutil.chown(home, user)
    data, log = home / "data", home / "log"
    subprocess.run(
        [initdb, "-D", str(data), "-A", "trust", "-U", "loom", "-E", "UTF8", "--locale=C", "--no-sync"],
        check=True,
        capture_output=True,
        user=user,
        cwd=home,
    )
    port = _free_port()
    settings = ["fsync=off", "unix_socket_directories=", "listen_addresses=127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [server, "-D", str(data), "-p", str(port), *(part for item in settings for part in ("-c", item))],
            stdout=output,
            stderr=output,
            user=user,
            cwd=home,
        )
    url = f"postgresql://loom@127.0.0.1:{port}/postgres"
    try:
        _wait(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)
