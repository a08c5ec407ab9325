"""`AzureOpenAIClient`: an Azure OpenAI deployment as an `LLMProvider`.

The official SDK does authentication, routing, connection pools and timeouts. The request is our
own bytes through the SDK's ``post`` and the answer comes back as raw bytes with its headers, so
that nothing Azure says is lost and no SDK model is built on the way. This is the only file that
touches the ``openai`` package, and it imports it when the first client is needed.
"""

from __future__ import annotations

import json
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import quote

from loom_py._concurrency import current_loop
from loom_py._log import get_logger
from loom_py.errors import (
    ConfigError,
    ConnectionFailedError,
    LoomError,
    MalformedResponseError,
    ProviderError,
    RequestTimeoutError,
)
from loom_py.events import FinalResponse, StreamEvent, UsageEvent
from loom_py.llm.azure.auth import TokenProvider, TokenSource
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.azure.debug import WireDebug
from loom_py.llm.azure.errors import error_from_answer
from loom_py.llm.azure.headers import facts, header, request_id
from loom_py.llm.azure.schema import EncodedTools, encode_tools
from loom_py.llm.azure.stream import StreamDecoder
from loom_py.llm.azure.wire import decode_response, encode_request
from loom_py.llm.models import infer_model, price_model
from loom_py.llm.prices import ModelPrice, PriceTable
from loom_py.llm.profiles import ModelProfile, profile_for
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncAzureOpenAI, AzureOpenAI

__all__ = ["AzureOpenAIClient"]

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection, as the SDK's own default."""

_log = get_logger(provider="azure-openai")


@dataclass(frozen=True, slots=True)
class _Request:
    """Everything that belongs to one call, and to no other."""

    content: bytes
    tools: EncodedTools
    sdk_options: Any
    started: float


