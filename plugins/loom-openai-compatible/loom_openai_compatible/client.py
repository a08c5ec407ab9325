"""`OpenAICompatibleClient`: a model behind any server with OpenAI's ``/v1`` API, as an `LLMProvider`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from loom_openai_compatible.config import OpenAICompatibleConfig
from loom_openai_compatible.discovery import only_model
from loom_openai_compatible.failures import CompatibleFailures
from loom_openai_compatible.sdk import CompatibleSDK
from loom_openai_compatible.wire import LENIENT_CHAT
from loom_py._log import get_logger
from loom_py.errors import ConfigError
from loom_py.llm.azure.auth import KeySource, TokenSource
from loom_py.llm.azure.checks import check_call
from loom_py.llm.azure.costs import CallCosts
from loom_py.llm.azure.secrets import Secrets
from loom_py.llm.azure.surfaces import RESPONSES, Surface
from loom_py.llm.openai.client import OpenAIWireClient
from loom_py.llm.prices import PriceSetting, PriceTable
from loom_py.llm.profiles import UNKNOWN_PROFILE, ModelProfile
from loom_py.messages import Message, ToolSpec
from loom_py.options import ChatOptions

if TYPE_CHECKING:
    import httpx2

__all__ = ["OpenAICompatibleClient"]

_log = get_logger(provider="openai-compatible")


class OpenAICompatibleClient(OpenAIWireClient[OpenAICompatibleConfig]):
    """A model behind a server such as vLLM, llama.cpp, LM Studio, LiteLLM or ``loom serve``.

    Args:
        base_url: where its API is, ``http://localhost:8000/v1``; ``/v1`` is added to an address without a
            path. Plain http is accepted for any host.
        model: the name it serves the model by. Without one the server is asked, once, and has to have
            exactly one.
        api_key: its key, or a function or coroutine function that returns it, if it wants one.
        max_tokens: most tokens of a reply, 1 to 128,000; the server's own limit unless it is given.
        temperature: 0.0 to 2.0; the server's own unless it is given.
        timeout: seconds for a whole answer, or for each event of a stream, 1 to 600, default 60.
        prices: USD prices by model name; without one a call's cost is not known.
        profile: what the model can do; without one nothing is refused before it is sent.
        surface: ``"chat"``, the default, or ``"responses"``.
        usage_in_streams: whether to ask for usage at the end of streams; a few servers refuse that.
        organization, project: sent as OpenAI's headers of that name, where they are given.
        service_tier: sent with each request, where it is given.
        fast: whether to use aiohttp and orjson (extra ``fast``); they are used where they are installed.
        http_client: an ``httpx2.Client`` to use for the sync verbs; it is not closed.
        async_http_client: an ``httpx2.AsyncClient`` for the async verbs; it is not closed.
        wire_debug: print every request and answer to standard error with credentials masked, or
            hand that text to a function.

    ``OPENAI_COMPATIBLE_BASE_URL``, ``OPENAI_COMPATIBLE_MODEL`` and ``OPENAI_COMPATIBLE_API_KEY`` stand in for
    what is not given. ``OPENAI_API_KEY`` and the SDK's other variables are never read: they are for OpenAI.

    Raises `ConfigError` or one of its kin for wrong settings, at once.
    """

    name = "openai-compatible"
    service = "the server"
    surfaces: ClassVar[Mapping[str, Surface]] = {"chat": LENIENT_CHAT, "responses": RESPONSES}

    def __init__(
        self,
        *,
        base_url: str | None = None,
        model: str | None = None,
        api_key: str | KeySource | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        profile: ModelProfile | None = None,
        surface: Literal["chat", "responses"] | None = None,
        usage_in_streams: bool | None = None,
        organization: str | None = None,
        project: str | None = None,
        service_tier: str | None = None,
        fast: bool | None = None,
        http_client: httpx2.Client | None = None,
        async_http_client: httpx2.AsyncClient | None = None,
        wire_debug: bool | Callable[[str], object] = False,
    ) -> None:
        keys = None
        if callable(api_key):
            keys, api_key = TokenSource(api_key, ""), None
        settings: dict[str, Any] = {
            "base_url": base_url,
            "model": model,
            "api_key": api_key,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "timeout": timeout,
            "prices": prices,
            "surface": surface,
            "usage_in_streams": usage_in_streams,
            "organization": organization,
            "project": project,
            "service_tier": service_tier,
            "fast": fast,
        }
        config = _resolved(settings, keys, http_client)
        self._given_profile = profile
        if (keys is not None or config.api_key is not None) and config.sends_key_in_the_clear:
            _log.warning(
                "key_over_plain_http",
                base_url=config.base_url,
                hint="whoever is on the network can read the key: use https",
            )
        super().__init__(
            config,
            CompatibleSDK(config, keys),
            keys=keys,
            http_client=http_client,
            async_http_client=async_http_client,
            wire_debug=wire_debug,
        )

    def __repr__(self) -> str:
        config = self.config
        return f"OpenAICompatibleClient(base_url={config.base_url!r}, model={config.model!r})"

    def _profile_of(self, config: OpenAICompatibleConfig) -> ModelProfile:
        """What was said of the model, else nothing: its name tells little of what a server makes of it."""
        return self._given_profile or replace(UNKNOWN_PROFILE, max_tokens_parameter="max_tokens")

    def _check(self, messages: Sequence[Message], tools: Sequence[ToolSpec], settings: ChatOptions) -> None:
        check_call(messages, tools, settings, self._given_profile or UNKNOWN_PROFILE, self.model)

    def _new_costs(self, config: OpenAICompatibleConfig) -> CallCosts:
        return CallCosts(config, self.name, PriceTable(), exact=True, warns=bool(config.prices))

    def _new_failures(self, secrets: Secrets) -> CompatibleFailures:
        return CompatibleFailures(self.config, self._profile, self._costs, secrets, self._debug)


def _resolved(settings: dict[str, Any], keys: TokenSource | None, http_client: Any) -> OpenAICompatibleConfig:
    """The configuration; a model that nobody named is asked of the server, where all else is right."""
    resolve = OpenAICompatibleConfig.resolve
    try:
        return resolve(settings, has_credential=keys is not None)
    except ConfigError as error:
        if error.field != "model" or settings["model"] is not None:
            raise
    config = resolve({**settings, "model": "unknown"}, has_credential=keys is not None)
    key = None if config.api_key is None else config.api_key.get_secret_value()
    if keys is not None:
        key = keys.token()
    model = only_model(config.base_url, key, http_client)
    sources = {**config.sources, "model": "the server"}
    return config.model_copy(update={"model": model, "sources": sources})
