"""`WireClient`: the four verbs of a client that speaks chat completions and the Responses API.

`loom_py.llm.azure` and `loom_py.llm.openai` each add what is their service's own: settings, credentials,
where requests go, and what to do about an error.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import SecretStr

from loom_py._closing import Closing
from loom_py._json import codec
from loom_py.description import Description, Setting, masked
from loom_py.errors import (
    ConfigError,
    InvalidRequestError,
    LoomError,
)
from loom_py.events import FinalResponse, StreamEvent, UsageEvent
from loom_py.llm.azure.attempts import Attempts, Knowledge
from loom_py.llm.azure.auth import TokenSource
from loom_py.llm.azure.checks import check_call
from loom_py.llm.azure.connections import (
    CONNECT_TIMEOUT,
    SDK,
    Answer,
    AsyncPieces,
    Connections,
    HttpRequest,
    Patience,
    Pieces,
)
from loom_py.llm.azure.costs import CallCosts
from loom_py.llm.azure.debug import WireDebug
from loom_py.llm.azure.failures import Failures
from loom_py.llm.azure.headers import facts, header
from loom_py.llm.azure.limits import most_output
from loom_py.llm.azure.schema import EncodedTools, encode_tools
from loom_py.llm.azure.secrets import Secrets
from loom_py.llm.azure.settings import ServiceConfig
from loom_py.llm.azure.stream import StreamDecoder
from loom_py.llm.azure.surfaces import CHAT, RESPONSES, Route, Surface, choose_surface
from loom_py.llm.azure.transports import check_fast
from loom_py.llm.azure.wire import decode_json, encode_body, model_of
from loom_py.llm.costs import Cost
from loom_py.llm.models import infer_model
from loom_py.llm.profiles import ModelProfile, profile_for
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions

if TYPE_CHECKING:
    import httpx2

__all__ = ["WireClient"]

C = TypeVar("C", bound=ServiceConfig)


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
        client: WireClient[Any],
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


class WireClient(Closing, BaseProvider, Generic[C]):
    """A model behind OpenAI's wire, whoever serves it. A subclass makes its ``config`` and calls this.

    ``tokens`` and ``keys`` are what tokens and API keys come from, where a function or a credential object
    gives them; ``sdk`` makes the official SDK's clients.
    """

    service: ClassVar[str] = "the service"
    """What people call the service."""
    surfaces: ClassVar[Mapping[str, Surface]] = {"chat": CHAT, "responses": RESPONSES}
    keeps_timeouts = True

    def __init__(
        self,
        config: C,
        sdk: SDK,
        *,
        tokens: TokenSource | None = None,
        keys: TokenSource | None = None,
        http_client: httpx2.Client | None = None,
        async_http_client: httpx2.AsyncClient | None = None,
        wire_debug: bool | Callable[[str], object] = False,
    ) -> None:
        self.config = config
        if config.fast:
            check_fast()
        self._codec = codec(config.fast is not False)
        self._tokens = tokens
        self._keys = keys
        self.model = config.target
        self.endpoint = config.address
        self.account = config.account
        self.timeout = config.timeout
        known = config.model_name or infer_model(config.target)
        self._profile = self._profile_of(config)
        send_temperature = known is not None or "temperature" in config.model_fields_set
        self._defaults = ChatOptions(
            max_tokens=config.max_tokens,
            temperature=config.temperature if send_temperature else None,
            timeout=config.timeout,
            extra_body=self._always_sent(config),
        )
        self._costs = self._new_costs(config)
        secrets = Secrets(config.secrets, tokens, keys)
        self._debug = WireDebug.of(wire_debug, secrets.mask)
        self._failures = self._new_failures(secrets)
        self._knowledge = Knowledge(config.target, self.name)
        self._connections = Connections(
            sdk, http_client, async_http_client, self._debug, fast=config.fast is not False
        )
        self._encoded: tuple[object, EncodedTools] = ((), encode_tools(()))

    # ── what is a service's own ──────────────────────────────────────────────────────────

    @abstractmethod
    def _route(self, surface: Surface) -> Route:
        """Where requests of ``surface`` go."""

    def _new_failures(self, secrets: Secrets) -> Failures:
        """What makes errors of ours of whatever goes wrong."""
        return Failures(self.config, self._profile, self._costs, secrets, self._debug)

    def _profile_of(self, config: C) -> ModelProfile:
        """What the model can do, as far as the service lets it."""
        return profile_for(config.model_name or config.target)

    @abstractmethod
    def _new_costs(self, config: C) -> CallCosts:
        """What prices the calls."""

    def _always_sent(self, config: C) -> Mapping[str, Any]:
        """What stands in the body of every request."""
        return {}

    def _check(self, messages: Sequence[Message], tools: Sequence[ToolSpec], settings: ChatOptions) -> None:
        """Raise `ConfigError` for what can be told of a call before it is sent."""
        check_call(messages, tools, settings, self._profile, self.model)

    # ── what is known before a call ──────────────────────────────────────────────────────

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
        """The most a call of at most so many tokens can cost, in USD, whatever is reported of it.

        Cached input, cache writes, the long context and the tier are taken at their dearest. Priced as
        the deployment's model, or as the model that served it last, whichever is dearer. `Cost.unknown`
        where the model or its price is not known, as before the answers of a model router.
        """
        asked = self._defaults.extra_body.get("service_tier")
        if options is not None:
            asked = options.extra_body.get("service_tier", asked)
        return self._costs.most(input_tokens, output_tokens, asked if isinstance(asked, str) else None)

    def describe(self) -> Description:
        """Every resolved setting and where it came from, secrets masked."""
        config: Any = self.config
        settings = []
        for name in type(config).model_fields:
            value = getattr(config, name)
            if name == "sources" or (name == "prices" and not value):
                continue
            if name == "api_key" and self._keys is not None:
                continue
            if isinstance(value, SecretStr):
                value = masked(value.get_secret_value())
            settings.append(Setting(name, value, self._source_of(name)))
        for name, tokens in (("credential", self._tokens), ("api_key", self._keys)):
            if tokens is not None:
                settings.append(Setting(name, tokens.described, "argument"))
        settings += self._derived()
        lessons = self._knowledge.lessons
        if not lessons.is_empty:
            settings.append(Setting("learned", str(lessons), f"answers of {self.service}"))
        return Description(settings)

    def _source_of(self, name: str) -> str:
        """Where a setting came from."""
        return self.config.sources.get(name, "default")

    def _derived(self) -> list[Setting]:
        """What follows from the settings, and is worth telling."""
        return []

    # ── the four verbs ───────────────────────────────────────────────────────────────────

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """One reply from the model. Raises errors of `loom_py.errors` only."""
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
        self._check(messages, tools, settings)
        attempts = Attempts(
            self._knowledge,
            self._knowledge.lessons,
            has_renewable_token=(self._keys or self._tokens) is not None and self.config.api_key is None,
            may_switch=self.config.surface == "auto",
        )
        return _Call(self, messages, self._encode_tools(tools), settings, stream, attempts)

    def _write(self, call: _Call) -> _Request:
        """The request of a call, by what the model has taught so far."""
        lessons, config = call.attempts.lessons, self.config
        has_tools = bool(call.tools.definitions)
        profile = lessons.profile(self._profile)
        surface = self.surfaces[choose_surface(config, profile, call.settings, has_tools=has_tools).name]
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
            self._route(surface),
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
