"""How a server listens, whom it serves and how much it takes on."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from loom_py.errors import ConfigError
from loom_py.serve.keys import ApiKey, check_names

__all__ = ["ServeConfig"]

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, strict=True)]


class ServeConfig(BaseModel):
    """The settings of a server. Times are in seconds, sizes in bytes. Frozen.

    Args:
        host: the address to listen on. One that others can reach needs keys.
        port: 0 takes any that is free.
        keys: who may call, where the keys are not in a file.
        keys_file: a file of keys as `KeyFile` writes it; changes are noticed within a second.
        budget_ledger: an SQLite file or a database URL where the money of keys is counted, so that it
            outlives the process and is shared by workers; without one the sums are in memory.
        shared_state: a Redis URL: workers and machines then share what keys may use a minute.
        shared_prefix: what all keys in Redis begin with.
        cors_origins: origins whose pages may call, such as ``https://chat.example.com``; none by default.
        allowed_hosts: names a request's Host header may have. By default only those of this machine where
            the server listens on loopback without keys, else any.
        max_body: bytes of a request's body.
        max_header: bytes of a request's head.
        max_connections: open connections.
        max_concurrency: chats under way; one more is answered with 503.
        max_sessions: conversations that are kept; the one used longest ago goes first.
        session_memory: bytes of all conversations that are kept; the one used longest ago goes first.
        session_ttl: for how long an unused conversation is kept.
        header_timeout: for a request's head to arrive.
        body_timeout: for a request's body to arrive.
        write_timeout: for a client to take 16 KiB of what it is sent, before it is given up.
        keep_alive: for how long an idle connection stays open.
        request_timeout: for a whole answer, a stream included.
        drain_timeout: for answers under way to finish after SIGTERM.
        drain_delay: how long the server goes on listening after SIGTERM, not ready, so that whoever
            balances load hears of it.
        show_events: whether a caller that asks is told of tools, their arguments and results, policies and
            cost (``X-Loom-Events``); else that header is passed over.
        public_metrics: whether ``/metrics`` is open to all; else it needs a key, where there are keys.

    Raises `ConfigError`, whose ``field`` names the setting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    keys: tuple[ApiKey, ...] = ()
    keys_file: Path | None = None
    budget_ledger: Annotated[str | Path | None, Field(repr=False)] = None  # a URL may hold a password
    shared_state: Annotated[str | None, Field(repr=False)] = None
    shared_prefix: str = "loom_py"
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] | None = None
    max_body: Count = 10 * 1024 * 1024
    max_header: Annotated[int, Field(ge=1024, strict=True)] = 64 * 1024
    max_connections: Count = 2000
    max_concurrency: Count = 500
    max_sessions: Count = 1000
    session_memory: Count = 256 * 1024 * 1024
    session_ttl: Seconds = 3600.0
    header_timeout: Seconds = 10.0
    body_timeout: Seconds = 30.0
    write_timeout: Seconds = 30.0
    keep_alive: Seconds = 75.0
    request_timeout: Seconds = 600.0
    drain_timeout: Seconds = 30.0
    drain_delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    show_events: bool = True
    public_metrics: bool = False

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as exc:
            raise _as_config_error(exc) from None

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if origin != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in ("http", "https"):
                raise ValueError(f"an origin is written as https://host[:port], not {origin!r}")
        return origins

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if not self.needs_keys and not self.is_loopback:
            raise ConfigError(
                f"{self.host!r} can be reached by others, and no key is asked for",
                field="host",
                hint="Make a key with loom serve-key add, or new_key(); or listen on 127.0.0.1.",
            )
        check_names(self.keys)
        return self

    @property
    def needs_keys(self) -> bool:
        """Whether a caller must have a key."""
        return bool(self.keys) or self.keys_file is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str] | None:
        """The names that a Host header may have; ``None`` for any.

        A page on the internet may point its own name at 127.0.0.1 and so reach a server on loopback; its
        requests then bear that name.
        """
        if self.allowed_hosts is not None:
            return frozenset(host.lower() for host in self.allowed_hosts)
        if self.needs_keys or not self.is_loopback:
            return None
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower(), f"[{self.host.lower()}]"})


def _as_config_error(error: ValidationError) -> ConfigError:
    """The first problem as ours, for pydantic's would show the values."""
    first = error.errors(include_url=False, include_input=False, include_context=True)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return cause
    field = ".".join(map(str, first["loc"])) or "config"
    message = str(cause) if isinstance(cause, ValueError) else first["msg"]
    return ConfigError(f"{field}: {message}", field=str(first["loc"][0]) if first["loc"] else None)
