"""The settings of an Azure OpenAI client, validated once and frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from loom_py.errors import (
    ConfigError,
    InvalidDeploymentError,
    InvalidEndpointError,
    MissingAuthError,
    Problem,
)
from loom_py.llm.azure.settings import (
    ClientConfig,
    MaxTokens,
    SurfaceSetting,
    Temperature,
    Timeout,
    bare_token,
    base_url_parts,
    is_loopback,
    is_one_line,
    required,
)
from loom_py.llm.prices import DeploymentType, ModelPrice, PriceOverride

__all__ = ["DEFAULT_API_VERSION", "AzureOpenAIConfig", "bare_token", "is_loopback"]

DEFAULT_API_VERSION = "2024-10-21"
"""The last dated GA version of the classic API (Azure's API version lifecycle page)."""

ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "endpoint": ("AZURE_OPENAI_ENDPOINT",),
    "deployment_id": ("AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_DEPLOYMENT_ID"),
    "api_key": ("AZURE_OPENAI_API_KEY",),
    "entra_token": ("AZURE_OPENAI_ENTRA_TOKEN", "AZURE_OPENAI_AD_TOKEN"),
    "api_version": ("OPENAI_API_VERSION", "AZURE_OPENAI_API_VERSION"),
    "fast": ("LOOM_FAST",),
}
"""Where a setting comes from when no argument gives it, first found first taken."""

_V1_PATH = re.compile(r"/openai/v1(/chat/completions|/responses)?/*\Z")


class AzureOpenAIConfig(ClientConfig):
    """Everything an `AzureOpenAIClient` needs to know, except its live objects.

    ``max_tokens`` 1 to 128,000 tokens; ``temperature`` 0.0 to 2.0; ``timeout`` 1 to 600 seconds,
    for a whole answer and for each event of a stream, so that a long stream is not cut.
    ``endpoint`` must be https; plain http is accepted for loopback addresses only.

    ``prices`` overrides the bundled price table, by deployment or model name; ``deployment_type``
    decides which of Azure's prices holds (``global``, ``data-zone-eu``, ``batch``, …), and
    ``genai_prices`` asks the package genai-prices (extra ``prices``) for models that Azure's list
    does not have.

    ``surface`` is chat completions or responses, ``auto`` what the model needs; ``api`` is the
    classic API with its versions, or v1, which an endpoint ending in ``/openai/v1`` chooses.
    ``fast`` is whether to use aiohttp and orjson (extra ``fast``): ``None`` if they are installed, ``False``
    never, and ``True`` demands them. ``sources`` says which setting came from an argument or a variable.
    """

    environment: ClassVar[Mapping[str, tuple[str, ...]]] = ENVIRONMENT
    credentials: ClassVar[tuple[str, ...]] = ("api_key", "entra_token")
    kinds: ClassVar[Mapping[str, type[ConfigError]]] = {
        "endpoint": InvalidEndpointError,
        "deployment_id": InvalidDeploymentError,
    }
    what: ClassVar[str] = "the Azure OpenAI client"

    endpoint: str
    deployment_id: str
    api_key: SecretStr | None = None
    entra_token: SecretStr | None = None
    api_version: str = Field(default=DEFAULT_API_VERSION, min_length=1)
    model_name: str | None = None
    max_tokens: MaxTokens = 4096
    temperature: Temperature = 1.0
    timeout: Timeout = 60.0
    token_scope: str = "https://cognitiveservices.azure.com/.default"  # noqa: S105 - a scope, not a token
    prices: Mapping[str, ModelPrice | PriceOverride] = Field(default_factory=dict)
    deployment_type: DeploymentType = "global"
    genai_prices: bool = False
    surface: SurfaceSetting = "auto"
    api: Literal["auto", "classic", "v1"] = "auto"
    fast: bool | None = None
    sources: Mapping[str, str] = Field(default_factory=dict, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _read_api_from_endpoint(cls, values: Any) -> Any:
        """An endpoint that ends in ``/openai/v1`` asks for the v1 API."""
        endpoint = values.get("endpoint") if isinstance(values, dict) else None
        if isinstance(endpoint, str) and _V1_PATH.search(endpoint.strip()):
            values = {**values, "endpoint": _V1_PATH.sub("", endpoint.strip())}
            if values.get("api", "auto") == "auto":
                values["api"] = "v1"
        return values

    @property
    def is_v1(self) -> bool:
        """Whether requests go to the v1 API, which takes no API version."""
        return self.api == "v1"

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, value: str) -> str:
        return normalise_endpoint(value)

    @field_validator("deployment_id")
    @classmethod
    def _check_deployment(cls, value: str) -> str:
        name = value.strip()
        if name in {".", ".."}:
            raise ValueError("deployment_id must be the deployment's name, not a step in a path")
        return name

    @property
    def target(self) -> str:
        """What is called: the deployment."""
        return self.deployment_id

    @property
    def address(self) -> str:
        """The endpoint."""
        return self.endpoint

    @property
    def account(self) -> None:
        """``None``: quotas are the deployment's, whoever calls it."""
        return None

    @property
    def chat_version(self) -> str:
        """The API version of chat completions; empty on the v1 API."""
        return "" if self.is_v1 else self.api_version

    @property
    def secrets(self) -> tuple[SecretStr | None, ...]:
        """The key and the static token."""
        return self.api_key, self.entra_token

    @field_validator("api_key", "entra_token", mode="before")
    @classmethod
    def _strip_credential(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.stripped(info.field_name or "", value)

    @field_validator("api_key", "entra_token")
    @classmethod
    def _check_credential(cls, value: SecretStr | None) -> SecretStr | None:
        return is_one_line(value)

    @classmethod
    def missing(cls, values: Mapping[str, Any], has_credential: bool) -> list[Problem]:
        """Endpoint, deployment and credential, those that are not there."""
        problems = []
        if not str(values.get("endpoint", "")).strip():
            problems.append(cls._required("endpoint", "endpoint is required"))
        if not str(values.get("deployment_id", "")).strip():
            problems.append(cls._required("deployment_id", "deployment ID is required"))
        if not has_credential and not any(name in values for name in cls.credentials):
            problems.append(cls._required("api_key", "either api_key or entra_token must be provided"))
        return problems

    @classmethod
    def _required(cls, field: str, message: str) -> Problem:
        names = ENVIRONMENT[field] + (ENVIRONMENT["entra_token"] if field == "api_key" else ())
        arguments = "api_key=, entra_token= or credential=" if field == "api_key" else f"{field}="
        kind = cls.kinds.get(field, MissingAuthError)
        return required(kind, field, message, f"pass {arguments} or set {' or '.join(names)}")


def normalise_endpoint(value: str) -> str:
    """The endpoint without a trailing slash or a trailing ``/openai``.

    Raises `ValueError` unless it is https, or http on a loopback address.
    """
    parts = base_url_parts(value, "endpoint", "https://myresource.openai.azure.com")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("endpoint must use https (plain http is for loopback addresses only)")
    if parts.query or parts.fragment:
        raise ValueError("endpoint must not hold a query; give the API version as api_version")
    path = parts.path.rstrip("/").removesuffix("/openai")
    if "/openai/" in f"{path}/":
        raise ValueError(
            "endpoint must be the resource's base URL: leave out the path from /openai on,"
            " and give the deployment as deployment_id"
        )
    return f"{parts.scheme}://{parts.netloc}{path}"
