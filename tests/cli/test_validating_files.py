"""``loom validate``: all problems of all files, for people and for programs."""

from __future__ import annotations

import json
import re

from tests.cli.terminal import Loom

BAD = """kind: Agent
name: broken
llm: {provider: azure-openai, endpoint: "ftp://x", temprature: 1}
tools: [nothing_of_that_name]
"""


def test_every_problem_of_every_file_is_listed_with_its_place(loom: Loom, agent: str) -> None:
    below = loom.folder / "team" / "more"
    below.mkdir(parents=True)
    (below / "bad.yml").write_text(BAD, "utf-8")
    (below / "compose.yaml").write_text("services: {}\n", "utf-8")
    (loom.folder / ".hidden").mkdir()
    (loom.folder / ".hidden" / "bad.yaml").write_text(BAD, "utf-8")
    done = loom("validate", ".")
    assert done.returncode == 1
    places = re.findall(r"^(\S+):(\d+):(\d+): (\S+):", done.stdout, re.MULTILINE)
    assert [(path, line) for path, line, _, _ in places] == [
        ("team/more/bad.yml", "3"),
        ("team/more/bad.yml", "3"),
        ("team/more/bad.yml", "4"),
    ]
    assert "Did you mean 'temperature'?" in done.stdout
    assert done.stderr == "2 files checked, 3 problems in 1\n"


def test_a_good_file_is_said_to_be_good(loom: Loom, agent: str) -> None:
    done = loom("validate", agent, agent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "1 file checked, nothing wrong\n")


def test_json_has_every_problem_as_an_object(loom: Loom) -> None:
    (loom.folder / "bad.yaml").write_text(BAD, "utf-8")
    done = loom("validate", "--json", "bad.yaml")
    assert done.returncode == 1
    first, *_ = problems = json.loads(done.stdout)
    assert len(problems) == 3
    assert {"path", "line", "column", "field", "message", "hint"} == set(first)
    (loom.folder / "bad.yaml").write_text("kind: Agent\nname: x\nllm: needle\n", "utf-8")
    assert json.loads(loom("validate", "--json", "bad.yaml").stdout) == []


def test_where_there_is_nothing_to_check_it_is_wrong_usage(loom: Loom) -> None:
    for place in (".", "nowhere.yaml"):
        done = loom("validate", place)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
    assert loom("validate").returncode == 2


def test_a_file_that_is_no_yaml_or_no_text_is_a_problem_and_no_crash(loom: Loom) -> None:
    (loom.folder / "a.yaml").write_bytes(b"kind: Agent\n\xff\x00")
    (loom.folder / "b.yaml").write_text("kind: Agent\nllm: [", "utf-8")
    (loom.folder / "c.yaml").write_text("", "utf-8")
    done = loom("validate", "a.yaml", "b.yaml", "c.yaml")
    assert done.returncode == 1
    assert {line.partition(":")[0] for line in done.stdout.splitlines() if ".yaml:" in line} == {
        "a.yaml", "b.yaml", "c.yaml",
    }  # fmt: skip
    assert "Traceback" not in done.stderr
