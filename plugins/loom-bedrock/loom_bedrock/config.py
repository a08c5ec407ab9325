"""The settings of a Bedrock provider, validated once and frozen."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from loom_bedrock.models import parse_model_id
from loom_py.errors import (
    BuilderError,
    ConfigError,
    InvalidDeploymentError,
    InvalidEndpointError,
    LoomError,
    MissingAuthError,
    Problem,
)
from loom_py.llm.prices import ModelPrice, PriceOverride

__all__ = ["BedrockConfig", "Guardrail"]

REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL")
"""Where AWS's own clients take the endpoint from, the more special first."""

SECRETS = ("access_key_id", "secret_access_key", "session_token")
_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
_MODEL = re.compile(r"[\x21-\x7e]{1,2048}")
_KINDS: dict[str, type[ConfigError]] = {
    "endpoint_url": InvalidEndpointError,
    "model": InvalidDeploymentError,
    "access_key_id": MissingAuthError,
    "secret_access_key": MissingAuthError,
}


class Guardrail(BaseModel):
    """A guardrail of Amazon Bedrock that is applied to every call.

    ``id`` is its id or ARN, ``version`` a number or ``DRAFT``. With ``trace`` (``"enabled"`` unless
    said otherwise) the answer says what the guardrail found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, max_length=2048)
    version: str = Field(default="DRAFT", pattern=r"^([1-9][0-9]{0,7}|DRAFT)$")
    trace: Literal["enabled", "disabled", "enabled_full"] = "enabled"

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, value: Any) -> Any:
        """``"abc123:2"`` is guardrail abc123 in version 2."""
        if not isinstance(value, str):
            return value
        id_, colon, version = value.rpartition(":")
        is_versioned = bool(colon) and re.fullmatch(r"[1-9][0-9]{0,7}|DRAFT", version) is not None
        return {"id": id_, "version": version} if is_versioned else {"id": value}


class BedrockConfig(BaseModel):
    """Everything a `BedrockProvider` needs to know, except its live objects.

    ``model`` is a model id, an inference profile id (``us.anthropic.claude-…``) or an ARN; where an ARN
    does not tell the model, ``model_name`` may, for its profile and price. ``max_tokens`` at least 1
    token, ``None`` for 8,192 at most; ``temperature`` 0.0 to 1.0; ``timeout`` more than 0 up to 3600
    seconds, for a whole answer and for each event of a stream. ``endpoint_url`` must be https; plain http
    is for loopback addresses. ``prompt_cache`` sets cache points in every call.

    ``extra_fields`` go into every request: members of Converse by their names (``performanceConfig``),
    all else as ``additionalModelRequestFields``. ``sources`` says where a setting came from.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()
    )

    model: str
    region: str
    model_name: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=1.0)
    timeout: float = Field(default=60.0, gt=0.0, le=3600.0)
    prices: Mapping[str, ModelPrice | PriceOverride] = Field(default_factory=dict)
    guardrail: Guardrail | None = None
    prompt_cache: bool = False
    extra_fields: Mapping[str, Any] = Field(default_factory=dict)
    sources: Mapping[str, str] = Field(default_factory=dict, repr=False)

    @field_validator("model")
    @classmethod
    def _check_model(cls, value: str) -> str:
        if not _MODEL.fullmatch(value.strip()):
            raise ValueError("model must be one line of at most 2048 ASCII characters without spaces")
        return value.strip()

    @field_validator("region")
    @classmethod
    def _check_region(cls, value: str) -> str:
        if not _REGION.fullmatch(value.strip()):
            raise ValueError(f"region must be the name of a region such as us-east-1, not {value!r}")
        return value.strip()

    @field_validator("endpoint_url")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        return None if value is None else _endpoint(value)

    @property
    def named_model(self) -> str:
        """The id by which the model is looked up: what the user says it is, else ``model``."""
        return self.model_name or self.model

    @property
    def endpoint(self) -> str:
        """The URL that is called: the one given, else that of the region."""
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return self.endpoint_url or f"https://bedrock-runtime.{self.region}.{suffix}"

    @classmethod
    def resolve(
        cls,
        settings: Mapping[str, Any],
        *,
        region: str | None = None,
        has_session: bool = False,
        problems: Iterable[Problem] = (),
    ) -> BedrockConfig:
        """The configuration from explicit ``settings``, the environment and the AWS configuration.

        ``region`` is what the session or the AWS profile says, ``has_session`` that a session stands
        beside the settings, and ``problems`` what was found wrong with either.

        Raises the error of a single problem and a `BuilderError` that lists them all for several.
        """
        values, sources = _with_environment(settings, region, has_session)
        found = [*problems, *_missing(values), *_conflicts(values, has_session)]
        named = {problem.field for problem in found}
        config = None
        try:
            config = cls(
                **{key: value for key, value in values.items() if key not in named},
                sources=sources,
            )
        except ValidationError as exc:
            found += [_problem(error) for error in exc.errors() if error["loc"][0] not in named]
        if config is not None and not found:
            return config
        raise _error_of(found)


