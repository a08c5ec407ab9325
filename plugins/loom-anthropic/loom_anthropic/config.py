"""The settings of an Anthropic client, validated once and frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from loom_anthropic.profiles import ClaudeModel, claude_model
from loom_py.errors import ConfigError, InvalidEndpointError, MissingAuthError, Problem
from loom_py.llm.azure.settings import (
    ClientConfig,
    Timeout,
    base_url_parts,
    is_loopback,
    is_one_line,
    required,
)
from loom_py.llm.prices import ModelPrice, PriceOverride

__all__ = ["DEFAULT_BASE_URL", "AnthropicConfig", "Thinking"]

DEFAULT_BASE_URL = "https://api.anthropic.com"

LEAST_BUDGET = 1024
"""Tokens a thinking budget has at least (Anthropic's documentation of extended thinking)."""

SHORT_REPLY = 8192
LONG_REPLY = 16_384
"""Most tokens of a reply where nothing is said: the larger for models that think, which counts too."""

Thinking: TypeAlias = int | Literal["adaptive", "off"]
"""A budget in tokens; or ``"adaptive"``: as the model sees fit; or ``"off"``."""

_BETA = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_V1 = re.compile(r"/v1(/messages)?/*\Z")


class AnthropicConfig(ClientConfig):
    """Everything an `AnthropicProvider` needs to know, except its live objects.

    ``max_tokens`` 1 to 300,000; left out, it is 16,384 for models that think unasked and 8,192 for others,
    and a thinking budget comes on top. ``temperature`` 0.0 to 1.0. ``timeout`` 1 to 600 seconds, for a
    whole answer and for each event of a stream. ``thinking`` is a budget of 1,024 tokens or more,
    ``"adaptive"`` or ``"off"``. ``prompt_caching`` is ``False``, ``True`` (kept for 5 minutes), ``"5m"`` or
    ``"1h"``. ``betas`` are values of the header ``anthropic-beta``. ``base_url`` must be https; plain http
    is for loopback addresses. ``prices`` are by model, over the bundled ones.
    """

    environment: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "api_key": ("ANTHROPIC_API_KEY",),
        "auth_token": ("ANTHROPIC_AUTH_TOKEN",),
        "model": ("ANTHROPIC_MODEL",),
        "base_url": ("ANTHROPIC_BASE_URL",),
        "fast": ("LOOM_FAST",),
    }
    credentials: ClassVar[tuple[str, ...]] = ("api_key", "auth_token")
    kinds: ClassVar[Mapping[str, type[ConfigError]]] = {"base_url": InvalidEndpointError}
    what: ClassVar[str] = "the Anthropic client"

    model: str
    api_key: SecretStr | None = None
    auth_token: SecretStr | None = None
    base_url: str = DEFAULT_BASE_URL
    max_tokens: Annotated[int, Field(ge=1, le=300_000)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    timeout: Timeout = 60.0
    thinking: Annotated[Thinking, Field(union_mode="left_to_right")] | None = None
    prompt_caching: bool | Literal["5m", "1h"] = False
    betas: tuple[str, ...] = ()
    prices: Mapping[str, ModelPrice | PriceOverride] = Field(default_factory=dict)
    fast: bool | None = None
    sources: Mapping[str, str] = Field(default_factory=dict, repr=False)

    @property
    def claude(self) -> ClaudeModel:
        """What the model can do."""
        return claude_model(self.model)

    @property
    def secrets(self) -> tuple[SecretStr | None, ...]:
        """The key and the token."""
        return self.api_key, self.auth_token

    @property
    def cache_ttl(self) -> str | None:
        """How long the prompt cache keeps what a call writes; ``None`` where it writes nothing."""
        if self.prompt_caching is False:
            return None
        return self.prompt_caching if isinstance(self.prompt_caching, str) else "5m"

    @property
    def budget(self) -> int | None:
        """The thinking budget in tokens, where one is set."""
        return self.thinking if isinstance(self.thinking, int) else None

    @property
    def reply_limit(self) -> int:
        """The most tokens of a reply, thinking included, where a call does not say it."""
        if self.max_tokens is not None:
            return self.max_tokens
        thinks = self.claude.thinks or self.thinking == "adaptive"
        limit = (self.budget or 0) + (LONG_REPLY if thinks else SHORT_REPLY)
        most = self.claude.profile.max_output
        return limit if most is None else min(limit, most)

    @field_validator("api_key", "auth_token", mode="before")
    @classmethod
    def _strip_credential(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.stripped(info.field_name or "", value)

    @field_validator("api_key", "auth_token")
    @classmethod
    def _check_credential(cls, value: SecretStr | None) -> SecretStr | None:
        return is_one_line(value)

    @field_validator("model")
    @classmethod
    def _check_model(cls, value: str) -> str:
        return value.strip()

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        parts = base_url_parts(value, "base_url", DEFAULT_BASE_URL)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("base_url must use https (plain http is for loopback addresses only)")
        if parts.query or parts.fragment:
            raise ValueError("base_url must not hold a query")
        return f"{parts.scheme}://{parts.netloc}{_V1.sub('', parts.path.rstrip('/'))}"

    @field_validator("thinking", mode="before")
    @classmethod
    def _check_thinking(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in ("adaptive", "off", None):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError('thinking must be a budget in tokens, "adaptive" or "off"')
            if value < LEAST_BUDGET:
                raise ValueError(f"thinking must be a budget of {LEAST_BUDGET} tokens or more, not {value}")
        if value is not None and "model" in info.data:
            _check_against(info.data["model"], value, info.data.get("max_tokens"))
        return value

    @field_validator("betas", mode="before")
    @classmethod
    def _check_betas(cls, value: Any) -> Any:
        names = (value,) if isinstance(value, str) else tuple(value)
        if not all(isinstance(name, str) and _BETA.fullmatch(name) for name in names):
            raise ValueError("betas must be names such as 'context-1m-2025-08-07', without commas")
        return names

    @classmethod
    def missing(cls, values: Mapping[str, Any], has_credential: bool) -> list[Problem]:
        """Model and credential, where they are not there; and two credentials where one was asked for."""
        problems = []
        if not str(values.get("model", "")).strip():
            problems.append(
                required(ConfigError, "model", "model is required", "pass model= or set ANTHROPIC_MODEL")
            )
        if not any(name in values for name in cls.credentials):
            remedy = "pass api_key= or auth_token=, or set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"
            problems.append(required(MissingAuthError, "api_key", "no credential was given", remedy))
        return problems


def _check_against(model: str, thinking: Any, max_tokens: int | None) -> None:
    """Raise `ValueError` where ``model`` cannot think that way, or its replies have no room for it."""
    claude = claude_model(model)
    if isinstance(thinking, int) and "enabled" not in claude.thinking:
        raise ValueError(
            f"thinking: {model} takes no budget; leave it out or use thinking='adaptive',"
            " and say how much with reasoning_effort"
        )
    if thinking == "adaptive" and "adaptive" not in claude.thinking:
        raise ValueError(f"thinking: {model} does not think adaptively; give a budget in tokens")
    if thinking == "off" and claude.off is None:
        raise ValueError(f"thinking: {model} always thinks; use a low reasoning_effort instead")
    limit = max_tokens or claude.profile.max_output
    if isinstance(thinking, int) and limit is not None and thinking >= limit:
        raise ValueError(f"thinking: the budget of {thinking} tokens must be less than max_tokens, {limit}")