class AzureOpenAIClient(BaseProvider):
    """A chat deployment on Azure OpenAI.

    Args:
        endpoint: the resource, ``https://NAME.openai.azure.com``.
        deployment_id: the deployment's own name.
        api_key: the resource's key; wins over an Entra credential.
        entra_token: a static Entra token; a leading ``Bearer`` is taken off.
        credential: an azure-identity ``TokenCredential``, sync or async; tokens are refreshed.
        token_provider: a function or coroutine function that returns a token.
        api_version: the API's version, default ``2024-10-21``.
        model_name: the model behind the deployment, where its name does not tell.
        max_tokens: most tokens of a reply, 1 to 128,000, default 4096.
        temperature: 0.0 to 2.0, default 1.0; not sent to reasoning models.
        timeout: seconds for each wait on the network, 1 to 600, default 60.
        prices: USD prices per deployment or model name, over the bundled table.
        http_client: an ``httpx2.Client`` to use for the sync verbs; it is not closed.
        async_http_client: an ``httpx2.AsyncClient`` for the async verbs; it is not closed.
        wire_debug: print every request and answer to standard error with credentials masked, or
            hand that text to a function.

    Endpoint, deployment, credential and API version come from the environment where no argument
    gives them (``AZURE_OPENAI_ENDPOINT``, ``AZURE_OPENAI_DEPLOYMENT``, ``AZURE_OPENAI_API_KEY``,
    ``AZURE_OPENAI_ENTRA_TOKEN``, ``OPENAI_API_VERSION``). ``OPENAI_API_KEY`` is never read.

    Raises `ConfigError` or one of its kin for wrong settings, at once.
    """

    name = "azure-openai"

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        deployment_id: str | None = None,
        api_key: str | None = None,
        entra_token: str | None = None,
        credential: Any = None,
        token_provider: TokenProvider | None = None,
        api_version: str | None = None,
        model_name: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        token_scope: str | None = None,
        prices: Mapping[str, ModelPrice] | None = None,
        http_client: httpx2.Client | None = None,
        async_http_client: httpx2.AsyncClient | None = None,
        wire_debug: bool | Callable[[str], object] = False,
    ) -> None:
        if credential is not None and token_provider is not None:
            raise ConfigError("give credential= or token_provider=, not both", field="credential")
        source = credential if credential is not None else token_provider
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
            },
            has_credential=source is not None,
        )
        config = self.config
        self._tokens = None if source is None else TokenSource(source, config.token_scope)
        if config.api_key is not None and (config.entra_token is not None or self._tokens is not None):
            _log.warning("both_credentials_given", deployment=config.deployment_id, used="api_key")
        self.model = config.deployment_id
        self._path = f"/deployments/{quote(config.deployment_id, safe='')}/chat/completions"
        known = config.model_name or infer_model(config.deployment_id)
        self._profile = profile_for(known)
        send_temperature = known is not None or "temperature" in config.model_fields_set
        self._defaults = ChatOptions(
            max_tokens=config.max_tokens, temperature=config.temperature if send_temperature else None
        )
        bundled = PriceTable.bundled()
        self._prices = bundled.overlaid(config.prices) if config.prices else bundled
        self._unpriced: set[str] = set()
        self._http_client = http_client
        self._async_http_client = async_http_client
        self._debug = WireDebug.of(wire_debug, self._mask)
        self._lock = threading.Lock()
        self._sync_client: AzureOpenAI | None = None
        self._async_clients: weakref.WeakKeyDictionary[Any, AsyncAzureOpenAI] = weakref.WeakKeyDictionary()
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

    # ── the four verbs ───────────────────────────────────────────────────────────────────

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """One reply from the deployment. Raises errors of `loom_py.errors` only."""
        import httpx2

        request = self._request(messages, tools, options)
        try:
            answer = self._sync().post(
                self._path, content=request.content, cast_to=httpx2.Response, options=request.sdk_options
            )
        except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
            failure = self._failure(exc)
        else:
            return self._decode(request, answer)
        raise failure

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """`chat`, async."""
        import httpx2

        request = self._request(messages, tools, options)
        try:
            answer = await self._async().post(
                self._path, content=request.content, cast_to=httpx2.Response, options=request.sdk_options
            )
        except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
            failure = self._failure(exc)
        else:
            return self._decode(request, answer)
        raise failure

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        """One reply as events; the last carries the response. Closing it early hangs up."""
        request = self._request(messages, tools, options, stream=True)
        answer: httpx2.Response | None = None
        failure: LoomError | None = None
        decoder = StreamDecoder(request.tools)
        try:
            answer = self._open(request)
            for data in answer.iter_bytes():
                self._debug.data(data)
                yield from decoder.feed(data)
        except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
            failure = self._stream_failure(exc, decoder, answer)
        finally:
            if answer is not None:
                answer.close()
        if failure is not None:
            raise failure
        yield from self._last_events(request, decoder, answer)

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """`stream_chat`, async."""
        request = self._request(messages, tools, options, stream=True)
        answer: httpx2.Response | None = None
        failure: LoomError | None = None
        decoder = StreamDecoder(request.tools)
        try:
            answer = await self._aopen(request)
            async for data in answer.aiter_bytes():
                self._debug.data(data)
                for event in decoder.feed(data):
                    yield event
        except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
            failure = self._stream_failure(exc, decoder, answer)
        finally:
            if answer is not None:
                await answer.aclose()
        if failure is not None:
            raise failure
        for event in self._last_events(request, decoder, answer):
            yield event

    # ── one call ─────────────────────────────────────────────────────────────────────────

    def _request(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        *,
        stream: bool = False,
    ) -> _Request:
        settings = self._defaults.merged(options)
        encoded = self._encode_tools(tools)
        body = encode_request(
            messages, encoded, settings, deployment=self.model, profile=self._profile, stream=stream
        )
        try:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        except (TypeError, ValueError) as exc:
            raise ConfigError(f"the request cannot be written as JSON: {exc}", field="messages") from None
        sdk_options: dict[str, Any] = {}
        if settings.extra_headers:
            sdk_options["headers"] = dict(settings.extra_headers)
        if settings.timeout is not None:
            sdk_options["timeout"] = settings.timeout
        return _Request(content, encoded, sdk_options, time.perf_counter())

    def _open(self, request: _Request) -> httpx2.Response:
        """Send a stream request; the answer with its body unread."""
        import httpx2
        from openai import Stream

        answer: Any = self._sync().post(
            self._path,
            content=request.content,
            cast_to=httpx2.Response,
            options=request.sdk_options,
            stream=True,
            stream_cls=Stream[Any],
        )
        return cast("httpx2.Response", answer)

    async def _aopen(self, request: _Request) -> httpx2.Response:
        """`_open`, async."""
        import httpx2
        from openai import AsyncStream

        answer: Any = await self._async().post(
            self._path,
            content=request.content,
            cast_to=httpx2.Response,
            options=request.sdk_options,
            stream=True,
            stream_cls=AsyncStream[Any],
        )
        return cast("httpx2.Response", answer)

    def _encode_tools(self, tools: Sequence[ToolSpec]) -> EncodedTools:
        """The wire form of ``tools``, kept for the next call with the very same tuple."""
        kept, encoded = self._encoded
        if kept is tools:
            return encoded
        encoded = encode_tools(tools)
        if isinstance(tools, tuple):
            self._encoded = (tools, encoded)
        return encoded

    def _decode(self, request: _Request, answer: httpx2.Response) -> Response:
        headers = answer.headers
        self._debug.answer(answer.status_code, headers, answer.content)
        try:
            data = _json_body(answer.content, header(headers, "content-type"))
            response = decode_response(data, request.tools)
        except LoomError as error:
            raise self._complete_error(error, headers) from None
        return self._complete(response, headers, request)

    def _last_events(self, request: _Request, decoder: StreamDecoder, answer: Any) -> Iterator[StreamEvent]:
        try:
            events, response = decoder.finish()
        except LoomError as error:
            raise self._complete_error(error, answer.headers) from None
        response = self._complete(response, answer.headers, request)
        yield from events
        yield UsageEvent(response.tokens_used)
        yield FinalResponse(response)

    def _complete(self, response: Response, headers: Mapping[str, str], request: _Request) -> Response:
        """The response with its model, its price and what the headers told."""
        served = header(headers, "x-ms-served-model") or response.model
        usage = response.tokens_used
        cost = None
        if usage.total or not response.message:
            price = self._price(served)
            cost = None if price is None else price.cost(usage)
        metadata = {
            **facts(headers),
            **response.metadata,
            "deployment": self.model,
            "finish_reason": response.finish_reason,
            "latency_ms": round((time.perf_counter() - request.started) * 1000, 1),
        }
        return replace(response, model=served, cost_usd=cost, metadata=metadata)

    def _price(self, served: str) -> ModelPrice | None:
        """The price by override, explicit model, served model or deployment name, in that order."""
        names = (self.model, self.config.model_name, served, self.model)
        overrides = self.config.prices
        for name in names if overrides else ():
            if name and (price := self._prices.get(name)) is not None and name in overrides:
                return price
        name = price_model(self.config.model_name, served, self.model)
        price = None if name is None else self._prices.get(name)
        if price is None and served not in self._unpriced:
            self._unpriced.add(served)
            _log.warning(
                "price_unknown",
                deployment=self.model,
                served_model=served,
                hint="name the model with model_name=, or give its price with prices=",
            )
        return price

    # ── failures ─────────────────────────────────────────────────────────────────────────

    def _failure(self, exc: Exception) -> LoomError:
        """The typed error for whatever the SDK, its transport or a credential raised."""
        import openai

        if isinstance(exc, LoomError):
            return self._complete_error(exc, {})
        if isinstance(exc, openai.APIStatusError):
            answer = exc.response
            self._debug.answer(answer.status_code, answer.headers, answer.content)
            error = error_from_answer(answer.status_code, answer.headers, answer.content)
            return self._complete_error(error, answer.headers)
        return self._complete_error(self._transport_failure(exc), {})

    def _transport_failure(self, exc: Exception) -> LoomError:
        import httpx2
        import openai

        cause = exc.__cause__ or exc
        if isinstance(exc, (openai.APITimeoutError, httpx2.TimeoutException)):
            kind = "connecting" if isinstance(cause, httpx2.ConnectTimeout) else "waiting for an answer"
            return RequestTimeoutError(
                f"timed out {kind} after {self.config.timeout:g} s",
                hint="Raise timeout=, or check that the endpoint can be reached.",
            )
        if isinstance(exc, (openai.APIConnectionError, httpx2.TransportError)):
            return ConnectionFailedError(
                f"no answer from {self.config.endpoint}: {type(cause).__name__}: {self._mask(str(cause))}",
                hint="Check the endpoint's name and this machine's network.",
            )
        return ProviderError(f"the call failed: {type(exc).__name__}: {self._mask(str(exc))}")

    def _stream_failure(self, exc: Exception, decoder: StreamDecoder, answer: Any) -> LoomError | None:
        """The error of a stream that broke; ``None`` where all of the answer had come before."""
        headers: Mapping[str, str] = {} if answer is None else answer.headers
        if isinstance(exc, LoomError):
            return self._complete_error(exc, headers)
        if answer is None:
            return self._failure(exc)
        if decoder.is_whole:
            return None
        cause = self._transport_failure(exc)
        if isinstance(cause, RequestTimeoutError) and not decoder.assembler.has_output:
            return self._complete_error(cause, headers)
        return self._complete_error(
            decoder.assembler.interrupted(f"the stream broke off: {cause.message}"), headers
        )

    def _complete_error(self, error: LoomError, headers: Mapping[str, str]) -> LoomError:
        error.deployment = error.deployment or self.model
        error.request_id = error.request_id or request_id(headers)
        error.message = self._mask(error.message)
        error.args = (error.message,)
        if error.tokens_used is not None and error.cost_usd is None:
            price = self._price(header(headers, "x-ms-served-model") or "")
            error.cost_usd = None if price is None else price.cost(error.tokens_used)
        return error

    def _mask(self, text: str) -> str:
        """``text`` without any credential that might have been echoed in it."""
        for secret in (self.config.api_key, self.config.entra_token):
            if secret is not None and (value := secret.get_secret_value()):
                text = text.replace(value, "***")
        return text

    # ── the SDK's clients ────────────────────────────────────────────────────────────────

    def _sync(self) -> AzureOpenAI:
        with self._lock:
            if self._sync_client is None:
                from openai import AzureOpenAI, DefaultHttpxClient

                http_client = self._http_client
                if self._debug.is_on:
                    http_client = http_client or DefaultHttpxClient()
                    self._debug.listen(http_client)
                self._sync_client = AzureOpenAI(
                    **self._client_settings(is_async=False), http_client=http_client
                )
            return self._sync_client

    def _async(self) -> AsyncAzureOpenAI:
        """The async client of the running event loop; connections cannot cross loops."""
        loop = self if self._async_http_client is not None else current_loop()
        with self._lock:
            client = self._async_clients.get(loop)
            if client is None:
                from openai import AsyncAzureOpenAI, DefaultAsyncHttpxClient

                http_client = self._async_http_client
                if self._debug.is_on:
                    http_client = http_client or DefaultAsyncHttpxClient()
                    self._debug.alisten(http_client)
                client = AsyncAzureOpenAI(**self._client_settings(is_async=True), http_client=http_client)
                self._async_clients[loop] = client
            return client

    def _client_settings(self, *, is_async: bool) -> dict[str, Any]:
        import httpx2

        config = self.config
        settings: dict[str, Any] = {
            "azure_endpoint": config.endpoint,
            "api_version": config.api_version,
            "max_retries": 0,
            "timeout": httpx2.Timeout(config.timeout, connect=min(config.timeout, CONNECT_TIMEOUT)),
        }
        if config.api_key is not None:
            settings["api_key"] = config.api_key.get_secret_value()
        elif self._tokens is not None:
            settings["azure_ad_token_provider"] = self._tokens.atoken if is_async else self._tokens.token
        elif config.entra_token is not None:
            settings["azure_ad_token"] = config.entra_token.get_secret_value()
        return settings

    # ── closing ──────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Close the sync connections. A later call opens new ones."""
        with self._lock:
            client, self._sync_client = self._sync_client, None
        if client is not None and self._http_client is None:
            client.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop and the sync ones."""
        self.close()
        with self._lock:
            client = self._async_clients.pop(current_loop(), None)
        if client is not None:
            await client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _json_body(body: bytes, content_type: str | None) -> Any:
    """The JSON of an answer with status 200, whatever its Content-Type claims."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        pass
    if not body.strip():
        raise MalformedResponseError("the server answered 200 with an empty body")
    kind = "an HTML page" if body.lstrip()[:1] == b"<" else f"{content_type or 'a body'} that is not JSON"
    hint = "Check that the endpoint is the Azure OpenAI resource and not a portal or proxy page."
    raise MalformedResponseError(f"the server answered 200 with {kind}", hint=hint)
