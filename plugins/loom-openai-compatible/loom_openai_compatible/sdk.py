"""The official SDK's clients for a server that may want no key."""

from __future__ import annotations

from typing import Any

from loom_py.llm.openai.sdk import OpenAISDK

__all__ = ["CompatibleSDK"]


class CompatibleSDK(OpenAISDK):
    """As `OpenAISDK`; without a key there is no ``Authorization`` header, and none of the environment's."""

    def _settings(self, *, is_async: bool) -> dict[str, Any]:
        settings = super()._settings(is_async=is_async)
        if settings["api_key"] is None:
            settings |= {"api_key": "", "_enforce_credentials": False}
        return settings

    def _settle(self, client: Any) -> None:
        super()._settle(client)
        if not client.api_key:
            client._validate_headers = _accept  # the SDK wants a credential in every request


def _accept(*_: object) -> None:
    """Whatever headers there are will do."""