def _error_of(problems: list[Problem]) -> LoomError:
    if len(problems) == 1 and problems[0].error is not None:
        return problems[0].error
    return BuilderError(problems, what="the Bedrock provider")


def problem(
    kind: type[ConfigError], field: str, message: str, remedy: str, *, hint: str | None = None
) -> Problem:
    """A problem with its error; the ``remedy`` becomes the error's hint."""
    said = hint or f"{remedy[0].upper()}{remedy[1:]}."
    return Problem(field, message, remedy, kind(message, field=field, hint=said))


def _with_environment(
    settings: Mapping[str, Any], region: str | None, has_session: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings and, for each, whether it was an argument or where else it came from."""
    values = {key: value for key, value in settings.items() if value is not None and value != ""}
    for name in SECRETS:
        if isinstance(values.get(name), str):
            values[name] = values[name].strip()
    sources = dict.fromkeys(values, "argument")
    if not str(values.get("region", "")).strip():
        home, source = _region(str(values.get("model", "")), region, has_session)
        values.pop("region", None)
        if home:
            values["region"], sources["region"] = home, source
    if "endpoint_url" not in values and not has_session:
        is_ignored = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
        names = () if is_ignored else ENDPOINT_VARIABLES
        variable = next((name for name in names if os.environ.get(name)), None)
        if variable is not None:
            values["endpoint_url"] = os.environ[variable]
            sources["endpoint_url"] = f"environment ({variable})"
    return values, sources


def _region(model: str, configured: str | None, has_session: bool) -> tuple[str | None, str]:
    """The region where none is given, and where it comes from."""
    if arn := parse_model_id(model).region:
        return arn, "model"
    if has_session and configured:
        return configured, "session"
    for name in REGION_VARIABLES:
        if os.environ.get(name, "").strip():
            return os.environ[name], f"environment ({name})"
    return configured, "AWS configuration"


def _missing(values: Mapping[str, Any]) -> list[Problem]:
    found = []
    if not str(values.get("model", "")).strip():
        remedy = "pass model=, a model id or inference profile id such as us.amazon.nova-lite-v1:0"
        found.append(problem(InvalidDeploymentError, "model", "model is required", remedy))
    if "region" not in values:
        remedy = f"pass region= or set {' or '.join(REGION_VARIABLES)}"
        found.append(problem(ConfigError, "region", "region is required", remedy))
    return found


def _conflicts(values: Mapping[str, Any], has_session: bool) -> list[Problem]:
    found = []
    has_id, has_key = (bool(_text(values.get(name))) for name in ("access_key_id", "secret_access_key"))
    if has_id != has_key:
        name, other = ("secret_access_key", "access_key_id")[:: 1 if has_id else -1]
        message = f"{other} is given without {name}"
        found.append(problem(MissingAuthError, name, message, f"pass {name}= too, or leave both out"))
    given = [name for name in ("profile", *SECRETS) if values.get(name) is not None]
    if has_session and given:
        message = f"session is given together with {', '.join(given)}"
        remedy = "give either: a session has its credentials already"
        found.append(problem(ConfigError, "session", message, remedy))
    elif "profile" in values and has_id:
        message = "profile is given together with access_key_id"
        found.append(problem(ConfigError, "profile", message, "give a profile or keys, not both"))
    return found


def _text(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")


def _problem(error: Any) -> Problem:
    """A pydantic error as a problem; the input is left out where it might be a secret."""
    field = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if error["type"] == "extra_forbidden":
        message = "there is no such setting"
    if not message.startswith(field):
        message = f"{field}: {message}"
        if field in {"max_tokens", "temperature", "timeout"}:
            message += f", not {error['input']!r}"
    kind = _KINDS.get(field, ConfigError)
    return Problem(field, message.removeprefix(f"{field}: "), None, kind(message, field=field))


def _endpoint(value: str) -> str:
    """The URL without a trailing slash. Raises `ValueError` unless it is https, or http on loopback."""
    text = value.strip()
    try:
        parts = urlsplit(text)
        _ = parts.port  # parsed only when asked for
    except ValueError:
        parts = urlsplit("")
    if re.search(r"[\s\\]", text) or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("endpoint_url must be a URL such as https://bedrock-runtime.us-east-1.amazonaws.com")
    if parts.username or parts.password:
        raise ValueError("endpoint_url must not hold a user name or password")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("endpoint_url must use https (plain http is for loopback addresses only)")
    if parts.query or parts.fragment:
        raise ValueError("endpoint_url must not hold a query")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
