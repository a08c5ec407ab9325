"""`AzureOpenAIClient`: an Azure OpenAI deployment as an `LLMProvider`.

The SDK and its transport are behind `connections`; what they raise is translated in `failures`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr

from loom_py._closing import Closing
from loom_py._json import codec
from loom_py._log import get_logger
from loom_py.description import Description, Setting, masked
from loom_py.errors import (
    ConfigError,
    InvalidRequestError,
    LoomError,
)
from loom_py.events import FinalResponse, StreamEvent, UsageEvent
from loom_py.llm.azure.attempts import Attempts, Knowledge
from loom_py.llm.azure.auth import KeySource, TokenProvider, TokenSource, default_credential
from loom_py.llm.azure.checks import check_call
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.azure.connections import (
    CONNECT_TIMEOUT,
    Answer,
    AsyncPieces,
    Connections,
    HttpRequest,
    Patience,
    Pieces,
)
from loom_py.llm.azure.costs import DeploymentCosts
from loom_py.llm.azure.debug import WireDebug
from loom_py.llm.azure.failures import Failures
from loom_py.llm.azure.headers import facts, header
from loom_py.llm.azure.limits import most_output
from loom_py.llm.azure.schema import EncodedTools, encode_tools
from loom_py.llm.azure.secrets import Secrets
from loom_py.llm.azure.stream import StreamDecoder
from loom_py.llm.azure.surfaces import Surface, choose_surface, profile_on, route_of
from loom_py.llm.azure.transports import check_fast
from loom_py.llm.azure.wire import decode_json, encode_body, model_of
from loom_py.llm.costs import Cost
from loom_py.llm.models import infer_model
from loom_py.llm.prices import DeploymentType, PriceSetting
from loom_py.llm.profiles import ModelProfile, profile_for
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions

if TYPE_CHECKING:
    import httpx2

__all__ = ["AzureOpenAIClient"]

_log = get_logger(provider="azure-openai")


@dataclass(frozen=True, slots=True)
class _Request:
    """A request as it is sent, by which surface, and the body it was written from."""

    http: HttpRequest
    surface: Surface
    body: Mapping[str, Any]


class _Call:
    """Everything that belongs to one call, and to no other: what is asked, and the tries so far."""

    __slots__ = (
        "_client",
        "attempts",
        "end",
        "messages",
        "request",
        "settings",
        "started",
        "stream",
        "tools",
    )

    def __init__(
        self,
        client: AzureOpenAIClient,
        messages: Sequence[Message],
        tools: EncodedTools,
        settings: ChatOptions,
        stream: bool,
        attempts: Attempts,
    ) -> None:
        self.started = time.perf_counter()
        self._client = client
        self.messages = messages
        self.tools = tools
        self.settings = settings
        total = settings.total_timeout
        self.end = None if total is None else time.monotonic() + total
        self.stream = stream
        self.attempts = attempts
        self.request = client._write(self)

    def decoder(self) -> StreamDecoder:
        """What reads the stream of the present request."""
        return self.request.surface.stream_decoder(self.tools, self._client._codec.loads)

    def correct(self, failure: LoomError, *, may_repeat: bool = True) -> None:
        """Write the request anew, put right by what ``failure`` taught; or raise it."""
        if not (may_repeat and self.attempts.again(failure, self.request.body)):
            raise self.attempts.failure(failure)
        with suppress(ConfigError):  # the other surface may not have what is asked for
            self.request = self._client._write(self)
            return
        raise self.attempts.failure(failure)


class AzureOpenAIClient(Closing, BaseProvider):
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
        self.config = AzureOpenAIConfig.resolve(
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
        config = self.config
        if config.fast:
            check_fast()
        self._codec = codec(config.fast is not False)
        self._tokens = None if source is None else TokenSource(source, config.token_scope)
        has_key = config.api_key is not None or keys is not None
        if has_key and (config.entra_token is not None or self._tokens is not None):
            _log.warning("both_credentials_given", deployment=config.deployment_id, used="api_key")
        self.model = config.deployment_id
        self.endpoint = config.endpoint
        self.timeout = config.timeout
        known = config.model_name or infer_model(config.deployment_id)
        self._profile = profile_on(config, profile_for(config.model_name or config.deployment_id))
        send_temperature = known is not None or "temperature" in config.model_fields_set
        self._defaults = ChatOptions(
            max_tokens=config.max_tokens,
            temperature=config.temperature if send_temperature else None,
            timeout=config.timeout,
        )
        self._costs = DeploymentCosts(config)
        secrets = Secrets(config, self._tokens, keys)
        self._debug = WireDebug.of(wire_debug, secrets.mask)
        self._failures = Failures(config, self._profile, self._costs, secrets, self._debug)
        self._keys = keys
        self._knowledge = Knowledge(config.deployment_id)
        self._connections = Connections(
            config, self._tokens, keys, http_client, async_http_client, self._debug
        )
        self._encoded: tuple[object, EncodedTools] = ((), encode_tools(()))

    def __repr__(self) -> str:
        config = self.config
        return (
            f"AzureOpenAIClient(endpoint={config.endpoint!r}, deployment_id={config.deployment_id!r},"
            f" api_version={config.api_version!r})"
        )

    @property
    def profile(self) -> ModelProfile:
        """What the model can do, as far as its name or ``model_name`` tells."""
        return self._profile

    def output_limit(self, options: ChatOptions | None = None) -> int | None:
        """The most tokens the reply to a call with ``options`` can have, all of ``n`` choices together.

        Where the request sets no limit, because ``extra_body`` took it out or the deployment refuses it, that
        is the model's own; ``None`` where that is not known either.
        """
        settings = self._defaults.merged(options)
        return most_output(settings, self._knowledge.lessons, self.config, self._profile)

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        """The most a call of at most so many tokens can cost, in USD, whatever Azure reports of it.

        Cached input, cache writes, the long context and the tier are taken at their dearest. Priced as
        the deployment's model, or as the model that served it last, whichever is dearer. `Cost.unknown`
        where the model or its price is not known, as before the answers of a model router.
        """
        asked = None if options is None else options.extra_body.get("service_tier")
        return self._costs.most(input_tokens, output_tokens, asked if isinstance(asked, str) else None)

    def describe(self) -> Description:
        """Every resolved setting and where it came from, secrets masked."""
        config = self.config
        settings = []
        for name in type(config).model_fields:
            value = getattr(config, name)
            if name == "sources" or (name == "prices" and not value):
                continue
            if name == "api_key" and self._keys is not None:
                continue
            if isinstance(value, SecretStr):
                value = masked(value.get_secret_value())
            source = config.sources.get(name, "default")
            if name == "api" and config.is_v1 and source == "default":
                source = "endpoint"
            settings.append(Setting(name, value, source))
        for name, tokens in (("credential", self._tokens), ("api_key", self._keys)):
            if tokens is not None:
                settings.append(Setting(name, tokens.described, "argument"))
        known = config.model_name or infer_model(config.deployment_id)
        settings.append(
            Setting("model", known or "unknown", "model_name" if config.model_name else "deployment")
        )
        lessons = self._knowledge.lessons
        if not lessons.is_empty:
            settings.append(Setting("learned", str(lessons), "answers of Azure"))
        return Description(settings)

    # ── the four verbs ───────────────────────────────────────────────────────────────────

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """One reply from the deployment. Raises errors of `loom_py.errors` only."""
        call = self._begin(messages, tools, options)
        while True:
            try:
                answer = self._connections.post(call.request.http)
            except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
                failure = self._failures.of(exc, call.request.http)
            else:
                return self._decode(call, answer)
            call.correct(failure)

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """`chat`, async."""
        call = self._begin(messages, tools, options)
        while True:
            try:
                answer = await self._connections.apost(call.request.http)
            except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
                failure = self._failures.of(exc, call.request.http)
            else:
                return self._decode(call, answer)
            call.correct(failure)

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        """One reply as events; the last carries the response. Closing it early hangs up."""
        call = self._begin(messages, tools, options, stream=True)
        while True:
            answer: httpx2.Response | None = None
            failure: LoomError | None = None
            decoder = call.decoder()
            try:
                answer = self._connections.open(call.request.http)
                patience = Patience(call.request.http.timeout, call.end)
                self._debug.answer(answer.status_code, answer.headers, b"")
                for data in Pieces(answer, patience):
                    self._debug.data(data)
                    yield from decoder.feed(data)
                    patience.check(decoder.payloads)
            except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
                failure = self._failures.of_stream(exc, call.request.http, decoder, answer)
            finally:
                if answer is not None:
                    answer.close()
            if failure is None:
                yield from self._last_events(call, decoder, answer)
                return
            call.correct(failure, may_repeat=answer is None)

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """`stream_chat`, async."""
        call = self._begin(messages, tools, options, stream=True)
        while True:
            answer: httpx2.Response | None = None
            failure: LoomError | None = None
            decoder = call.decoder()
            try:
                answer = await self._connections.aopen(call.request.http)
                patience = Patience(call.request.http.timeout, call.end)
                self._debug.answer(answer.status_code, answer.headers, b"")
                async for data in AsyncPieces(answer, patience):
                    self._debug.data(data)
                    for event in decoder.feed(data):
                        yield event
                    patience.check(decoder.payloads)
            except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
                failure = self._failures.of_stream(exc, call.request.http, decoder, answer)
            finally:
                if answer is not None:
                    await answer.aclose()
            if failure is None:
                for event in self._last_events(call, decoder, answer):
                    yield event
                return
            call.correct(failure, may_repeat=answer is None)

    # ── one call ─────────────────────────────────────────────────────────────────────────

    def _begin(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        *,
        stream: bool = False,
    ) -> _Call:
        settings = self._defaults.merged(options)
        check_call(messages, tools, settings, self._profile, self.model)
        attempts = Attempts(
            self._knowledge,
            self._knowledge.lessons,
            has_renewable_token=(self._keys or self._tokens) is not None and self.config.api_key is None,
            may_switch=self.config.surface == "auto",
        )
        return _Call(self, messages, self._encode_tools(tools), settings, stream, attempts)

    def _write(self, call: _Call) -> _Request:
        """The request of a call, by what its deployment has taught so far."""
        lessons, config = call.attempts.lessons, self.config
        has_tools = bool(call.tools.definitions)
        profile = lessons.profile(self._profile)
        surface = choose_surface(config, profile, call.settings, has_tools=has_tools)
        body = surface.encode(
            call.messages,
            call.tools,
            call.settings,
            config=config,
            profile=profile,
            stream=call.stream,
            carry_reasoning=lessons.carry_reasoning,
        )
        body = lessons.apply(body)
        settings = call.settings
        own = "messages" not in settings.extra_body
        content = encode_body(body, call.tools, self._codec, has_own_messages=own)
        http = HttpRequest(
            route_of(surface, config),
            content,
            dict(settings.extra_headers),
            settings.timeout or config.timeout,
            settings.connect_timeout or CONNECT_TIMEOUT,
            settings.total_timeout,
            call.end,
        )
        return _Request(http, surface, body)

    def _encode_tools(self, tools: Sequence[ToolSpec]) -> EncodedTools:
        """The wire form of ``tools``, kept for the next call with the very same tuple."""
        kept, encoded = self._encoded
        if kept is tools:
            return encoded
        encoded = encode_tools(tools)
        if isinstance(tools, tuple):
            self._encoded = (tools, encoded)
        return encoded

    def _decode(self, call: _Call, answer: Answer) -> Response:
        headers = answer.headers
        self._debug.answer(answer.status_code, headers, answer.content)
        model = ""
        try:
            data = decode_json(answer.content, header(headers, "content-type"), self._codec.loads)
            model = model_of(data)
            response = call.request.surface.decode(data, call.tools)
        except LoomError as error:
            if not isinstance(error, InvalidRequestError):
                call.attempts.worked()  # the request was taken, whatever became of the answer
            failure = self._failures.complete(error, headers, model)
        else:
            return self._complete(call, response, headers)
        raise failure

    def _last_events(self, call: _Call, decoder: StreamDecoder, answer: Any) -> Iterator[StreamEvent]:
        try:
            events, response = decoder.finish()
        except LoomError as error:
            failure = self._failures.complete(error, answer.headers, decoder.model)
        else:
            response = self._complete(call, response, answer.headers)
            yield from events
            yield UsageEvent(response.tokens_used)
            yield FinalResponse(response)
            return
        raise failure

    def _complete(self, call: _Call, response: Response, headers: Mapping[str, str]) -> Response:
        """The response with its model, its price and what the headers told."""
        call.attempts.worked()
        served = header(headers, "x-ms-served-model") or response.model
        metadata = {
            **facts(headers),
            **response.metadata,
            "deployment": self.model,
            "surface": call.request.surface.name,
            "finish_reason": response.finish_reason,
            "latency_ms": round((time.perf_counter() - call.started) * 1000, 1),
        }
        cost = self._costs.cost(response.tokens_used, served, metadata.get("service_tier"))
        metadata["cost"] = cost.to_dict()
        return replace(response, model=served, cost_usd=cost.usd, metadata=metadata)

    # ── closing ──────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Close the sync connections. A later call opens new ones."""
        self._connections.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop and the sync ones."""
        await self._connections.aclose()
