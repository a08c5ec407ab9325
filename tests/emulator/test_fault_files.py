"""Fault plans as JSON, and the command that takes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from loom_py.emulator import FaultPlan, FaultRule, Latency, failure_names
from loom_py.errors import ConfigError

DEPLOYMENT = "gpt-4o-deployment"


# ── plans as JSON ────────────────────────────────────────────────────────────────────────


def test_a_plan_can_be_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    rules = [
        {"error": "503-empty", "window": [5, None], "region": "eastus"},
        {"latency": {"lognormal": [0.8, 0.5]}, "bytes_per_second": 100, "deployment": "a"},
        {"latency": 2, "probability": 0.1, "burst": 3},
        {"latency": {"uniform": [1, 2]}},
    ]
    path.write_text(json.dumps({"seed": 7, "rules": rules}), "utf-8")
    assert FaultPlan.load(path) == FaultPlan(
        seed=7,
        rules=[
            FaultRule(error="503-empty", window=(5, float("inf")), region="eastus"),
            FaultRule(latency=Latency.lognormal(0.8, 0.5), bytes_per_second=100, deployment="a"),
            FaultRule(latency=Latency.fixed(2), probability=0.1, burst=3),
            FaultRule(latency=Latency.uniform(1, 2)),
        ],
    )


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([], "a fault plan is"),
        ({"rules": {}}, "a fault plan is"),
        ({"rules": [], "sede": 1}, "unknown keys: sede"),
        ({"rules": [{"error": "500"}, {"error": "599"}]}, "rule 1 of the fault plan: error '599' is unknown"),
        ({"rules": [{"erorr": "500"}]}, "rule 0 of the fault plan: unknown keys: erorr"),
        ({"rules": [{}]}, "must do something"),
        ({"rules": ["500"]}, "rule 0"),
        ({"rules": [{"error": "500", "probability": 2}]}, "from 0 to 1"),
        ({"rules": [{"error": "500", "probability": "often"}]}, "rule 0"),
        ({"rules": [{"error": "500", "nth": 0}]}, "nth must be at least 1"),
        ({"rules": [{"error": "500", "window": [9, 3]}]}, "window"),
        ({"rules": [{"error": "500", "window": [9]}]}, "rule 0"),
        ({"rules": [{"latency": {"normal": [1, 2]}}]}, "fixed, uniform or lognormal"),
        ({"rules": [{"latency": {"uniform": [2, 1]}}]}, "low <= high"),
        ({"rules": [{"latency": -1}]}, "0 seconds or more"),
        ({"rules": [{"bytes_per_second": 0}]}, "more than 0"),
        ({"rules": [{"cut_after_chunks": -1}]}, "must not be negative"),
    ],
)
def test_a_bad_plan_is_refused_by_rule(data: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        FaultPlan.from_dict(data)


def test_a_plan_that_is_no_file_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        FaultPlan.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{", "utf-8")
    with pytest.raises(ConfigError, match="is not JSON"):
        FaultPlan.load(tmp_path / "bad.json")


def test_the_command_takes_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps({"rules": [{"error": "504-html"}]}), "utf-8")
    command = [sys.executable, "-W", "error", "-m", "loom_py.emulator", "--port", "0", "--faults", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().split()[1]
            url = f"{endpoint}/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=1"
            assert httpx2.post(url, json={}, headers={"api-key": "emulator-key"}).status_code == 504
        finally:
            process.terminate()


def test_the_command_refuses_a_bad_plan(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps({"rules": [{"error": "nope"}]}), "utf-8")
    command = [sys.executable, "-m", "loom_py.emulator", "--port", "0", "--faults", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: rule 0 of the fault plan: error 'nope' is unknown")


def test_the_names_asked_for_most_are_there() -> None:
    assert {"429-2026", "401-rbac", "content-filter-async", "json-for-stream"} <= set(failure_names())
