"""`AcmeProvider`: the four verbs, over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import httpx2

from loom_acme.config import AcmeConfig
from loom_acme.failures import answer_error, network_error
from loom_acme.prices import cost_of, profile_of
from loom_acme.wire import StreamReader, decode_response, encode_request, written
from loom_py.description import Description, Setting, masked
from loom_py.errors import IncompleteResponseError, LoomError, MalformedResponseError
from loom_py.events import FinalResponse, StreamEvent, UsageEvent
from loom_py.llm.costs import Cost
from loom_py.llm.profiles import ModelProfile
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response, TokenUsage, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["AcmeProvider"]


class AcmeProvider(BaseProvider):
    """A model of acme.

    Args:
        model: its name.
        api_key: the key; ``ACME_API_KEY``.
        base_url: where the service is; ``ACME_BASE_URL``.
        max_tokens: most tokens of a reply.
        temperature: 0.0 to 2.0.
        timeout: seconds for a whole answer, or for each piece of a stream.

    Raises `ConfigError` for wrong settings, at once.
    """

    name = "acme"

    def __init__(
        self,
        model: str | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
    ) -> None:
        given = {"model": model, "api_key": api_key, "base_url": base_url, "max_tokens": max_tokens}
        self.config = AcmeConfig.resolve({**given, "temperature": temperature, "timeout": timeout})
        self.model = self.config.model
        self.endpoint = self.config.base_url
        self.timeout = self.config.timeout
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"AcmeProvider(model={self.model!r}, base_url={self.config.base_url!r})"

    @property
    def profile(self) -> ModelProfile:
        """What the model can do."""
        return profile_of(self.model)

    def output_limit(self, options: ChatOptions | None = None) -> int | None:
        """The most tokens a reply can have."""
        return (options and options.max_tokens) or self.config.max_tokens

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        """The most a call of so many tokens can cost, in USD."""
        return cost_of(self.model, TokenUsage(input_tokens, output_tokens))

    def describe(self) -> Description:
        """Every setting and where it came from, the key masked."""
        config, settings = self.config, dict(self.config)
        del settings["sources"]
        settings["api_key"] = masked(config.api_key.get_secret_value())
        return Description(
            Setting(name, value, config.sources.get(name, "default")) for name, value in settings.items()
        )

    # ── the four verbs ───────────────────────────────────────────────────────────────────

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """One reply of the model."""
        options = options or ChatOptions()
        request = self._request(messages, tools, options, stream=False)
        with self._translated():
            return self._decoded(self._sync().send(request))

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """`chat`, async."""
        options = options or ChatOptions()
        request = self._request(messages, tools, options, stream=False)
        with self._translated():
            async with asyncio.timeout(self._seconds(options)):
                return self._decoded(await self._of_loop().send(request))

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Generator[StreamEvent, None, None]:
        """`chat` as events. Closing the generator hangs up."""
        request = self._request(messages, tools, options or ChatOptions(), stream=True)
        reader = StreamReader(self.config)
        answer = None
        with self._translated(reader):
            try:
                answer = self._sync().send(request, stream=True)
                if answer.status_code != httpx2.codes.OK:
                    answer.read()
                    raise answer_error(answer, self.config)
                for piece in answer.iter_bytes():
                    yield from reader.feed(piece)
            finally:
                if answer is not None:
                    answer.close()
        yield from self._last(reader, answer)

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """`stream_chat`, async."""
        request = self._request(messages, tools, options or ChatOptions(), stream=True)
        reader = StreamReader(self.config)
        answer = None
        with self._translated(reader):
            try:
                answer = await self._of_loop().send(request, stream=True)
                if answer.status_code != httpx2.codes.OK:
                    await answer.aread()
                    raise answer_error(answer, self.config)
                async for piece in answer.aiter_bytes():
                    for event in reader.feed(piece):
                        yield event
            finally:
                if answer is not None:
                    await answer.aclose()
        for event in self._last(reader, answer):
            yield event

    # ── one call ─────────────────────────────────────────────────────────────────────────

    def _request(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], options: ChatOptions, *, stream: bool
    ) -> httpx2.Request:
        config = self.config
        body = encode_request(messages, tools, options, config, stream=stream)
        read = self._seconds(options)
        timeout = httpx2.Timeout(read, connect=options.connect_timeout or read)
        headers = {"authorization": f"Bearer {config.api_key.get_secret_value()}", **options.extra_headers}
        return httpx2.Request(
            "POST",
            f"{config.base_url.rstrip('/')}/chat",
            content=written(body, config),
            headers={**headers, "content-type": "application/json"},
            extensions={"timeout": timeout.as_dict()},
        )

    def _seconds(self, options: ChatOptions) -> float:
        """How long an answer, or a piece of a stream, may take. Agents bound the rest from outside."""
        timeout = options.timeout or self.config.timeout
        return min(timeout, options.total_timeout or timeout)

    def _decoded(self, answer: httpx2.Response) -> Response:
        if answer.status_code != httpx2.codes.OK:
            raise answer_error(answer, self.config)
        try:
            data: Any = json.loads(answer.content)
        except (ValueError, RecursionError):
            raise MalformedResponseError("the answer is no JSON", deployment=self.model) from None
        return self._whole(decode_response(data, self.config), answer)

    def _last(self, reader: StreamReader, answer: httpx2.Response | None) -> Iterator[StreamEvent]:
        response = self._whole(reader.finished(), answer)
        yield UsageEvent(response.tokens_used)
        yield FinalResponse(response)

    def _whole(self, response: Response, answer: httpx2.Response | None) -> Response:
        """The response with its cost and its request id."""
        cost = cost_of(self.model, response.tokens_used)
        id_ = None if answer is None else answer.headers.get("x-request-id")
        if response.finish_reason == "length" and not response.message and not response.tool_calls:
            raise IncompleteResponseError(
                "the token limit left no text",
                tokens_used=response.tokens_used,
                cost_usd=cost.usd,
                request_id=id_,
                deployment=self.model,
            )
        metadata = {"deployment": self.model, "request_id": id_, "cost": cost.to_dict()}
        return replace(response, cost_usd=cost.usd, metadata=metadata)

    @contextmanager
    def _translated(self, reader: StreamReader | None = None) -> Iterator[None]:
        """Whatever the client raises becomes an error of loom_py's."""
        try:
            yield
        except LoomError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it is
            failure = network_error(exc, self.config)
            if reader is not None and reader.has_begun:
                failure = reader.interrupted(failure.message, failure)
            raise failure from None

    # ── connections ──────────────────────────────────────────────────────────────────────

    def _sync(self) -> httpx2.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx2.Client()
            return self._client

    def _of_loop(self) -> httpx2.AsyncClient:
        """The client of the running event loop, whose sockets belong to it."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._clients:
                self._clients[loop] = httpx2.AsyncClient()
            return self._clients[loop]

    def close(self) -> None:
        """Close the blocking connections; a later call opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and the blocking ones."""
        with self._lock:
            client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        self.close()
