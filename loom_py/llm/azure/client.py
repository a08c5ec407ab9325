"""`AzureOpenAIClient`: an Azure OpenAI deployment as an `LLMProvider`.

The verbs are `WireClient`'s; what is Azure's own is here, in `sdk` and in `failures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from loom_py._log import get_logger
from loom_py.description import Setting
from loom_py.errors import ConfigError
from loom_py.llm.azure.auth import KeySource, TokenProvider, TokenSource, default_credential
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.azure.costs import CallCosts
from loom_py.llm.azure.failures import AzureFailures, Failures
from loom_py.llm.azure.sdk import AzureSDK
from loom_py.llm.azure.secrets import Secrets
from loom_py.llm.azure.surfaces import Route, Surface, profile_on, route_of
from loom_py.llm.azure.wire_client import WireClient
from loom_py.llm.models import infer_model
from loom_py.llm.prices import DeploymentType, GenAIPrices, PriceSetting, PriceTable
from loom_py.llm.profiles import ModelProfile

if TYPE_CHECKING:
    import httpx2

__all__ = ["AzureOpenAIClient"]

_log = get_logger(provider="azure-openai")


class AzureOpenAIClient(WireClient[AzureOpenAIConfig]):
    """A chat deployment on Azure OpenAI.

    Args:
        endpoint: the resource, ``https://NAME.openai.azure.com``.
        deployment_id: the deployment's own name.
        api_key: the resource's key, or a function that returns it (asked for each call, so that a key
            can be rotated), or a `KeyVaultSecret`; wins over an Entra credential.
        entra_token: a static Entra token; a leading ``Bearer`` is taken off.
        credential: an azure-identity ``TokenCredential``, sync or async; tokens are refreshed.
            ``"default"`` is azure-identity's ``DefaultAzureCredential``.
        token_provider: a function or coroutine function that returns a token.
        api_version: the API's version, default ``2024-10-21``.
        model_name: the model behind the deployment, where its name does not tell.
        max_tokens: most tokens of a reply, 1 to 128,000, default 4096.
        temperature: 0.0 to 2.0, default 1.0; not sent to reasoning models.
        timeout: seconds for a whole answer, or for each event of a stream, 1 to 600, default 60.
        prices: USD prices per deployment or model name, over the bundled table.
        deployment_type: which of Azure's prices holds, ``"global"`` by default; ``"data-zone-eu"``,
            ``"priority"``, ``"batch"``, ``"provisioned"`` and others.
        genai_prices: whether to ask the package genai-prices (extra ``prices``) for the price of
            models that the bundled list does not have.
        surface: ``"chat"`` or ``"responses"``; ``"auto"``, the default, takes what the model needs.
        api: ``"classic"`` or ``"v1"``; ``"auto"``, the default, goes by the endpoint: one that ends in
            ``/openai/v1`` is the v1 API.
        fast: whether to use aiohttp and orjson (extra ``fast``); they are used where they are installed,
            unless this is ``False``. ``True`` raises `MissingDependencyError` where they are not.
        http_client: an ``httpx2.Client`` to use for the sync verbs; it is not closed.
        async_http_client: an ``httpx2.AsyncClient`` for the async verbs; it is not closed.
        wire_debug: print every request and answer to standard error with credentials masked, or
            hand that text to a function.

    Endpoint, deployment, credential and API version come from the environment where no argument
    gives them (``AZURE_OPENAI_ENDPOINT``, ``AZURE_OPENAI_DEPLOYMENT``, ``AZURE_OPENAI_API_KEY``,
    ``AZURE_OPENAI_ENTRA_TOKEN``, ``OPENAI_API_VERSION``, ``LOOM_FAST``). ``OPENAI_API_KEY`` is never read.

    Raises `ConfigError` or one of its kin for wrong settings, at once.
    """

    name = "azure-openai"
    service = "Azure"

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        deployment_id: str | None = None,
        api_key: str | KeySource | None = None,
        entra_token: str | None = None,
        credential: Any = None,
        token_provider: TokenProvider | None = None,
        api_version: str | None = None,
        model_name: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        token_scope: str | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        deployment_type: DeploymentType | None = None,
        genai_prices: bool | None = None,
        surface: Literal["auto", "chat", "responses"] | None = None,
        api: Literal["auto", "classic", "v1"] | None = None,
        fast: bool | None = None,
        http_client: httpx2.Client | None = None,
        async_http_client: httpx2.AsyncClient | None = None,
        wire_debug: bool | Callable[[str], object] = False,
    ) -> None:
        if credential is not None and token_provider is not None:
            raise ConfigError("give credential= or token_provider=, not both", field="credential")
        source = credential if credential is not None else token_provider
        if isinstance(source, str) and source == "default":
            source = default_credential()
        keys = None
        if callable(api_key):
            keys, api_key = TokenSource(api_key, ""), None
        config = AzureOpenAIConfig.resolve(
            {
                "endpoint": endpoint,
                "deployment_id": deployment_id,
                "api_key": api_key,
                "entra_token": entra_token,
                "api_version": api_version,
                "model_name": model_name,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "timeout": timeout,
                "token_scope": token_scope,
                "prices": prices,
                "deployment_type": deployment_type,
                "genai_prices": genai_prices,
                "surface": surface,
                "api": api,
                "fast": fast,
            },
            has_credential=source is not None or keys is not None,
        )
        tokens = None if source is None else TokenSource(source, config.token_scope)
        has_key = config.api_key is not None or keys is not None
        if has_key and (config.entra_token is not None or tokens is not None):
            _log.warning("both_credentials_given", deployment=config.deployment_id, used="api_key")
        super().__init__(
            config,
            AzureSDK(config, tokens, keys),
            tokens=tokens,
            keys=keys,
            http_client=http_client,
            async_http_client=async_http_client,
            wire_debug=wire_debug,
        )

    def __repr__(self) -> str:
        config = self.config
        return (
            f"AzureOpenAIClient(endpoint={config.endpoint!r}, deployment_id={config.deployment_id!r},"
            f" api_version={config.api_version!r})"
        )

    def _route(self, surface: Surface) -> Route:
        return route_of(surface, self.config)

    def _profile_of(self, config: AzureOpenAIConfig) -> ModelProfile:
        return profile_on(config, super()._profile_of(config))

    def _new_failures(self, secrets: Secrets) -> Failures:
        return AzureFailures(self.config, self._profile, self._costs, secrets, self._debug)

    def _new_costs(self, config: AzureOpenAIConfig) -> CallCosts:
        second = GenAIPrices() if config.genai_prices else None
        hint = "name the model with model_name=, or give its price with prices="
        return CallCosts(config, self.name, PriceTable.bundled(), second, hint=hint)

    def _source_of(self, name: str) -> str:
        source = super()._source_of(name)
        return "endpoint" if name == "api" and self.config.is_v1 and source == "default" else source

    def _derived(self) -> list[Setting]:
        config = self.config
        known = config.model_name or infer_model(config.deployment_id)
        return [Setting("model", known or "unknown", "model_name" if config.model_name else "deployment")]
