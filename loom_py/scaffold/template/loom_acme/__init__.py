"""The models of acme as a provider for loom_py."""

from __future__ import annotations

from typing import Any

from loom_acme.config import AcmeConfig
from loom_acme.provider import AcmeProvider

__all__ = ["AcmeConfig", "AcmeProvider", "create_provider"]


def create_provider(model: str | None = None, **settings: Any) -> AcmeProvider:
    """The ``acme`` provider of the registry; the settings are those of `AcmeProvider`."""
    return AcmeProvider(model, **settings)
