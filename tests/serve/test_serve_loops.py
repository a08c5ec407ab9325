"""A server runs on uvloop's event loop where the extra ``fast`` brought it along."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from loom_py.serve import loops


async def _kind() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop for Windows")
def test_uvloop_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOM_FAST", raising=False)
    assert loops.run(_kind()) == "uvloop"


@pytest.mark.parametrize("word", ["0", "false", "Off"])
def test_it_is_switched_off_with_the_rest_of_fast(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_FAST", word)
    assert loops.run(_kind()) == "asyncio"


def test_without_it_asyncio_s_own_loop_serves() -> None:
    code = "import sys; sys.modules['uvloop'] = None\n"
    code += "from loom_py.serve import loops\nprint(loops.loop_factory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
