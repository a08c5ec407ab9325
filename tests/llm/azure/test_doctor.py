"""A 404 whose hint names the setting that is wrong."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py import AzureOpenAIClient, Message
from loom_py.errors import DeploymentNotFoundError, NotFoundError
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.azure.doctor import API_VERSIONS, CHECKS, not_found_hint
from loom_py.llm.azure.surfaces import Route

HELLO = [Message.user("Hello")]
CHAT = Route(False, "/deployments/x/chat/completions")
RESOURCE = "https://contoso.openai.azure.com"
PATH = {"code": "404", "message": "Resource not found"}
DEPLOYMENT = {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}


def client(error: dict[str, str], settings: dict[str, Any]) -> AzureOpenAIClient:
    def refuse(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(404, json={"error": error})

    transport = httpx2.MockTransport(refuse)
    defaults: dict[str, Any] = {
        "endpoint": RESOURCE,
        "deployment_id": "prod-chat",
        "api_key": "key-of-contoso",
    }
    clients = {
        "http_client": httpx2.Client(transport=transport),
        "async_http_client": httpx2.AsyncClient(transport=transport),
    }
    return AzureOpenAIClient(**{**defaults, **clients, **settings})


async def ask(client: AzureOpenAIClient, verb: str) -> None:
    call = getattr(client, verb)
    if verb == "achat":
        await call(HELLO)
    elif verb == "astream_chat":
        [event async for event in call(HELLO)]
    else:
        list(call(HELLO))


WRONG_PATHS = [
    ({"api_version": "2024-13"}, "api_version", "YYYY-MM-DD"),
    ({"api_version": "v2"}, "api_version", "YYYY-MM-DD"),
    ({"api_version": "preview"}, "api_version", "v1 API"),
    ({"api_version": "2024-10-22"}, "api_version", "no version '2024-10-22'"),
    ({"api_version": "2024-02-15"}, "api_version", "there is 2024-02-15-preview"),
    ({"api_version": "2022-12-01"}, "api_version", "before chat completions"),
    (
        {"api_version": "2024-10-21", "surface": "responses", "api": "classic"},
        "api_version",
        "too old for the Responses API",
    ),
    ({"endpoint": "https://api.openai.com"}, "endpoint", "OpenAI's own API"),
    ({"endpoint": "https://ai.azure.com"}, "endpoint", "web page"),
    ({"endpoint": "https://contoso.example.com"}, "endpoint", "no host of Azure OpenAI"),
    ({"endpoint": "https://contoso.azure.com"}, "endpoint", "no host of Azure OpenAI"),
    ({"endpoint": f"{RESOURCE}/chat"}, "endpoint", "the path /chat"),
    (
        {"endpoint": "https://contoso.services.ai.azure.com/api/projects/p1"},
        "endpoint",
        "/api/projects/p1/openai/v1",
    ),
    ({"endpoint": "https://gw.azure-api.net/team"}, "endpoint", "API Management"),
    ({"deployment_id": "azure/gpt-4o"}, "deployment", "'gpt-4o'"),
    ({"deployment_id": "gpt-4o-2024-11-20"}, "deployment", "a model with its version"),
    ({"deployment_id": "gpt-35-turbo-0125"}, "deployment", "a model with its version"),
    ({"deployment_id": "gpt-3.5-turbo"}, "deployment", "gpt-35-turbo"),
    ({"deployment_id": "my deployment"}, "deployment", "cannot be a deployment's name"),
]


@pytest.mark.parametrize(("settings", "suspect", "said"), WRONG_PATHS)
@pytest.mark.parametrize("verb", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_a_bare_404_names_the_setting_that_is_wrong(
    settings: dict[str, Any], suspect: str, said: str, verb: str
) -> None:
    with pytest.raises(NotFoundError) as caught:
        await ask(client(PATH, settings), verb)
    hint = caught.value.hint or ""
    assert hint.startswith(f"Check {suspect}: ")
    assert said in hint
    others = {"endpoint", "deployment", "api_version"} - {suspect}
    assert not any(f"Check {other}:" in hint for other in others)
    assert "key-of-contoso" not in hint


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"endpoint": "https://contoso.cognitiveservices.azure.com"},
        {"endpoint": "https://contoso.services.ai.azure.com"},
        {"endpoint": "https://westeurope.api.cognitive.microsoft.com"},
        {"endpoint": "https://contoso.openai.azure.us"},
        {"endpoint": "http://127.0.0.1:8080"},
        {"deployment_id": "gpt-4o"},
        {"deployment_id": "gpt-4.1-mini_prod"},
        {"api_version": "2025-04-01-preview"},
        {"api_version": "2027-01-01"},
    ],
)
def test_settings_that_look_right_are_not_suspected(settings: dict[str, Any]) -> None:
    with pytest.raises(NotFoundError) as caught:
        client(PATH, settings).chat(HELLO)
    assert "Check " not in (caught.value.hint or "")
    assert "api_version" in (caught.value.hint or "")


def test_a_missing_deployment_is_a_matter_of_its_name_not_of_the_endpoint() -> None:
    settings = {"endpoint": "https://proxy.example.com", "deployment_id": "gpt-4o-2024-08-06"}
    with pytest.raises(DeploymentNotFoundError) as caught:
        client(DEPLOYMENT, settings).chat(HELLO)
    assert (caught.value.hint or "").startswith("Check deployment: 'gpt-4o-2024-08-06'")
    assert "endpoint" not in (caught.value.hint or "")
    with pytest.raises(DeploymentNotFoundError) as caught:
        client(DEPLOYMENT, {}).chat(HELLO)
    assert "not the model's" in (caught.value.hint or "")


def test_several_wrong_settings_are_all_named() -> None:
    settings = {"endpoint": f"{RESOURCE}/x", "deployment_id": "azure/gpt-4o", "api_version": "2024"}
    with pytest.raises(NotFoundError) as caught:
        client(PATH, settings).chat(HELLO)
    assert [
        word
        for word in (caught.value.hint or "").split()
        if word in {"endpoint:", "deployment:", "api_version:"}
    ] == [
        "endpoint:",
        "api_version:",
        "deployment:",
    ]


def test_the_v1_api_is_not_judged_by_an_api_version_it_does_not_send() -> None:
    settings = {"endpoint": f"{RESOURCE}/openai/v1", "api_version": "nonsense"}
    with pytest.raises(NotFoundError) as caught:
        client(PATH, settings).chat(HELLO)
    assert "api='classic'" in (caught.value.hint or "")
    assert "nonsense" not in (caught.value.hint or "")


def test_every_row_has_an_example_here() -> None:
    advice = {said for _, _, said in WRONG_PATHS}
    assert len(CHECKS) <= len(advice) + 1  # two rows speak of slashes and illegal names
    assert all(check.suspect in {"endpoint", "deployment", "api_version"} for check in CHECKS)


@given(st.text(min_size=1), st.text(min_size=1), st.sampled_from(sorted(API_VERSIONS)), st.booleans())
def test_no_settings_make_the_doctor_fail(name: str, path: str, version: str, is_v1: bool) -> None:
    config = AzureOpenAIConfig.model_construct(
        endpoint=f"https://contoso.openai.azure.com/{path}",
        deployment_id=name,
        api_version=version,
        api="auto",
    )
    hint = not_found_hint(config, Route(is_v1, CHAT.path), NotFoundError("x", hint="the general hint"))
    assert hint
