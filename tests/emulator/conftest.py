"""Clients that talk to an emulator over a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest
from openai import AzureOpenAI

from loom_py.emulator import AzureEmulator

DEPLOYMENT = "gpt-4o-deployment"


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    with AzureEmulator() as emulator:
        yield emulator


@pytest.fixture
def sdk(azure: AzureEmulator) -> Iterator[AzureOpenAI]:
    with AzureOpenAI(
        azure_endpoint=azure.endpoint,
        api_key=azure.api_key,
        api_version="2024-10-21",
        max_retries=0,
        http_client=httpx2.Client(verify=False),  # no TLS here, and no time to load certificates
    ) as client:
        yield client


@pytest.fixture
def http(azure: AzureEmulator) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=azure.endpoint, headers={"api-key": azure.api_key}, verify=False) as client:
        yield client


@pytest.fixture
def ask(http: httpx2.Client) -> Callable[..., httpx2.Response]:
    """Post a chat-completions body, given as keywords over a minimal one."""

    def post(*, deployment: str = DEPLOYMENT, **body: object) -> httpx2.Response:
        body = {"messages": [{"role": "user", "content": "Hello there"}], **body}
        path = f"/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21"
        return http.post(path, json={key: value for key, value in body.items() if value is not ...})

    return post
