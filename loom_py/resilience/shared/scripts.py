"""The scripts in Redis, and the connection they are sent over."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from loom_py.errors import ConfigError, MissingDependencyError
from loom_py.resilience.breaker import BUCKETS, MAX_SECONDS_OUT, PROBE_SECONDS
from loom_py.resilience.limiter.window import MARGIN, WINDOW
from loom_py.resilience.throttle import FIRST_SECONDS, MAX_SECONDS, ROUNDING

__all__ = ["Scripts", "Unreachable", "check_prefix", "source_of"]

SCRIPTS = ("enter", "leave", "beat", "control")
PARTS = ("common", "breaker", "limits", "budgets", "processes")
"""What every script begins with, in this order."""

CONSTANTS = {
    "BUCKETS": BUCKETS,
    "PROBE_SECONDS": PROBE_SECONDS,
    "MAX_SECONDS_OUT": MAX_SECONDS_OUT,
    "FIRST_PAUSE": FIRST_SECONDS,
    "MAX_PAUSE": MAX_SECONDS,
    "ROUNDING": ROUNDING,
    "WINDOW": WINDOW,
    "MARGIN": MARGIN,
}
"""What the scripts have in common with the policies of one process."""

SCHEMES = ("redis", "rediss", "unix")


class Unreachable(Exception):  # noqa: N818 - it is a state, not a mistake
    """Redis does not answer, or not as it should; the message says why, without a credential.

    ``is_refusal`` says that it did answer: with an error.
    """

    def __init__(self, reason: str, *, is_refusal: bool) -> None:
        super().__init__(reason)
        self.is_refusal = is_refusal


def source_of(script: str) -> str:
    """The Lua source of a script, with all that it needs."""
    folder = files(__package__).joinpath("lua")
    texts = [folder.joinpath(f"{part}.lua").read_text("utf-8") for part in (*PARTS, script)]
    constants = [f"local {name} = {value!r}" for name, value in CONSTANTS.items()]
    return "\n".join([*constants, *texts])


class Scripts:
    """Runs the scripts, one round trip each. It connects when it is first used. Safe for threads.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as the package ``redis`` takes it.
        prefix: what every key begins with, in braces, so that a cluster keeps them in one slot.
        timeout: seconds to connect, and seconds to wait for an answer.
        client: further arguments of ``redis.Redis.from_url``.

    Raises `ConfigError` for a URL that is none, `MissingDependencyError` without the package ``redis``.
    """

    def __init__(self, url: str, *, prefix: str, timeout: float, client: Mapping[str, Any]) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise MissingDependencyError(
                "shared state needs the package redis", hint="pip install 'loom-py[redis]'"
            ) from None
        settings: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),  # a call must not wait twice
            "protocol": 2,
            **client,
        }
        self._client = _connected_to(url, redis, settings)
        self._errors = (redis.RedisError, OSError)
        self._refusal = redis.ResponseError
        self._base = f"{{{prefix}}}:"
        connection = self._client.connection_pool.connection_kwargs
        self._secrets = _secrets(connection)
        self.address = _address(connection)
        self._scripts = {name: self._client.register_script(source_of(name)) for name in SCRIPTS}

    def run(self, script: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Run a script; its answer. Raises `Unreachable`."""
        try:
            reply = self._scripts[script](keys=[self._base], args=[json.dumps(asked)])
            answer: dict[str, Any] = json.loads(reply)
        except self._errors as exc:
            refused = isinstance(exc, self._refusal)
            raise Unreachable(self._reason(exc), is_refusal=refused) from None
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _reason(self, error: BaseException) -> str:
        """What went wrong, in a line that holds no credential."""
        text = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _connected_to(url: Any, redis: Any, settings: Mapping[str, Any]) -> Any:
    scheme, found, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    problem = f"a Redis URL begins with one of {', '.join(f'{each}://' for each in SCHEMES)}"
    if found and scheme in SCHEMES and rest:
        try:
            return redis.Redis.from_url(url, **settings)
        except (ValueError, TypeError):  # its message may hold a part of the URL, and so of the password
            problem = "the Redis URL, or an argument for the client, is not understood"
    raise ConfigError(
        problem,
        field="url",
        hint="Write it as redis://[[user]:password@]host[:port][/db], with what is special in the"
        " password as %xx.",
    )


def _secrets(connection: Mapping[str, Any]) -> tuple[str, ...]:
    found = (connection.get("password"), connection.get("username"))
    return tuple(secret for secret in found if isinstance(secret, str) and len(secret) > 2)


def _address(connection: Mapping[str, Any]) -> str:
    """Where Redis is, without a credential."""
    database = connection.get("db") or 0
    if "path" in connection:
        return f"{connection['path']}#{database}"
    return f"{connection.get('host', 'localhost')}:{connection.get('port', 6379)}/{database}"


def check_prefix(prefix: Any) -> None:
    """Raises `ConfigError` for a prefix that is none."""
    if not isinstance(prefix, str) or not re.fullmatch(r"[^{}\s]{1,100}", prefix):
        raise ConfigError("a prefix is a short text without braces or spaces", field="prefix")
