"""How the settings of a client are found, checked, and told of: what all its kinds have in common."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from loom_py.errors import BuilderError, ConfigError, Problem
from loom_py.llm.prices import DeploymentType, ModelPrice, PriceOverride

__all__ = [
    "ClientConfig",
    "MaxTokens",
    "ServiceConfig",
    "SurfaceSetting",
    "Temperature",
    "Timeout",
    "bare_token",
    "base_url_parts",
    "is_loopback",
    "is_one_line",
    "required",
]

MaxTokens: TypeAlias = Annotated[int, Field(ge=1, le=128_000)]
"""Tokens of a reply at most."""
Temperature: TypeAlias = Annotated[float, Field(ge=0.0, le=2.0)]
Timeout: TypeAlias = Annotated[float, Field(ge=1.0, le=600.0)]
"""Seconds for a whole answer, and for each event of a stream."""
SurfaceSetting: TypeAlias = Literal["auto", "chat", "responses"]

NUMBERS = frozenset({"max_tokens", "temperature", "timeout"})
"""Settings whose value may be repeated in a message, for it cannot be a secret."""

_BEARER = re.compile(r"\A(?:bearer(?:\s+|\Z))+", re.IGNORECASE)
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


class ServiceConfig(Protocol):
    """What a client asks of its configuration, whichever service it is for."""

    @property
    def target(self) -> str:
        """What is called: the deployment, or the model."""
        ...

    @property
    def address(self) -> str:
        """The URL of the service, without a trailing slash."""
        ...

    @property
    def account(self) -> str | None:
        """Whose quota calls count against, where address and target do not tell."""
        ...

    @property
    def chat_version(self) -> str:
        """The dated API version of chat completions; empty where the API has none."""
        ...

    @property
    def secrets(self) -> tuple[SecretStr | None, ...]:
        """The credentials among the settings."""
        ...

    @property
    def api_key(self) -> SecretStr | None: ...

    @property
    def model_name(self) -> str | None:
        """The model that is meant, where the target's name does not tell."""
        ...

    @property
    def max_tokens(self) -> int | None: ...

    @property
    def temperature(self) -> float | None: ...

    @property
    def timeout(self) -> float: ...

    @property
    def prices(self) -> Mapping[str, ModelPrice | PriceOverride]: ...

    @property
    def deployment_type(self) -> DeploymentType: ...

    @property
    def genai_prices(self) -> bool: ...

    @property
    def surface(self) -> SurfaceSetting: ...

    @property
    def fast(self) -> bool | None: ...

    @property
    def sources(self) -> Mapping[str, str]:
        """Which setting came from an argument or a variable."""
        ...

    @property
    def model_fields_set(self) -> set[str]: ...


class ClientConfig(BaseModel):
    """A frozen configuration that knows the environment, and tells all that is wrong at once.

    ``environment`` are the variables a setting comes from when no argument gives it, first found first
    taken; ``credentials`` the settings of which one is enough; ``kinds`` the errors of single settings,
    `ConfigError` for the others; ``what`` is what the configuration is of.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()
    )

    environment: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    credentials: ClassVar[tuple[str, ...]] = ("api_key",)
    kinds: ClassVar[Mapping[str, type[ConfigError]]] = {}
    what: ClassVar[str] = "the client"

    @classmethod
    def missing(cls, values: Mapping[str, Any], has_credential: bool) -> list[Problem]:
        """The problems of settings that are not there."""
        return []

    @classmethod
    def resolve(cls, settings: Mapping[str, Any], *, has_credential: bool = False) -> Self:
        """The configuration from explicit ``settings`` over the environment.

        ``settings`` holds only what the caller gave; ``None`` and the empty string count as not
        given for everything but an explicit empty setting that is required. ``has_credential`` says that a
        credential object or token provider stands beside the settings.

        Raises the error of the setting for a single problem and a `BuilderError` that lists them all
        for several.
        """
        values, sources = cls._with_environment(settings, has_credential)
        problems = cls.missing(values, has_credential)
        named = {problem.field for problem in problems}
        config = None
        try:
            given = {key: value for key, value in values.items() if key not in named}
            given["sources"] = sources
            config = cls(**given)
        except ValidationError as exc:
            problems += [cls._problem(error) for error in exc.errors() if error["loc"][0] not in named]
        if config is not None and not problems:
            return config
        if len(problems) == 1 and problems[0].error is not None:
            raise problems[0].error
        raise BuilderError(problems, what=cls.what)

    @classmethod
    def stripped(cls, name: str, value: Any) -> Any:
        """A setting; of a key or token without white space and ``Bearer`` around it, so possibly empty."""
        if name not in cls.credentials:
            return value
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(text, str):
            return value  # no credential at all: the model says so
        return text.strip() if name == "api_key" else bare_token(text)

    @classmethod
    def _with_environment(
        cls, settings: Mapping[str, Any], has_credential: bool
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The settings and, for each, whether it was an argument or which variable it came from."""
        credentials = cls.credentials
        values = {key: value for key, value in settings.items() if value is not None}
        values |= {name: cls.stripped(name, values[name]) for name in credentials if name in values}
        sources = dict.fromkeys(values, "argument")
        own_credential = has_credential or any(values.get(name) for name in credentials)
        for key, names in cls.environment.items():
            if own_credential if key in credentials else key in values:
                continue
            if found := next((name for name in names if os.environ.get(name, "").strip()), None):
                values[key] = cls.stripped(key, os.environ[found])
                sources[key] = f"environment ({found})"
        for name in credentials:
            if values.get(name) == "":
                del values[name], sources[name]
        return values, sources

    @classmethod
    def _problem(cls, error: Any) -> Problem:
        """A pydantic error as a problem; the input is left out, it might be a secret."""
        field = ".".join(str(part) for part in error["loc"])
        message = error["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if not message.startswith(field):
            message = f"{field}: {message}"
            if field in NUMBERS:
                message += f", not {error['input']!r}"
        kind = cls.kinds.get(field, ConfigError)
        return Problem(field, message.removeprefix(f"{field}: "), None, kind(message, field=field))


def required(kind: type[ConfigError], field: str, message: str, remedy: str) -> Problem:
    """The problem of a setting that is not there, as an error of ``kind``."""
    return Problem(
        field, message, remedy, kind(message, field=field, hint=f"{remedy[0].upper()}{remedy[1:]}.")
    )


def bare_token(text: str) -> str:
    """A token without the word ``Bearer`` before it and the white space around it."""
    return _BEARER.sub("", text.strip())


def is_one_line(value: SecretStr | None) -> SecretStr | None:
    """``value`` if it can be sent in a header. Raises `ValueError` if it cannot."""
    if value is not None and not _HEADER_SAFE.fullmatch(value.get_secret_value()):
        raise ValueError(
            "must be one line of ASCII characters without spaces:"
            " copy it again, it may hold a line break or a typographic character"
        )
    return value


def base_url_parts(value: str, name: str, example: str) -> SplitResult:
    """The parts of the http(s) URL that the setting ``name`` is.

    Raises `ValueError` for what is no such URL, or holds a user name or password.
    """
    parts = _split(value.strip())
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{name} must be a URL such as {example}")
    if parts.username or parts.password:
        raise ValueError(f"{name} must not hold a user name or password")
    return parts


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
    """Whether ``host`` is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
