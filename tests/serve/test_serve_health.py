"""Health, figures and the description of the API."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from loom_py import AgentBuilder, ScriptedProvider
from loom_py.serve import create_app, serving
from loom_py.serve.wire import ChatRequest

Ask = Callable[..., dict[str, Any]]


def test_a_healthy_server_says_so(http: httpx2.Client) -> None:
    assert http.get("/health/live").json() == {"status": "live"}
    assert http.get("/health/ready").json() == {"status": "ready"}
    found = http.get("/health").json()
    assert found["status"] == "ok"
    (lane,) = found["models"]["helper"]["deployments"].values()
    assert lane["in_flight"] == 0


def test_a_server_whose_models_are_out_is_not_ready(ask: Ask) -> None:
    from loom_py.errors import ServiceUnavailableError

    def down(_: object) -> Exception:
        return ServiceUnavailableError("upstream-secret is down")

    builder = AgentBuilder().with_llm(ScriptedProvider(down)).with_retries(max_attempts=1)
    builder = builder.with_circuit_breakers(failure_threshold=2).with_rate_limit(requests_per_minute=600)
    with builder.with_name("helper").build() as agent, serving(agent) as url:
        for _ in range(2):
            assert httpx2.post(f"{url}/v1/chat/completions", json=ask()).status_code == 503
        found = httpx2.post(f"{url}/v1/chat/completions", json=ask())
        assert (found.status_code, found.json()["error"]["code"]) == (503, "circuit_open")
        assert int(found.headers["retry-after"]) >= 1
        ready, health = httpx2.get(f"{url}/health/ready"), httpx2.get(f"{url}/health")
        assert (ready.status_code, ready.json()) == (503, {"status": "down"})
        assert (health.status_code, health.json()["status"]) == (503, "down")
        assert "upstream-secret" not in health.text
        figures = httpx2.get(f"{url}/metrics").text
        labels = 'deployment="scripted/scripted-1",model="helper"'
        assert f"loom_deployment_available{{{labels}}} 0.0" in figures
        assert f'loom_breaker_state{{{labels},state="open"}} 1.0' in figures
        assert f"loom_quota_remaining_ratio{{{labels}}} 0.99" in figures
        assert f"loom_queue_waiting{{{labels}}} 0.0" in figures
        assert 'loom_requests_total{key="",model="helper",status="503"} 3.0' in figures


def test_nobody_hears_of_the_money_of_other_sessions(ask: Ask) -> None:
    builder = AgentBuilder().with_llm(ScriptedProvider(lambda _: "Yes.")).with_name("helper")
    for per in ("session", "agent"):
        builder = builder.with_budget(tokens=100_000, per=per)
    with builder.build() as agent, serving(agent) as url:
        headers = {"X-Session-Id": "adas-own"}
        assert httpx2.post(f"{url}/v1/chat/completions", json=ask(), headers=headers).status_code == 200
        health = httpx2.get(f"{url}/health")
    assert [each["per"] for each in health.json()["models"]["helper"]["budgets"]] == ["agent"]
    assert "adas-own" not in health.text


def test_figures_are_prometheus_text(http: httpx2.Client, ask: Ask) -> None:
    http.post("/v1/chat/completions", json=ask("stock"))
    http.post("/v1/chat/completions", json=ask(stream=True))
    http.post("/v1/chat/completions", json=ask(n=2))
    found = http.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=")
    text = found.text
    assert 'loom_requests_total{key="",model="helper",status="200"} 2.0' in text
    assert 'loom_request_seconds_count{model="helper"} 2.0' in text
    assert 'loom_first_byte_seconds_count{model="helper"} 1.0' in text
    assert 'loom_refused_total{code="unsupported_parameter"} 1.0' in text
    assert 'loom_tool_calls_total{model="helper",outcome="ok",tool="stock"} 1.0' in text
    assert "loom_in_flight 0.0" in text
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(
            r"[a-z_]+(\{.*\})? [-+.\dein]+(NaN|Inf)?", line, re.IGNORECASE
        ), line


def test_the_root_points_at_the_api(http: httpx2.Client) -> None:
    found = http.get("/")
    assert found.status_code == 200


def test_the_description_fits_what_is_served(http: httpx2.Client) -> None:
    found = http.get("/openapi.json").json()
    assert found["openapi"] == "3.1.0"
    assert set(found["components"]["schemas"]["ChatRequest"]["properties"]) == set(ChatRequest.model_fields)
    for path, methods in found["paths"].items():
        real = path.replace("{model}", "helper").replace("{session}", "none")
        for method in methods:
            status = http.request(method, real).status_code
            assert status not in (404, 405) or path == "/v1/sessions/{session}", (method, path, status)
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(found))
    assert references
    assert set(references) <= set(found["components"]["schemas"])


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client"])
def test_without_the_extra_it_says_what_to_install(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None\nimport loom_py.serve"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert f"a server needs the package '{package}'" in done.stderr
    assert "pip install 'loom-py[serve]'" in done.stderr


def test_every_answer_has_an_id_of_its_own(http: httpx2.Client, ask: Ask) -> None:
    ids = [http.get(path).headers["x-request-id"] for path in ("/", "/health", "/nowhere", "/v1/models")]
    ids += [
        http.post("/v1/chat/completions", json=ask(stream=is_stream)).headers["x-request-id"]
        for is_stream in (True, False)
    ]
    assert len(set(ids)) == 6


async def test_the_application_runs_under_any_asgi_server(ask: Ask) -> None:
    with AgentBuilder().with_llm(ScriptedProvider(["hello"])).with_name("helper").build() as agent:
        transport = httpx2.ASGITransport(app=create_app(agent))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            found = await asyncio.wait_for(client.post("/v1/chat/completions", json=ask()), 5)
    assert found.json()["choices"][0]["message"]["content"] == "hello"


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/models"])
def test_nothing_is_told_of_the_providers_key(path: str) -> None:
    from loom_py import AzureEmulator

    with AzureEmulator(api_keys=["azure-secret-key"]) as azure:
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs())
        with builder.build() as agent, serving(agent) as url:
            assert "azure-secret-key" not in httpx2.get(url + path).text
