"""`OllamaProvider`: a model served by Ollama as an `LLMProvider`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx

from loom_ollama.config import OllamaConfig, Think
from loom_ollama.connections import Connections, Patience
from loom_ollama.failures import answer_error, network_error
from loom_ollama.stream import StreamAssembler
from loom_ollama.wire import NOT_OLLAMA, check_headers, decode_response, dumps, encode_request
from loom_py._closing import Closing
from loom_py.description import Description, Setting, masked
from loom_py.errors import IncompleteResponseError, LoomError, MalformedResponseError
from loom_py.events import FinalResponse, StreamEvent, UsageEvent
from loom_py.llm.costs import Cost, Pricing
from loom_py.llm.prices import PriceSetting, PriceTable
from loom_py.llm.profiles import ModelProfile
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response, TokenUsage, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["OllamaProvider"]

_OWN_MACHINE = "a server of your own: Ollama bills nothing"
_NO_LIST = PriceTable({})


class _Call:
    """What belongs to one call and to no other."""

    __slots__ = ("content", "headers", "options", "patience", "started")

    def __init__(self, content: bytes, options: ChatOptions, patience: Patience) -> None:
        self.started = time.perf_counter()
        self.content = content
        self.options = options
        self.patience = patience
        self.headers = options.extra_headers


class OllamaProvider(Closing, BaseProvider):
    """A model served by Ollama.

    Args:
        model: its name, such as ``llama3.2`` or ``qwen3:8b``.
        host: where Ollama listens; ``OLLAMA_HOST``, else ``http://127.0.0.1:11434``.
        api_key: for ollama.com or a proxy with keys; ``OLLAMA_API_KEY``.
        max_tokens: most tokens of a reply; the model's own limit unless given.
        temperature: 0.0 to 2.0.
        timeout: seconds for a whole answer, or for each piece of a stream, 1 to 3600, default 120; loading
            a model counts.
        context_window: tokens of the context; Ollama's default is small, and longer conversations are cut
            by the server without a word.
        keep_alive: how long the model stays in memory: seconds or text such as ``"10m"``.
        think: whether (or ``"low"``, ``"medium"``, ``"high"``) a thinking model thinks.
        model_options: further options of the model, such as ``{"top_k": 20}``.
        headers: further headers of every request.
        prices: USD prices by model name, for a server that bills. Without one a server of your own costs 0,
            and the cost of a cloud model is not known.

    ``metadata`` of a response holds ``thinking`` where the model told it, ``load_seconds``,
    ``prompt_seconds``, ``generation_seconds`` and ``total_seconds``, and ``usage_incomplete`` where the
    server did not count the prompt. Safe for threads and tasks; each event loop has connections of its own.

    Raises `ConfigError` or a `BuilderError` for wrong settings, at once.
    """

    name = "ollama"

    def __init__(
        self,
        model: str | None = None,
        *,
        host: str | None = None,
        api_key: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        context_window: int | None = None,
        keep_alive: float | str | None = None,
        think: Think | None = None,
        model_options: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
    ) -> None:
        self.config = OllamaConfig.resolve(
            {
                "model": model,
                "host": host,
                "api_key": api_key,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "timeout": timeout,
                "context_window": context_window,
                "keep_alive": keep_alive,
                "think": think,
                "model_options": model_options,
                "headers": headers,
                "prices": prices,
            }
        )
        self.model = self.config.model
        self.endpoint = self.config.host
        self.timeout = self.config.timeout
        self._pricing = self._own_pricing()
        self._connections = Connections(self.config)

    def __repr__(self) -> str:
        return f"OllamaProvider(model={self.model!r}, host={self.config.host!r})"

    @property
    def profile(self) -> ModelProfile:
        """What is known without asking the server: it takes tools, images and schemas if the model does."""
        return ModelProfile(context_window=self.config.context_window, vision=True, structured_output=True)

    def output_limit(self, options: ChatOptions | None = None) -> int | None:
        """The most tokens a reply can have."""
        return (options and options.max_tokens) or self.config.max_tokens

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        """The most a call of so many tokens can cost, in USD."""
        return self._cost(TokenUsage(input_tokens, output_tokens))

    def describe(self) -> Description:
        """Every setting and where it came from; the key is masked."""
        config, settings = self.config, []
        for name in type(config).model_fields:
            value = getattr(config, name)
            if name in {"sources", "headers"} or (not value and name in {"prices", "model_options"}):
                continue
            if name == "api_key" and value is not None:
                value = masked(value.get_secret_value())
            settings.append(Setting(name, value, config.sources.get(name, "default")))
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
        call = self._begin(messages, tools, options, stream=False)
        with self._translated(call), self._answer(call) as answer:
            return self._decoded(answer, b"".join(self._pieces(call, answer)), call)

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """`chat`, async. Cancelling it hangs up."""
        call = self._begin(messages, tools, options, stream=False)
        with self._translated(call):
            async with asyncio.timeout(call.patience.left()), self._aanswer(call) as answer:
                return self._decoded(answer, await answer.aread(), call)

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Generator[StreamEvent, None, None]:
        """`chat`, as events while they come. Closing the generator hangs up."""
        call = self._begin(messages, tools, options, stream=True)
        reader = StreamAssembler(self.config, call.options)
        with self._translated(call, reader), self._answer(call) as answer:
            self._check(answer)
            for piece in self._pieces(call, answer):
                yield from reader.feed(piece)
                if reader.is_done:
                    break
            yield from reader.end()
        yield from self._last(call, reader)

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """`stream_chat`, async. ``aclose()`` hangs up."""
        call = self._begin(messages, tools, options, stream=True)
        reader = StreamAssembler(self.config, call.options)
        with self._translated(call, reader):
            async with self._aanswer(call) as answer:
                self._check(answer)
                pieces = answer.aiter_bytes()
                while not reader.is_done:
                    async with asyncio.timeout(call.patience.left()):
                        piece = await anext(pieces, None)
                    if piece is None:
                        break
                    for event in reader.feed(piece):
                        yield event
                for event in reader.end():
                    yield event
        for event in self._last(call, reader):
            yield event

    # ── one call ─────────────────────────────────────────────────────────────────────────

    def _begin(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        *,
        stream: bool,
    ) -> _Call:
        options = options or ChatOptions()
        check_headers(options.extra_headers, self.model)
        body = encode_request(messages, tools, options, self.config, stream=stream)
        read = options.timeout or self.config.timeout
        total = options.total_timeout if stream else min(read, options.total_timeout or read)
        content = dumps(body, self.model)
        return _Call(content, options, Patience(read, options.connect_timeout, total))

    @contextmanager
    def _answer(self, call: _Call) -> Iterator[httpx.Response]:
        """The answer, its status checked, its body still to be read."""
        client = self._connections.sync()
        with client.send(call.content, call.headers, call.patience) as answer:
            if answer.status_code != httpx.codes.OK:
                raise answer_error(answer.status_code, answer.headers, answer.read(), self.config)
            yield answer

    @asynccontextmanager
    async def _aanswer(self, call: _Call) -> AsyncGenerator[httpx.Response, None]:
        client = self._connections.of_loop()
        async with asyncio.timeout(call.patience.left()):
            sending = client.send(call.content, call.headers, call.patience)
            answer = await sending.__aenter__()
        try:
            if answer.status_code != httpx.codes.OK:
                raise answer_error(answer.status_code, answer.headers, await answer.aread(), self.config)
            yield answer
        except BaseException as exc:
            await sending.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        await sending.__aexit__(None, None, None)

    def _pieces(self, call: _Call, answer: httpx.Response) -> Iterator[bytes]:
        for piece in answer.iter_bytes():
            call.patience.left()
            yield piece

    def _check(self, answer: httpx.Response) -> None:
        """Raise for an answer that is surely no stream, such as a portal's page."""
        kind = answer.headers.get("content-type", "")
        if kind.startswith("text/html"):
            raise MalformedResponseError(f"the answer is {kind}", deployment=self.model, hint=NOT_OLLAMA)

    def _decoded(self, answer: httpx.Response, body: bytes, call: _Call) -> Response:
        self._check(answer)
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            raise MalformedResponseError(
                "the answer is no JSON", deployment=self.model, hint=NOT_OLLAMA
            ) from None
        if not isinstance(data, dict):
            raise MalformedResponseError("the answer is no JSON object", deployment=self.model)
        if "error" in data:
            raise answer_error(500, answer.headers, body, self.config)
        return self._complete(call, decode_response(data, self.config, call.options))

    def _last(self, call: _Call, reader: StreamAssembler) -> Iterator[StreamEvent]:
        response = self._complete(call, reader.response())
        yield UsageEvent(response.tokens_used)
        yield FinalResponse(response)

    @contextmanager
    def _translated(self, call: _Call, reader: StreamAssembler | None = None) -> Iterator[None]:
        """Whatever the client raises becomes an error of ours; of a stream with what it had shown."""
        try:
            yield
        except LoomError:
            raise
        except (Exception, RecursionError) as exc:  # noqa: BLE001 - whatever the client raises becomes ours
            failure = network_error(exc, self.config, call.patience)
            if reader is not None and reader.has_begun:
                raise reader.interrupted(f"the stream broke off: {failure.message}", failure) from None
            raise failure from None

    # ── money ────────────────────────────────────────────────────────────────────────────

    def _own_pricing(self) -> Pricing | None:
        """By what ``prices=`` says of the model; ``None`` where it says nothing."""
        own = {name.strip().lower(): price for name, price in self.config.prices.items()}
        name = self.model.lower()
        price = own.get(name) or own.get(name.removesuffix(":latest"))
        if price is None:
            return None
        return Pricing(name, model_name=name, prices={name: price}, table=_NO_LIST)

    def _cost(self, usage: TokenUsage) -> Cost:
        if self._pricing is not None:
            return replace(self._pricing.cost(usage), model=self.model)
        if self.config.is_cloud:
            return Cost.unknown("the price of a cloud model is not known", model=self.model, usage=usage)
        return Cost(Decimal(0), model=self.model, usage=usage, source=_OWN_MACHINE)

    def _complete(self, call: _Call, response: Response) -> Response:
        """The response with its cost. Raises `IncompleteResponseError` where the limit left no text."""
        usage = response.tokens_used
        cost = self._cost(usage)
        if response.finish_reason == "length" and not response.message.strip() and not response.tool_calls:
            raise IncompleteResponseError(
                "the token limit was used up before there was any text",
                deployment=self.model,
                tokens_used=usage,
                cost_usd=cost.usd,
            )
        metadata = {
            **response.metadata,
            "deployment": self.model,
            "finish_reason": response.finish_reason,
            "latency_ms": round((time.perf_counter() - call.started) * 1000, 1),
            "cost": cost.to_dict(),
        }
        return replace(response, cost_usd=cost.usd, metadata=metadata)

    # ── closing ──────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Close the blocking connections. A later call opens new ones."""
        self._connections.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop and the blocking ones."""
        await self._connections.aclose()
