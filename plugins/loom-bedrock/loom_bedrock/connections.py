"""The boto3 client behind a provider: made at the first call, sends once, can be broken off."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

from botocore.config import Config  # type: ignore[import-untyped]

from loom_bedrock.config import BedrockConfig
from loom_bedrock.credentials import Login
from loom_bedrock.exchange import POOLS, current_exchange
from loom_py.errors import ConfigError

__all__ = ["CONNECT_TIMEOUT", "Connections"]

CONNECT_TIMEOUT = 5.0
"""Seconds for a connection where no option says otherwise."""

CONNECTIONS_KEPT = 100
"""Connections that stay open for further calls; more are opened where they are needed, and closed after."""

_making = threading.Lock()
"""boto3 sessions may be shared, and making clients of one is not safe for threads."""


class Connections:
    """One client for all calls. botocore's own retries are off: to try again is for the layers above."""

    def __init__(self, config: BedrockConfig, login: Login) -> None:
        self._config = config
        self._login = login
        self._client: Any = None
        _everyone.add(self)

    def client(self) -> Any:
        """The client. Making it may ask for credentials over the network, at the first call only."""
        client = self._client
        if client is None:
            with _making:
                client = self._client
                if client is None:
                    client = self._client = self._make()
        return client

    def let_go(self) -> None:
        """Let go of all connections without closing them."""
        self._client = None

    def forget(self) -> None:
        """Make a new client at the next call, with credentials looked up anew."""
        self.close()
        self._login.renew()
        self._client = None

    def close(self) -> None:
        """Close the idle connections. A later call opens new ones."""
        if self._client is not None:
            self._client.close()

    @property
    def known_secrets(self) -> tuple[str, ...]:
        """The credentials in use that must not show, as far as they lie ready."""
        credentials = None if self._client is None else self._login.credentials
        if credentials is None or type(credentials).__name__ != "Credentials":
            return ()  # those that are renewed would go to the network
        return tuple(filter(None, (credentials.secret_key, credentials.token)))

    def _make(self) -> Any:
        config = self._config
        settings = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=None,  # each exchange has its own deadline
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=CONNECTIONS_KEPT,
            tcp_keepalive=True,
            user_agent_extra="loom-bedrock",
        )
        client = self._login.client(
            region_name=config.region,
            endpoint_url=config.endpoint_url,
            config=settings,
        )
        client.meta.events.register("before-call.bedrock-runtime", _add_headers)
        _track(client)
        return client


_everyone: WeakSet[Connections] = WeakSet()


def _forget_parents() -> None:
    """A forked child must not read from its parent's sockets: it would get another's answer."""
    global _making
    _making = threading.Lock()
    for connections in list(_everyone):
        connections.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)


def _add_headers(params: Mapping[str, Any], **_: Any) -> None:
    """Put the headers of the call among those that are signed."""
    exchange = current_exchange()
    if exchange is not None:
        params["headers"].update(exchange.headers)


def _track(client: Any) -> None:
    """Let the client's connections tell whom they serve.

    botocore offers no setting for this: the pools of its HTTP session are replaced. Raises `ConfigError`
    where a future botocore keeps them elsewhere.
    """
    try:
        pools: dict[str, Callable[..., Any]] = client._endpoint.http_session._pool_classes_by_scheme
        known = set(pools)
    except (AttributeError, TypeError) as exc:
        raise ConfigError(
            f"this release of botocore is not supported: {exc}",
            hint="Install the releases of boto3 and botocore that loom-bedrock was tested with.",
        ) from None
    pools.update({scheme: pool for scheme, pool in POOLS.items() if scheme in known})
