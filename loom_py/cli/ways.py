"""The way to a service: straight, or through the proxy that the environment names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from loom_py.errors import ConfigError

__all__ = ["Way", "way_to"]

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Way:
    """What is connected to first.

    Attributes:
        host, port: of the service, or of its proxy. A proxy's name and password are left out.
        is_https: the service is asked by https.
        variable: what names the proxy, such as ``HTTPS_PROXY``; empty where there is none.
    """

    host: str
    port: int
    is_https: bool
    variable: str = ""

    @property
    def kind(self) -> str:
        """Words before the host."""
        return "through the proxy " if self.variable else ""


def way_to(place: SplitResult) -> Way:
    """The way to the service at ``place``. Raises `ConfigError` for a proxy whose URL makes no sense."""
    host, is_https = place.hostname or "", place.scheme == "https"
    straight = Way(host, place.port or _PORTS["https" if is_https else "http"], is_https)
    proxies = getproxies()
    kind = next((each for each in (place.scheme, "all") if proxies.get(each)), None)
    if kind is None or proxy_bypass(host):
        return straight
    variable = _variable(kind)
    try:
        proxy = urlsplit(proxies[kind] if "://" in proxies[kind] else f"http://{proxies[kind]}")
        if not proxy.hostname:
            raise ValueError
        return Way(proxy.hostname, proxy.port or _PORTS.get(proxy.scheme, 80), is_https, variable)
    except ValueError:
        hint = "Write http://HOST:PORT."
        raise ConfigError(f"{variable} is no URL of a proxy", field=variable, hint=hint) from None


def _variable(kind: str) -> str:
    """What the proxy for a kind of URL is set by. Elsewhere than in the environment, the system has it."""
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    return next((each for each in names if os.environ.get(each)), "the system's setting of a proxy")
