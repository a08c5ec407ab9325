"""The settings of an Azure OpenAI client, validated once and frozen."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from loom_py.errors import (
    BuilderError,
    ConfigError,
    InvalidDeploymentError,
    InvalidEndpointError,
    MissingAuthError,
    Problem,
)
from loom_py.llm.prices import DeploymentType, ModelPrice, PriceOverride

__all__ = ["DEFAULT_API_VERSION", "AzureOpenAIConfig", "bare_token"]

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

CREDENTIALS = ("api_key", "entra_token")
_KINDS: dict[str, type[ConfigError]] = {
    "endpoint": InvalidEndpointError,
    "deployment_id": InvalidDeploymentError,
}

_V1_PATH = re.compile(r"/openai/v1(/chat/completions|/responses)?/*\Z")
_BEARER = re.compile(r"\A(?:bearer(?:\s+|\Z))+", re.IGNORECASE)
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


class AzureOpenAIConfig(BaseModel):
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

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()
    )

    endpoint: str
    deployment_id: str
    api_key: SecretStr | None = None
    entra_token: SecretStr | None = None
    api_version: str = Field(default=DEFAULT_API_VERSION, min_length=1)
    model_name: str | None = None
    max_tokens: int = Field(default=4096, ge=1, le=128_000)
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    timeout: float = Field(default=60.0, ge=1.0, le=600.0)
    token_scope: str = "https://cognitiveservices.azure.com/.default"  # noqa: S105 - a scope, not a token
    prices: Mapping[str, ModelPrice | PriceOverride] = Field(default_factory=dict)
    deployment_type: DeploymentType = "global"
    genai_prices: bool = False
    surface: Literal["auto", "chat", "responses"] = "auto"
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

    @field_validator("api_key", "entra_token", mode="before")
    @classmethod
    def _strip_credential(cls, value: Any, info: ValidationInfo) -> Any:
        return _credential(info.field_name or "", value)

    @field_validator("api_key", "entra_token")
    @classmethod
    def _check_credential(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _HEADER_SAFE.fullmatch(value.get_secret_value()):
            raise ValueError(
                "must be one line of ASCII characters without spaces:"
                " copy it again, it may hold a line break or a typographic character"
            )
        return value

    @classmethod
    def resolve(cls, settings: Mapping[str, Any], *, has_credential: bool = False) -> AzureOpenAIConfig:
        """The configuration from explicit ``settings`` over the environment.

        ``settings`` holds only what the caller gave; ``None`` and the empty string count as not
        given for everything but an explicit empty endpoint or deployment. ``has_credential`` says
        that a credential object or token provider stands beside the settings.

        Raises `InvalidEndpointError`, `InvalidDeploymentError`, `MissingAuthError` or `ConfigError`
        for a single problem and a `BuilderError` that lists them all for several.
        """
        values, sources = _with_environment(settings, has_credential)
        problems = _missing(values, has_credential)
        named = {problem.field for problem in problems}
        config = None
        try:
            given = {key: value for key, value in values.items() if key not in named}
            config = cls(**given, sources=sources)
        except ValidationError as exc:
            problems += [_problem(error) for error in exc.errors() if error["loc"][0] not in named]
        if config is not None and not problems:
            return config
        if len(problems) == 1 and problems[0].error is not None:
            raise problems[0].error
        raise BuilderError(problems, what="the Azure OpenAI client")


def bare_token(text: str) -> str:
    """A token without the word ``Bearer`` before it and the white space around it."""
    return _BEARER.sub("", text.strip())


def normalise_endpoint(value: str) -> str:
    """The endpoint without a trailing slash or a trailing ``/openai``.

    Raises `ValueError` unless it is https, or http on a loopback address.
    """
    parts = _split(value.strip())
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("endpoint must be a URL such as https://myresource.openai.azure.com")
    if parts.username or parts.password:
        raise ValueError("endpoint must not hold a user name or password")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
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


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; ``None`` where it has a bad port or illegal characters."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed only when asked for
    except ValueError:
        return None
    return parts


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _with_environment(
    settings: Mapping[str, Any], has_credential: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings and, for each, whether it was an argument or which variable it came from."""
    values = {key: value for key, value in settings.items() if value is not None}
    values |= {name: _credential(name, values[name]) for name in CREDENTIALS if name in values}
    sources = dict.fromkeys(values, "argument")
    own_credential = has_credential or any(values.get(name) for name in CREDENTIALS)
    for key, names in ENVIRONMENT.items():
        if own_credential if key in CREDENTIALS else key in values:
            continue
        if found := next((name for name in names if os.environ.get(name, "").strip()), None):
            values[key] = _credential(key, os.environ[found])
            sources[key] = f"environment ({found})"
    kept = {key: value for key, value in values.items() if key not in CREDENTIALS or value != ""}
    return kept, {key: source for key, source in sources.items() if key in kept}


def _credential(name: str, value: Any) -> Any:
    """A setting; of a key or token without white space and ``Bearer`` around it, so possibly empty."""
    if name not in CREDENTIALS:
        return value
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        return value  # no credential at all: the model says so
    return bare_token(text) if name == "entra_token" else text.strip()


def _missing(values: Mapping[str, Any], has_credential: bool) -> list[Problem]:
    problems = []
    if not str(values.get("endpoint", "")).strip():
        problems.append(_required(InvalidEndpointError, "endpoint", "endpoint is required"))
    if not str(values.get("deployment_id", "")).strip():
        problems.append(_required(InvalidDeploymentError, "deployment_id", "deployment ID is required"))
    if not has_credential and not any(name in values for name in CREDENTIALS):
        message = "either api_key or entra_token must be provided"
        problems.append(_required(MissingAuthError, "api_key", message))
    return problems


def _required(kind: type[ConfigError], field: str, message: str) -> Problem:
    names = ENVIRONMENT[field] + (ENVIRONMENT["entra_token"] if field == "api_key" else ())
    arguments = "api_key=, entra_token= or credential=" if field == "api_key" else f"{field}="
    remedy = f"pass {arguments} or set {' or '.join(names)}"
    return Problem(
        field, message, remedy, kind(message, field=field, hint=f"{remedy[0].upper()}{remedy[1:]}.")
    )


def _problem(error: Any) -> Problem:
    """A pydantic error as a problem; the input is left out, it might be a secret."""
    field = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not message.startswith(field):
        message = f"{field}: {message}"
        if field in {"max_tokens", "temperature", "timeout"}:
            message += f", not {error['input']!r}"
    kind = _KINDS.get(field, ConfigError)
    return Problem(field, message.removeprefix(f"{field}: "), None, kind(message, field=field))
