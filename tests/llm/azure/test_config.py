"""Settings: what is required, what is refused, where they come from, and that secrets stay secret."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from loom_py.errors import (
    BuilderError,
    ConfigError,
    InvalidDeploymentError,
    InvalidEndpointError,
    LoomError,
    MissingAuthError,
)
from loom_py.llm.azure import AzureOpenAIClient, AzureOpenAIConfig, create_provider
from loom_py.llm.azure.config import bare_token

ENDPOINT = "https://contoso.openai.azure.com"
SECRET = "s3cret-0123456789abcdef"
GOOD: dict[str, Any] = {"endpoint": ENDPOINT, "deployment_id": "gpt-4o", "api_key": SECRET}


def resolve(**changes: Any) -> AzureOpenAIConfig:
    return AzureOpenAIConfig.resolve({**GOOD, **changes})


# ── what is required ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("missing", "kind", "message", "code"),
    [
        ("endpoint", InvalidEndpointError, "endpoint is required", "invalid_endpoint"),
        ("deployment_id", InvalidDeploymentError, "deployment ID is required", "invalid_deployment"),
        ("api_key", MissingAuthError, "either api_key or entra_token must be provided", "missing_auth"),
    ],
)
@pytest.mark.parametrize("empty", ["", "  ", None])
def test_what_is_missing_is_named_with_its_remedy(
    missing: str, kind: type[LoomError], message: str, code: str, empty: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        AzureOpenAIClient(**{**GOOD, missing: empty})
    assert type(caught.value) is kind
    assert caught.value.message == message
    assert caught.value.code == code
    assert caught.value.grpc_code == "INVALID_ARGUMENT"
    assert caught.value.field == missing
    assert "AZURE_OPENAI_" in (caught.value.hint or "")
    assert caught.value.__context__ is None


def test_several_problems_come_in_one_error() -> None:
    with pytest.raises(BuilderError) as caught:
        AzureOpenAIClient(endpoint="ftp://x", max_tokens=0, temperature=2.5, timeout=601)
    fields = [problem.field for problem in caught.value.problems]
    assert sorted(fields) == ["api_key", "deployment_id", "endpoint", "max_tokens", "temperature", "timeout"]
    text = str(caught.value)
    for part in ("deployment ID is required", "https", "not 0", "not 2.5", "not 601"):
        assert part in text


def test_a_blank_key_beside_a_token_does_not_hide_the_token() -> None:
    config = resolve(api_key=" ", entra_token="token")
    assert config.api_key is None
    assert config.entra_token is not None


# ── ranges ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 1),
        ("max_tokens", 128_000),
        ("temperature", 0.0),
        ("temperature", 2.0),
        ("timeout", 1.0),
        ("timeout", 600.0),
    ],
)
def test_the_ends_of_a_range_are_in_it(field: str, value: float) -> None:
    assert getattr(resolve(**{field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 128_001),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("timeout", 0.9),
        ("timeout", 600.1),
    ],
)
def test_outside_a_range_the_field_and_the_value_are_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{field}: .* not {value}") as caught:
        resolve(**{field: value})
    assert caught.value.field == field


def test_the_defaults_are_the_references() -> None:
    config = resolve()
    assert (config.api_version, config.max_tokens, config.temperature, config.timeout) == (
        "2024-10-21",
        4096,
        1.0,
        60.0,
    )
    assert config.model_name is None


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        resolve().endpoint = "https://elsewhere.example"


# ── the endpoint ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (ENDPOINT, ENDPOINT),
        (f" {ENDPOINT}/ \n", ENDPOINT),
        (f"{ENDPOINT}/openai", ENDPOINT),
        (f"{ENDPOINT}/openai/", ENDPOINT),
        ("https://gateway.example/team-a/", "https://gateway.example/team-a"),
        ("HTTPS://contoso.openai.azure.com", ENDPOINT),
        ("https://contoso.openai.azure.com:8443", "https://contoso.openai.azure.com:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_endpoint_is_brought_to_its_plain_form(given: str, kept: str) -> None:
    assert resolve(endpoint=given).endpoint == kept


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("http://contoso.openai.azure.com", "https"),
        ("http://10.0.0.5", "https"),
        ("http://127.0.0.1.evil.example", "https"),
        ("contoso.openai.azure.com", "must be a URL"),
        ("ftp://contoso.openai.azure.com", "must be a URL"),
        ("https://", "must be a URL"),
        ("https://[::1", "must be a URL"),
        ("https://contoso.openai.azure.com:port", "must be a URL"),
        ("https://con toso.openai.azure.com", "must be a URL"),
        ("https://user:pass@contoso.openai.azure.com", "user name or password"),
        (f"{ENDPOINT}/?api-version=2024-10-21", "api_version"),
        (f"{ENDPOINT}/openai/deployments/gpt-4o/chat/completions", "base URL"),
    ],
)
def test_what_is_no_endpoint_is_refused_with_the_reason(given: str, message: str) -> None:
    with pytest.raises(InvalidEndpointError, match=message) as caught:
        resolve(endpoint=given)
    assert caught.value.field == "endpoint"
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_deployment_cannot_be_a_step_in_a_path(name: str) -> None:
    with pytest.raises(InvalidDeploymentError):
        resolve(deployment_id=name)


def test_white_space_around_a_deployment_is_taken_off() -> None:
    assert resolve(deployment_id=" gpt-4o\n").deployment_id == "gpt-4o"


# ── credentials ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "given",
    [
        "a.b.c",
        "Bearer a.b.c",
        "bearer   a.b.c\n",
        "BEARER a.b.c",
        "Bearer Bearer a.b.c",
        SecretStr("Bearer a.b.c"),
    ],
)
def test_a_leading_bearer_is_taken_off(given: Any) -> None:
    for config in (
        AzureOpenAIConfig.resolve({**GOOD, "api_key": None, "entra_token": given}),
        AzureOpenAIConfig(endpoint=ENDPOINT, deployment_id="d", entra_token=given),
    ):
        assert config.entra_token is not None
        assert config.entra_token.get_secret_value() == "a.b.c"


def test_a_token_that_begins_like_bearer_is_left_alone() -> None:
    assert bare_token("bearertoken") == "bearertoken"


@pytest.mark.parametrize("token", ["Bearer", "Bearer ", "  "])
def test_bearer_alone_is_no_token(token: str) -> None:
    with pytest.raises(MissingAuthError):
        resolve(api_key=None, entra_token=token)


@pytest.mark.parametrize("secret", ["line\nbreak-9876", "schlüssel-9876", "two words-9876", "nul\0-9876"])
@pytest.mark.parametrize("field", ["api_key", "entra_token"])
def test_a_credential_that_no_header_can_hold_is_refused_unseen(field: str, secret: str) -> None:
    with pytest.raises(ConfigError, match="one line of ASCII") as caught:
        resolve(**{"api_key": None, field: secret})
    assert caught.value.field == field
    assert "9876" not in "".join(traceback.format_exception(caught.value))


def test_a_key_with_a_trailing_line_break_is_stripped() -> None:
    config = resolve(api_key=f"{SECRET}\n")
    assert config.api_key is not None
    assert config.api_key.get_secret_value() == SECRET


def test_a_key_that_is_no_text_is_refused_unseen() -> None:
    with pytest.raises(ConfigError, match="api_key") as caught:
        resolve(api_key=1234567)
    assert "1234567" not in str(caught.value)


def test_secrets_are_in_no_text_at_all() -> None:
    with pytest.raises(BuilderError) as caught:
        resolve(entra_token=f"{SECRET}-token", endpoint="nowhere", timeout=0)
    client = AzureOpenAIClient(**GOOD)
    texts = [
        repr(client),
        str(client),
        repr(client.config),
        str(client.config),
        client.config.model_dump_json(),
        "".join(traceback.format_exception(caught.value)),
        repr(caught.value.to_dict()),
    ]
    assert not any(SECRET in text for text in texts)
    assert SECRET.encode() not in pickle.dumps(caught.value)


# ── the environment ──────────────────────────────────────────────────────────────────────


def test_everything_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", f"{ENDPOINT}/")
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "from-env")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-01-01-preview")
    config = AzureOpenAIClient().config
    assert (config.endpoint, config.deployment_id, config.api_version) == (
        ENDPOINT,
        "from-env",
        "2025-01-01-preview",
    )
    assert config.api_key is not None
    assert config.api_key.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("names", "field"),
    [
        (("AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_DEPLOYMENT_ID"), "deployment_id"),
        (("OPENAI_API_VERSION", "AZURE_OPENAI_API_VERSION"), "api_version"),
    ],
)
def test_of_two_names_the_first_that_is_set_counts(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], field: str
) -> None:
    settings = {key: value for key, value in GOOD.items() if key != field}
    monkeypatch.setenv(names[1], "second")
    assert getattr(AzureOpenAIConfig.resolve(settings), field) == "second"
    monkeypatch.setenv(names[0], "first")
    assert getattr(AzureOpenAIConfig.resolve(settings), field) == "first"
    monkeypatch.setenv(names[0], " ")
    assert getattr(AzureOpenAIConfig.resolve(settings), field) == "second"


@pytest.mark.parametrize("name", ["AZURE_OPENAI_ENTRA_TOKEN", "AZURE_OPENAI_AD_TOKEN"])
def test_a_token_from_the_environment_loses_its_bearer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "Bearer a.b.c")
    config = resolve(api_key=None)
    assert config.entra_token is not None
    assert config.entra_token.get_secret_value() == "a.b.c"


def test_explicit_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "DEPLOYMENT", "API_KEY", "ENTRA_TOKEN", "API_VERSION"):
        monkeypatch.setenv(f"AZURE_OPENAI_{name}", "https://env.example")
    config = resolve(api_version="2024-06-01")
    assert (config.endpoint, config.deployment_id, config.api_version) == (ENDPOINT, "gpt-4o", "2024-06-01")
    assert config.entra_token is None


def test_an_explicit_token_is_not_overruled_by_a_key_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", SECRET)
    assert resolve(api_key=None, entra_token="token").api_key is None
    settings = {key: value for key, value in GOOD.items() if key != "api_key"}
    assert AzureOpenAIConfig.resolve(settings, has_credential=True).api_key is None


def test_an_explicit_empty_endpoint_is_not_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", ENDPOINT)
    with pytest.raises(InvalidEndpointError, match="endpoint is required"):
        resolve(endpoint="")


def test_the_key_of_another_service_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(MissingAuthError):
        resolve(api_key=None)


def test_the_registry_s_model_is_the_deployment() -> None:
    settings = {key: value for key, value in GOOD.items() if key != "deployment_id"}
    client = create_provider("gpt-4o-prod", **settings)
    assert (client.name, client.model) == ("azure-openai", "gpt-4o-prod")
