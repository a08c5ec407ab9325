"""Entra tokens the emulator issues."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AzureOpenAI

from loom_py.emulator import AzureEmulator, VirtualClock
from loom_py.emulator.tokens import TokenIssuer

DEPLOYMENT = "gpt-4o-deployment"
CLASSIC = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21"
V1 = "/openai/v1/chat/completions"
RESPONSES = "/openai/v1/responses"
BODY = {"model": DEPLOYMENT, "messages": [{"role": "user", "content": "Hi"}]}


def post(azure: AzureEmulator, token: str, path: str = CLASSIC) -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx2.post(f"{azure.endpoint}{path}", json=BODY, headers=headers)


@pytest.mark.parametrize("path", [CLASSIC, V1])
@pytest.mark.parametrize(
    "scope", ["https://cognitiveservices.azure.com/.default", "https://ai.azure.com/.default"]
)
def test_an_issued_token_is_accepted(azure: AzureEmulator, path: str, scope: str) -> None:
    assert post(azure, azure.issue_token(scope=scope), path).status_code == 200


def test_a_token_expires_by_the_clock() -> None:
    clock = VirtualClock()
    with AzureEmulator(clock=clock) as azure:
        token = azure.issue_token(lifetime=3600)
        clock.advance(3599)
        assert post(azure, token).status_code == 200
        clock.advance(1)
        expired = post(azure, token)
        assert expired.status_code == 401
        assert expired.json()["statusCode"] == 401
        assert "have expired" in expired.json()["message"]
        assert post(azure, azure.issue_token()).status_code == 200


@pytest.mark.parametrize("path", [CLASSIC, V1, RESPONSES])
def test_a_token_for_another_audience_is_401_at_the_top_level(azure: AzureEmulator, path: str) -> None:
    refused = post(azure, azure.issue_token(scope="https://management.azure.com/.default"), path)
    assert refused.status_code == 401
    assert refused.json() == {
        "statusCode": 401,
        "message": "Unauthorized. Access token is missing, invalid, audience is incorrect "
        "(https://cognitiveservices.azure.com), or have expired.",
    }


def test_a_token_has_the_shape_of_a_jwt(azure: AzureEmulator) -> None:
    header, claims, _ = azure.issue_token(lifetime=60).split(".")

    def decoded(part: str) -> dict[str, object]:
        value: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return value

    assert decoded(header) == {"typ": "JWT", "alg": "HS256"}
    told = decoded(claims)
    assert told["aud"] == "https://cognitiveservices.azure.com"
    assert {"iat", "nbf", "exp", "iss"} <= told.keys()


def test_another_emulators_token_is_refused(azure: AzureEmulator) -> None:
    with AzureEmulator() as other:
        assert post(azure, other.issue_token()).status_code == 401


def changed(token: str, part: int) -> str:
    parts = token.split(".")
    parts[part] = parts[part][:-2] + ("AA" if not parts[part].endswith("AA") else "BB")
    return ".".join(parts)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda token: changed(token, 1),
        lambda token: changed(token, 2),
        lambda token: token.rpartition(".")[0],
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token + "é",
        lambda _: "..",
        lambda _: "",
    ],
)
def test_a_token_that_was_tampered_with_is_refused(tamper: Callable[[str], str]) -> None:
    issuer = TokenIssuer(VirtualClock())
    token = issuer.issue()
    assert issuer.accepts(token)
    assert not issuer.accepts(tamper(token))


@given(st.text())
def test_no_text_is_taken_for_a_token(text: str) -> None:
    assert not TokenIssuer(VirtualClock()).accepts(text)


def test_the_sdk_refreshes_through_its_token_provider() -> None:
    clock = VirtualClock()
    with (
        AzureEmulator(clock=clock, api_keys=[]) as azure,
        AzureOpenAI(
            azure_endpoint=azure.endpoint,
            api_version="2024-10-21",
            azure_ad_token_provider=lambda: azure.issue_token(lifetime=10),
            max_retries=0,
        ) as client,
    ):
        for _ in range(2):
            answer = client.chat.completions.create(
                model=DEPLOYMENT, messages=[{"role": "user", "content": "Hi"}]
            )
            assert answer.choices[0].message.content == "Hi"
            clock.advance(11)


def test_a_token_is_not_in_the_log_of_requests(azure: AzureEmulator) -> None:
    token = azure.issue_token()
    post(azure, token)
    assert token not in repr(azure.requests[0].headers)
