"""`OpenAIClient`: a model of OpenAI's own API as an `LLMProvider`.

The verbs are `WireClient`'s; what is OpenAI's own is here, in `sdk` and in `failures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from loom_py.llm.azure.auth import KeySource, TokenSource
from loom_py.llm.azure.costs import CallCosts
from loom_py.llm.azure.failures import Failures
from loom_py.llm.azure.secrets import Secrets
from loom_py.llm.azure.surfaces import RESPONSES, Route, Surface
from loom_py.llm.azure.wire_client import WireClient
from loom_py.llm.openai.config import OpenAIConfig, ServiceTierSetting
from loom_py.llm.openai.failures import OpenAIFailures
from loom_py.llm.openai.sdk import OpenAISDK
from loom_py.llm.prices import GenAIPrices, PriceSetting, PriceTable

if TYPE_CHECKING:
    import httpx2

__all__ = ["OpenAIClient", "OpenAIWireClient"]

C = TypeVar("C", bound=OpenAIConfig)

CHAT_ROUTE = Route(True, "/chat/completions")
RESPONSES_ROUTE = Route(True, "/responses")


class OpenAIWireClient(WireClient[C]):
    """A model behind a base URL with OpenAI's paths: what `OpenAIClient` and servers like it share."""

    service = "OpenAI"

    def _route(self, surface: Surface) -> Route:
        return RESPONSES_ROUTE if surface.name == RESPONSES.name else CHAT_ROUTE

    def _new_failures(self, secrets: Secrets) -> Failures:
        return OpenAIFailures(self.config, self._profile, self._costs, secrets, self._debug)

    def _always_sent(self, config: C) -> Mapping[str, Any]:
        return {} if config.service_tier is None else {"service_tier": config.service_tier}


class OpenAIClient(OpenAIWireClient[OpenAIConfig]):
    """A model of OpenAI's own API.

    Args:
        model: the model's name, with a snapshot's date or without: ``gpt-4o``, ``gpt-4o-2024-11-20``.
        api_key: the key, or a function or coroutine function that returns it, asked for each call.
        base_url: the API's URL, default ``https://api.openai.com/v1``.
        organization: the organization's id, for keys that belong to several.
        project: the project's id.
        max_tokens: most tokens of a reply, 1 to 128,000, default 4096.
        temperature: 0.0 to 2.0, default 1.0; not sent to reasoning models.
        timeout: seconds for a whole answer, or for each event of a stream, 1 to 600, default 60.
        service_tier: ``"auto"``, ``"default"``, ``"flex"``, ``"priority"`` or ``"scale"``; not sent unless
            it is given.
        prices: USD prices per model name, over the bundled table of OpenAI's list prices.
        genai_prices: whether to ask the package genai-prices (extra ``prices``) for the price of models that
            the bundled list does not have.
        surface: ``"chat"`` or ``"responses"``; ``"auto"``, the default, takes what the model needs.
        fast: whether to use aiohttp and orjson (extra ``fast``); they are used where they are installed,
            unless this is ``False``. ``True`` raises `MissingDependencyError` where they are not.
        http_client: an ``httpx2.Client`` to use for the sync verbs; it is not closed.
        async_http_client: an ``httpx2.AsyncClient`` for the async verbs; it is not closed.
        wire_debug: print every request and answer to standard error with credentials masked, or
            hand that text to a function.

    What no argument gives comes from the environment: ``OPENAI_API_KEY``, ``OPENAI_BASE_URL``,
    ``OPENAI_ORG_ID``, ``OPENAI_PROJECT_ID``, ``LOOM_FAST``.

    Raises `ConfigError` or one of its kin for wrong settings, at once.
    """

    name = "openai"

    def __init__(
        self,
        *,
        model: str | None = None,
        api_key: str | KeySource | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        service_tier: ServiceTierSetting | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        genai_prices: bool | None = None,
        surface: Literal["auto", "chat", "responses"] | None = None,
        fast: bool | None = None,
        http_client: httpx2.Client | None = None,
        async_http_client: httpx2.AsyncClient | None = None,
        wire_debug: bool | Callable[[str], object] = False,
    ) -> None:
        keys = None
        if callable(api_key):
            keys, api_key = TokenSource(api_key, ""), None
        config = OpenAIConfig.resolve(
            {
                "model": model,
                "api_key": api_key,
                "base_url": base_url,
                "organization": organization,
                "project": project,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "timeout": timeout,
                "service_tier": service_tier,
                "prices": prices,
                "genai_prices": genai_prices,
                "surface": surface,
                "fast": fast,
            },
            has_credential=keys is not None,
        )
        super().__init__(
            config,
            OpenAISDK(config, keys),
            keys=keys,
            http_client=http_client,
            async_http_client=async_http_client,
            wire_debug=wire_debug,
        )

    def __repr__(self) -> str:
        config = self.config
        return f"OpenAIClient(model={config.model!r}, base_url={config.base_url!r})"

    def _new_costs(self, config: OpenAIConfig) -> CallCosts:
        second = GenAIPrices("openai") if config.genai_prices else None
        return CallCosts(config, self.name, PriceTable.openai(), second, exact=True)
