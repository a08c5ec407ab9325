"""The settings of an Ollama provider, validated once and frozen."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from loom_py.errors import BuilderError, ConfigError, Problem
from loom_py.llm.prices import ModelPrice, PriceOverride

__all__ = ["DEFAULT_HOST", "OllamaConfig", "Think"]

DEFAULT_HOST = "http://127.0.0.1:11434"
"""Where Ollama listens unless told otherwise (its FAQ)."""

DEFAULT_PORT = 11434

ENVIRONMENT = {"host": "OLLAMA_HOST", "api_key": "OLLAMA_API_KEY"}
"""Where a setting comes from when no argument gives it: the variables of the official client."""

CLOUD_HOSTS = ("ollama.com", "www.ollama.com", "api.ollama.com")

Think: TypeAlias = bool | Literal["low", "medium", "high"]

_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
_CLOUD_MODEL = re.compile(r"[:-]cloud\Z")


class OllamaConfig(BaseModel):
    """Everything an `OllamaProvider` needs to know.

    ``model`` is a name such as ``llama3.2`` or ``qwen3:8b``; ``host`` a URL, or a host with or without a port
    (11434 where it is left out). ``max_tokens`` is the most tokens of a reply, none by default;
    ``temperature`` is 0.0 to 2.0. ``timeout`` is in seconds, for a whole answer and each piece of a
    stream; loading a model counts. ``context_window`` is in tokens: Ollama cuts longer conversations
    without a word.
    ``keep_alive`` is how long the model stays in memory: seconds, or text such as ``"10m"``. ``think`` is
    whether, or how hard, a thinking model thinks. ``model_options`` are further options of the model
    (``top_k``, ``num_gpu``, …), sent as they are. ``prices`` are USD prices by model name.
    ``sources`` says which setting came from an argument or a variable.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()
    )

    model: str
    host: str = DEFAULT_HOST
    api_key: SecretStr | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    timeout: float = Field(default=120.0, ge=1.0, le=3600.0)
    context_window: int | None = Field(default=None, ge=1)
    keep_alive: float | str | None = None
    think: Think | None = None
    model_options: Mapping[str, Any] = Field(default_factory=dict)
    headers: Mapping[str, str] = Field(default_factory=dict, repr=False)
    prices: Mapping[str, ModelPrice | PriceOverride] = Field(default_factory=dict)
    sources: Mapping[str, str] = Field(default_factory=dict, repr=False)

    @property
    def is_cloud(self) -> bool:
        """Whether the model runs at ollama.com rather than on a machine of yours."""
        host = urlsplit(self.host).hostname or ""
        return host in CLOUD_HOSTS or _CLOUD_MODEL.search(self.model) is not None

    @field_validator("model")
    @classmethod
    def _check_model(cls, value: str) -> str:
        name = value.strip()
        if not name or re.search(r"\s", name):
            raise ValueError("model must be a name such as llama3.2 or qwen3:8b")
        return name

    @field_validator("host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        return normalised_host(value)

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _HEADER_SAFE.fullmatch(value.get_secret_value()):
            raise ValueError("api_key must be one line of ASCII characters without spaces")
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if not all(re.fullmatch(r"[\x20-\x7e]*", text) for text in (*value, *value.values())):
            raise ValueError("headers must be names and values of one line of ASCII characters")
        return value

    @classmethod
    def resolve(cls, settings: Mapping[str, Any]) -> OllamaConfig:
        """The configuration from ``settings`` over the environment; ``None`` counts as not given.

        Raises `ConfigError` for a single problem and a `BuilderError` that lists them all for several.
        """
        values = {name: value for name, value in settings.items() if value is not None}
        sources = dict.fromkeys(values, "argument")
        for name, variable in ENVIRONMENT.items():
            if name not in values and (found := os.environ.get(variable, "").strip()):
                values[name], sources[name] = found, f"environment ({variable})"
        if isinstance(key := values.get("api_key"), str):
            values["api_key"] = key.strip()
        try:
            return cls(**values, sources=sources)
        except ValidationError as exc:
            problems = [_problem(error) for error in exc.errors()]
        if len(problems) == 1 and problems[0].error is not None:
            raise problems[0].error
        raise BuilderError(problems, what="the Ollama provider")


def normalised_host(value: str) -> str:
    """``scheme://host:port`` and a path if there is one, as the official client reads it.

    Raises `ValueError` for what is no address.
    """
    text = value.strip()
    if not text:
        return DEFAULT_HOST
    given_scheme = "://" in text
    try:
        parts = urlsplit(text if given_scheme else f"http://{text}")
        port = parts.port
    except ValueError:
        raise ValueError(_NO_HOST) from None
    if parts.scheme not in {"http", "https"} or re.search(r"[\s\\\x00-\x1f]", text):
        raise ValueError(_NO_HOST)
    if parts.username or parts.password:
        raise ValueError("host must not hold a user name or password; give a key as api_key=")
    if parts.query or parts.fragment:
        raise ValueError("host must not hold a query")
    host = parts.hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what a server listens on
    default = {"http": 80, "https": 443}[parts.scheme] if given_scheme else DEFAULT_PORT
    path = parts.path.rstrip("/")
    if path.endswith("/api"):
        path = path.removesuffix("/api")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port or default}{path}"


_NO_HOST = "host must be an address such as http://127.0.0.1:11434"


def _problem(error: Any) -> Problem:
    """A pydantic error as a problem; the input of a key is left out."""
    field = str(error["loc"][0])
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if error["type"] == "missing":
        message = "model is required"
        remedy = "name one that is pulled, such as 'llama3.2'"
        return Problem(field, message, remedy, ConfigError(message, field=field, hint=remedy))
    if not message.startswith(field):
        message = f"{field}: {message}"
    if field not in {"api_key", "headers"} and error["type"] != "extra_forbidden":
        message += f", not {error['input']!r}"
    return Problem(field, message.removeprefix(f"{field}: "), None, ConfigError(message, field=field))
