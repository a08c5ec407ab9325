"""`AnthropicProvider`: a Claude model of Anthropic's API as an `LLMProvider`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr

from loom_anthropic.answers import decode_message
from loom_anthropic.call import Call
from loom_anthropic.config import AnthropicConfig, Thinking
from loom_anthropic.connections import Connections
from loom_anthropic.failures import Failures
from loom_anthropic.headers import facts, header
from loom_anthropic.prices import ClaudePrices
from loom_anthropic.stream import StreamDecoder, read_json
from loom_anthropic.wire import check_call
from loom_py._closing import Closing
from loom_py._log import get_logger
from loom_py.description import Description, Setting, masked
from loom_py.errors import LoomError
from loom_py.events import FinalResponse, StreamEvent, UsageEvent
from loom_py.llm.azure.connections import Answer, AsyncPieces, Patience, Pieces
from loom_py.llm.azure.schema import EncodedTools, encode_tools
from loom_py.llm.costs import Cost
from loom_py.llm.prices import PriceSetting
from loom_py.llm.profiles import ModelProfile
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions

if TYPE_CHECKING:
    import httpx2

__all__ = ["AnthropicProvider", "create_provider"]

_log = get_logger(provider="anthropic")


class AnthropicProvider(Closing, BaseProvider):
    """A Claude model, by Anthropic's Messages API.

    Args:
        api_key: the key (``ANTHROPIC_API_KEY``).
        model: the model's name, such as ``claude-sonnet-5-5`` (``ANTHROPIC_MODEL``).
        auth_token: a bearer token instead of a key (``ANTHROPIC_AUTH_TOKEN``); a key wins over it.
        base_url: where the API is (``ANTHROPIC_BASE_URL``), ``https://api.anthropic.com`` by default.
        max_tokens: most tokens of a reply, thinking included; 8,192 by default, or 16,384 for models that
            think unasked.
        temperature: 0.0 to 1.0; only sent if it is given, and never to models that refuse it.
        timeout: seconds for a whole answer, or for each event of a stream, 1 to 600, default 60.
        thinking: a budget in tokens, ``"adaptive"`` or ``"off"``; left out, the model's own way.
        prompt_caching: whether tools, system prompt and conversation are marked for the prompt cache;
            ``"1h"`` keeps them for an hour instead of five minutes.
        betas: names for the header ``anthropic-beta``.
        prices: USD prices by model, over the bundled ones.
        fast: whether to use aiohttp where it is installed (extra ``fast`` of loom-py), as it is by default.
        http_client: an ``httpx2.Client`` for the sync verbs; it is not closed.
        async_http_client: an ``httpx2.AsyncClient`` for the async verbs; it is not closed.

    The SDK's own retries, traces, profiles and identity federation are off; nothing else is read from the
    environment. Raises `ConfigError` or one of its kin for wrong settings, at once.
    """

    name = "anthropic"
    keeps_timeouts = True

    def __init__(
        self,
        *,
        api_key: str | None = None,
        model: str | None = None,
        auth_token: str | None = None,
        base_url: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        thinking: Thinking | None = None,
        prompt_caching: bool | Literal["5m", "1h"] | None = None,
        betas: Sequence[str] | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        fast: bool | None = None,
        http_client: httpx2.Client | None = None,
        async_http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self.config = AnthropicConfig.resolve(
            {
                "api_key": api_key,
                "model": model,
                "auth_token": auth_token,
                "base_url": base_url,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "timeout": timeout,
                "thinking": thinking,
                "prompt_caching": prompt_caching,
                "betas": betas,
                "prices": prices,
                "fast": fast,
            }
        )
        config = self.config
        if config.api_key is not None and config.auth_token is not None:
            _log.warning("both_credentials_given", model=config.model, used="api_key")
        self.model = config.model
        self.endpoint = config.base_url
        self.timeout = config.timeout
        self._defaults = ChatOptions(temperature=config.temperature, timeout=config.timeout)
        self._prices = ClaudePrices(config.model, config.prices, config.cache_ttl)
        self._failures = Failures(config, self._prices)
        self._connections = Connections(config, http_client, async_http_client)
        self._encoded: tuple[object, EncodedTools] = ((), encode_tools(()))
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"AnthropicProvider(model={self.model!r}, base_url={self.endpoint!r})"

    @property
    def profile(self) -> ModelProfile:
        """What the model can do, as far as its name tells."""
        return self.config.claude.profile

    def output_limit(self, options: ChatOptions | None = None) -> int | None:
        """The most tokens the reply to a call with ``options`` can have, thinking included."""
        extra = {} if options is None else options.extra_body
        if isinstance(said := extra.get("max_tokens"), int):
            return said
        asked = None if options is None else options.max_tokens
        return asked or self.config.reply_limit

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        """The most a call of at most so many tokens can cost, in USD: all of its input written to the cache.

        `Cost.unknown` where the model has no listed price.
        """
        return self._prices.most(input_tokens, output_tokens)

    def describe(self) -> Description:
        """Every resolved setting and where it came from, secrets masked."""
        config = self.config
        settings = []
        for name in type(config).model_fields:
            value = getattr(config, name)
            source = config.sources.get(name, "default")
            is_unset = source == "default" and value in (None, {}, ())
            if name == "sources" or (is_unset and name != "max_tokens"):
                continue
            if isinstance(value, SecretStr):
                value = masked(value.get_secret_value())
            if name == "max_tokens":
                value = config.reply_limit
            settings.append(Setting(name, value, source))
        return Description(settings)

    # ── the four verbs ───────────────────────────────────────────────────────────────────

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """One reply of the model. Raises errors of `loom_py.errors` only."""
        call = self._begin(messages, tools, options)
        while True:
            try:
                answer = self._connections.post(call.http)
            except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
                failure = self._failures.of(exc, call.http)
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
                answer = await self._connections.apost(call.http)
            except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
                failure = self._failures.of(exc, call.http)
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
                answer = self._connections.open(call.http)
                patience = Patience(call.http.timeout, call.end)
                for data in Pieces(answer, patience):
                    yield from decoder.feed(data)
                    patience.check(decoder.payloads)
            except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
                failure = self._failures.of_stream(exc, call.http, decoder, answer)
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
                answer = await self._connections.aopen(call.http)
                patience = Patience(call.http.timeout, call.end)
                async for data in AsyncPieces(answer, patience):
                    for event in decoder.feed(data):
                        yield event
                    patience.check(decoder.payloads)
            except Exception as exc:  # noqa: BLE001 - whatever the SDK raises becomes ours
                failure = self._failures.of_stream(exc, call.http, decoder, answer)
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
    ) -> Call:
        settings = self._defaults.merged(options)
        check_call(messages, tools, settings, self.config)
        return Call(self.config, messages, self._encode_tools(tools), settings, stream)

    def _encode_tools(self, tools: Sequence[ToolSpec]) -> EncodedTools:
        """The wire form of ``tools``, kept for the next call with the very same tuple."""
        kept, encoded = self._encoded
        if kept is tools:
            return encoded
        encoded = encode_tools(tools)
        if isinstance(tools, tuple):
            self._encoded = (tools, encoded)
        return encoded

    def _decode(self, call: Call, answer: Answer) -> Response:
        headers = answer.headers
        try:
            data = read_json(answer.content, header(headers, "content-type"))
            response = decode_message(data, call.tools, model=self.model)
        except LoomError as error:
            failure = self._failures.complete(error, headers)
        else:
            return self._complete(call, response, headers)
        raise failure

    def _last_events(self, call: Call, decoder: StreamDecoder, answer: Any) -> Iterator[StreamEvent]:
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

    def _complete(self, call: Call, response: Response, headers: Mapping[str, str]) -> Response:
        """The response with its model, its price and what the headers told."""
        metadata = {
            **facts(headers),
            **response.metadata,
            "deployment": self.model,
            "finish_reason": response.finish_reason,
            "latency_ms": round((time.perf_counter() - call.started) * 1000, 1),
        }
        cost = self._prices.cost(response.tokens_used, response.model, metadata.get("service_tier"))
        if response.tokens_used.total and not cost.is_known:
            self._warn(cost, response.model)
        metadata["cost"] = cost.to_dict()
        return replace(response, model=response.model or self.model, cost_usd=cost.usd, metadata=metadata)

    def _warn(self, cost: Cost, served: str) -> None:
        reason = cost.reason or ""
        if reason not in self._warned:
            self._warned.add(reason)
            _log.warning(
                "price_unknown",
                model=self.model,
                served_model=served,
                reason=reason,
                hint="give its price with prices=",
            )

    # ── closing ──────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Close the sync connections. A later call opens new ones."""
        self._connections.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop and the sync ones."""
        await self._connections.aclose()


def create_provider(**settings: Any) -> AnthropicProvider:
    """The provider for the registry; ``settings`` are those of `AnthropicProvider`.

    Raises `ConfigError` or one of its kin for wrong settings.
    """
    return AnthropicProvider(**settings)
