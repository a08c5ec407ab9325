"""The settings, validated once and frozen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from loom_py.errors import BuilderError, ConfigError, MissingAuthError, Problem

__all__ = ["AcmeConfig"]

ENVIRONMENT = {"api_key": "ACME_API_KEY", "base_url": "ACME_BASE_URL"}
"""Where a setting comes from when no argument gives it."""


class AcmeConfig(BaseModel):
    """Everything an `AcmeProvider` needs to know; ``sources`` says where each setting came from.

    ``timeout`` is in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default="acme-1", min_length=1)
    base_url: str = Field(default="https://api.acme.example", pattern=r"^https?://\S+$")
    api_key: SecretStr = Field(min_length=1)
    max_tokens: int = Field(default=4096, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    timeout: float = Field(default=60.0, ge=1.0, le=600.0)
    sources: Mapping[str, str] = Field(default_factory=dict, repr=False)

    @classmethod
    def resolve(cls, settings: Mapping[str, Any]) -> AcmeConfig:
        """The configuration from ``settings`` over the environment; ``None`` counts as not given.

        Raises a `ConfigError` for one problem, and a `BuilderError` that lists them all for several.
        """
        values = {name: value for name, value in settings.items() if value is not None}
        sources = dict.fromkeys(values, "argument")
        for name, variable in ENVIRONMENT.items():
            if name not in values and os.environ.get(variable, "").strip():
                values[name] = os.environ[variable].strip()
                sources[name] = f"environment ({variable})"
        try:
            return cls(**values, sources=sources)
        except ValidationError as exc:
            problems = [_problem(error) for error in exc.errors(include_input=False)]
        if len(problems) == 1 and problems[0].error is not None:
            raise problems[0].error
        raise BuilderError(problems, what="the acme provider")


def _problem(error: Any) -> Problem:
    """An error of pydantic as a problem, without the value, which may be secret."""
    field = str(error["loc"][0])
    if field == "api_key" and error["type"] == "missing":
        message, remedy = "an API key is required", "pass api_key= or set ACME_API_KEY"
        return Problem(field, message, remedy, MissingAuthError(message, field=field, hint=remedy))
    message = f"{field}: {error['msg']}"
    return Problem(field, error["msg"], None, ConfigError(message, field=field))
