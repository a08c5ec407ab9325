"""``loom`` with streams that are closed, full, read by nobody, or in an encoding that is not UTF-8."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.terminal import Loom

pytestmark = pytest.mark.skipif(os.name == "nt", reason="devices and pipes of Unix")

ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
SAYS = """
kind: Agent
llm:
  script: ["9 °C → wind \\U0001F32C"]
"""


@pytest.fixture
def says(loom: Loom) -> str:
    (loom.folder / "says.yaml").write_text(SAYS, "utf-8")
    return "says.yaml"


def _shell(loom: Loom, command: str) -> subprocess.CompletedProcess[str]:
    """``command`` run by a shell, in which ``$loom`` is ``loom``."""
    environment = loom.environment | {"loom": f"{sys.executable} -m loom_py.cli"}
    return subprocess.run(
        ["bash", "-c", command], cwd=loom.folder, env=environment, capture_output=True, text=True, timeout=60
    )


def test_an_answer_is_not_lost_to_a_letter_that_the_encoding_lacks(loom: Loom, says: str) -> None:
    done = loom.cold("run", says, "hi", more=ASCII)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"9 ?C ? wind ?\n", b"")


def test_json_has_escapes_where_the_encoding_is_not_that_of_unicode(loom: Loom, says: str) -> None:
    done = loom.cold("run", says, "hi", "--json", more=ASCII)
    assert json.loads(done.stdout)["message"] == "9 °C → wind \U0001f32c"


def test_questions_are_utf8_whatever_the_locale(loom: Loom, agent: str) -> None:
    done = loom.cold("chat", agent, "--lines", "--json", stdin="\ufeffnaïve 🎉\n".encode(), more=ASCII)
    assert json.loads(done.stdout)["message"] == "You said: naïve 🎉"


def test_a_line_that_is_not_utf8_is_told_with_its_number(loom: Loom, agent: str) -> None:
    done = loom("chat", agent, "--lines", stdin=b"good\n\xff\xfe\n")
    assert (done.returncode, done.stdout) == (2, "You said: good\n")
    assert "standard input is not UTF-8: byte 0, in line 2" in done.stderr


def test_half_a_character_of_a_model_ends_nothing(loom: Loom) -> None:
    (loom.folder / "half.py").write_text("def half() -> str:\n    'x'\n    return 'a\\ud83db'\n", "utf-8")
    text = "kind: Agent\nllm: {script: [{call: half}, done]}\ntools: ['half:half']\n"
    (loom.folder / "half.yaml").write_text(text, "utf-8")
    done = loom("run", "half.yaml", "hi", "--json", "--stream")
    assert done.returncode == 0
    assert all(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    "command",
    ["--version", "--help", "models", "models --json", "config show", "run says.yaml hi", "prices gpt-4o"],
)
@pytest.mark.usefixtures("says")
def test_a_reader_that_is_gone_gives_141_and_no_complaint(loom: Loom, command: str) -> None:
    done = _shell(loom, f"{{ sleep 0.2; $loom {command}; echo $? >&2; }} | true")
    assert done.stderr.splitlines()[-1] == "141"
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr.lower()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no full device")
@pytest.mark.parametrize("command", ["models", "models --json", "run says.yaml hi"])
@pytest.mark.usefixtures("says")
def test_a_full_disk_is_told(loom: Loom, command: str) -> None:
    done = _shell(loom, f"$loom {command} >/dev/full")
    assert done.returncode == 2
    assert "error: standard output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("says")
def test_closed_streams_are_as_good_as_none(loom: Loom) -> None:
    done = _shell(
        loom,
        "$loom run says.yaml hi >&-; echo $? >&2; $loom chat says.yaml <&-; echo $? >&2; "
        "$loom run says.yaml hi 2>&-",
    )
    assert done.stdout == "9 °C → wind 🌬\n"
    assert [line for line in done.stderr.splitlines() if "hint" not in line] == [
        "0",
        "error: standard input held no question",
        "2",
    ]


def test_output_to_a_device_leaves_it_a_device(loom: Loom, says: str) -> None:
    pipe = loom.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert loom("run", says, "hi", "-o", "pipe").returncode == 0
    assert os.read(reader, 100).decode() == "9 °C → wind 🌬\n"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert loom("run", says, "hi", "-o", "/dev/stdout").stdout == "9 °C → wind 🌬\n"
    assert Path("/dev/null").is_char_device()


def test_output_to_a_file_keeps_its_mode_and_its_link(loom: Loom, says: str) -> None:
    real, link = loom.folder / "real.txt", loom.folder / "link.txt"
    real.write_text("old", "utf-8")
    real.chmod(0o600)
    link.symlink_to(real)
    assert loom("run", says, "hi", "-o", "link.txt").returncode == 0
    assert link.is_symlink()
    assert real.read_text("utf-8") == "9 °C → wind 🌬\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
