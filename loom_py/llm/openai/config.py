"""The settings of a client of OpenAI's own API, validated once and frozen."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from loom_py.errors import ConfigError, InvalidEndpointError, MissingAuthError, Problem
from loom_py.llm.azure.settings import (
    ClientConfig,
    MaxTokens,
    SurfaceSetting,
    Temperature,
    Timeout,
    base_url_parts,
    is_loopback,
    is_one_line,
    required,
)
from loom_py.llm.prices import DeploymentType, ModelPrice, PriceOverride

__all__ = ["DEFAULT_BASE_URL", "OpenAIConfig", "ServiceTierSetting", "normalise_base_url"]

DEFAULT_BASE_URL = "https://api.openai.com/v1"
"""OpenAI's API (its API reference)."""

ServiceTierSetting: TypeAlias = Literal["auto", "default", "flex", "priority", "scale"]
"""How calls are served, and billed (OpenAI's API reference, ``service_tier``)."""

ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "api_key": ("OPENAI_API_KEY",),
    "base_url": ("OPENAI_BASE_URL",),
    "organization": ("OPENAI_ORG_ID",),
    "project": ("OPENAI_PROJECT_ID",),
    "fast": ("LOOM_FAST",),
}
"""Where a setting comes from when no argument gives it; the official SDK's own variables."""

LONG_KEY = 32
"""Characters from which a key cannot be guessed; OpenAI's have more than 50."""

_OPERATION = re.compile(r"/(chat/completions|responses|models)\Z")
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


class OpenAIConfig(ClientConfig):
    """Everything an `OpenAIClient` needs to know, except its live objects.

    ``model`` is a model's name, with its snapshot's date or without (``gpt-4o-2024-11-20``). ``max_tokens``
    1 to 128,000 tokens; ``temperature`` 0.0 to 2.0; ``timeout`` 1 to 600 seconds, for a whole answer and for
    each event of a stream. ``base_url`` must be https; plain http is accepted for loopback addresses only.

    ``organization`` and ``project`` are sent with each request. ``service_tier`` is asked for in each; what
    counts for the price is the one that an answer reports. ``prices`` overrides the bundled table of OpenAI's
    list prices, by model, and ``genai_prices`` asks the package genai-prices (extra ``prices``) for models it
    does not have. ``surface`` is chat completions or responses, ``auto`` what the model needs. ``fast`` is
    whether to use aiohttp and orjson (extra ``fast``). ``sources`` says where each setting came from.
    """

    environment: ClassVar[Mapping[str, tuple[str, ...]]] = ENVIRONMENT
    kinds: ClassVar[Mapping[str, type[ConfigError]]] = {"base_url": InvalidEndpointError}
    what: ClassVar[str] = "the OpenAI client"
    insecure_hosts: ClassVar[bool] = False
    """Whether plain http is accepted for any host."""
    example: ClassVar[str] = DEFAULT_BASE_URL
    """A base URL, for messages."""

    model: str
    api_key: SecretStr | None = None
    base_url: str = DEFAULT_BASE_URL
    organization: str | None = None
    project: str | None = None
    max_tokens: MaxTokens | None = 4096
    temperature: Temperature | None = 1.0
    timeout: Timeout = 60.0
    service_tier: ServiceTierSetting | None = None
    prices: Mapping[str, ModelPrice | PriceOverride] = Field(default_factory=dict)
    genai_prices: bool = False
    surface: SurfaceSetting = "auto"
    fast: bool | None = None
    sources: Mapping[str, str] = Field(default_factory=dict, repr=False)

    @property
    def target(self) -> str:
        """What is called: the model."""
        return self.model

    @property
    def address(self) -> str:
        """The base URL."""
        return self.base_url

    @property
    def chat_version(self) -> str:
        """Empty: the API has no dated versions."""
        return ""

    @property
    def secrets(self) -> tuple[SecretStr | None, ...]:
        """The key."""
        return (self.api_key,)

    @property
    def account(self) -> str | None:
        """Whose quota calls count against: a digest of organization, project and key; ``None`` without any.

        A key that is short enough to be guessed by its digest does not go into it.
        """
        key = "" if self.api_key is None else self.api_key.get_secret_value()
        parts = [self.organization or "", self.project or "", key if len(key) >= LONG_KEY else ""]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12] if any(parts) else None

    @property
    def model_name(self) -> str | None:
        """``None``: what is called is the model."""
        return None

    @property
    def deployment_type(self) -> DeploymentType:
        """The market that its prices are listed in."""
        return "global"

    @field_validator("model")
    @classmethod
    def _check_model(cls, value: str) -> str:
        if value.strip().startswith("sk-"):
            raise ValueError("model looks like an API key: give the key as api_key=")
        return value.strip()

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        return normalise_base_url(value, insecure_hosts=cls.insecure_hosts, example=cls.example)

    @field_validator("api_key", mode="before")
    @classmethod
    def _strip_key(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.stripped(info.field_name or "", value)

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        return is_one_line(value)

    @field_validator("organization", "project")
    @classmethod
    def _check_id(cls, value: str | None, info: ValidationInfo) -> str | None:
        text = (value or "").strip()
        if text and not _HEADER_SAFE.fullmatch(text):
            raise ValueError(f"{info.field_name} must be an id: one line of ASCII characters without spaces")
        return text or None

    @classmethod
    def missing(cls, values: Mapping[str, Any], has_credential: bool) -> list[Problem]:
        """Model and key, those that are not there."""
        problems = []
        if not str(values.get("model", "")).strip():
            remedy = "pass model=, such as 'gpt-4o'"
            problems.append(required(ConfigError, "model", "model is required", remedy))
        if not has_credential and "api_key" not in values:
            remedy = "pass api_key= or set OPENAI_API_KEY"
            problems.append(required(MissingAuthError, "api_key", "api_key must be provided", remedy))
        return problems


def normalise_base_url(value: str, *, insecure_hosts: bool = False, example: str = DEFAULT_BASE_URL) -> str:
    """The base URL without a trailing slash or operation; ``/v1`` is added where it has no path at all.

    Raises `ValueError` unless it is https, or http on a loopback address or with ``insecure_hosts``.
    """
    parts = base_url_parts(value, "base_url", example)
    if parts.scheme == "http" and not insecure_hosts and not is_loopback(parts.hostname or ""):
        raise ValueError("base_url must use https (plain http is for loopback addresses only)")
    if parts.query or parts.fragment:
        raise ValueError("base_url must not hold a query or a fragment")
    path = _OPERATION.sub("", parts.path.rstrip("/")).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"
