"""`BedrockProvider`: a model on AWS Bedrock as an `LLMProvider`, by boto3's Converse and ConverseStream."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from loom_bedrock.answers import decode_response
from loom_bedrock.config import BedrockConfig, Guardrail
from loom_bedrock.connections import CONNECT_TIMEOUT, Connections
from loom_bedrock.costs import BedrockCosts
from loom_bedrock.credentials import Login
from loom_bedrock.exchange import Exchange
from loom_bedrock.failures import failure_of
from loom_bedrock.models import parse_model_id
from loom_bedrock.profiles import profile_of
from loom_bedrock.secrets import Mask
from loom_bedrock.stream import StreamAssembler
from loom_bedrock.wire import ConverseRequest, encode_request, reply_limit
from loom_py._closing import Closing
from loom_py.description import Description, Setting, masked
from loom_py.errors import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    RequestTimeoutError,
    StreamInterruptedError,
)
from loom_py.events import FinalResponse, StreamEvent, UsageEvent
from loom_py.llm.costs import Cost
from loom_py.llm.prices import PriceSetting
from loom_py.llm.profiles import ModelProfile
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions
from loom_py.tools.threads import in_thread

if TYPE_CHECKING:
    import boto3  # type: ignore[import-untyped]

__all__ = ["BedrockProvider"]

EVENT_STREAM = "application/vnd.amazon.eventstream"


class _Call:
    """Everything that belongs to one call, and to no other."""

    __slots__ = ("exchange", "request", "request_id", "settings", "started", "timeout")

    def __init__(self, request: ConverseRequest, settings: ChatOptions, timeout: float) -> None:
        self.request = request
        self.settings = settings
        self.timeout = settings.timeout or timeout
        self.started = time.perf_counter()
        self.request_id: str | None = None
        self.exchange = Exchange(
            connect_timeout=settings.connect_timeout or min(CONNECT_TIMEOUT, self.timeout),
            end=time.monotonic() + (settings.total_timeout or math.inf),
            headers=request.headers,
        )

    def wait(self) -> None:
        """Something is awaited from Bedrock now, for so long and no longer."""
        self.exchange.within(self.timeout)

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Bedrock took the request."""
        self.request_id = (answer.get("ResponseMetadata") or {}).get("RequestId") or self.request_id

    def timed_out(self) -> RequestTimeoutError:
        """The error of a call whose time was over."""
        total = self.settings.total_timeout
        if total is not None and time.monotonic() >= self.exchange.end:
            message = f"timed out: the call was not over after {total:g} s"
            hint = "Raise total_timeout=, or ask for less at once."
        else:
            message = f"timed out waiting for an answer after {self.timeout:g} s"
            hint = "Raise timeout=, or ask for less at once."
        return RequestTimeoutError(message, hint=hint, sent=self.exchange.sent)


class BedrockProvider(Closing, BaseProvider):
    """A model on AWS Bedrock.

    ::

        provider = BedrockProvider(region="us-east-1", model="us.amazon.nova-lite-v1:0")

    Args:
        model: a model id, an inference profile id (``us.anthropic.claude-…``) or an ARN.
        region: of AWS; else that of the ARN, of the session, of ``AWS_REGION`` or of the AWS profile.
        profile: a profile of the AWS configuration.
        endpoint_url: another endpoint, such as that of a VPC.
        access_key_id: with ``secret_access_key`` and, for temporary ones, ``session_token``: credentials.
        session: a `boto3.Session` with credentials of its own, in place of all these.
        max_tokens: the most tokens of a reply. Unless given 8,192, or less where the model has less; the
            model's own limit where that is not known. A thinking budget comes on top.
        temperature: 0.0 to 1.0; the model's own unless given.
        timeout: seconds for a whole answer, and for each event of a stream.
        prices: the user's own prices by model id; see `loom_py.llm.prices.PriceOverride`.
        model_name: the model behind an ARN that does not tell it.
        guardrail: a `Guardrail`, its fields, or ``"id:version"``.
        prompt_cache: whether every call sets cache points; by default those with a ``prompt_cache_key``.
        extra_fields: what goes into every request besides.

    Without credentials in the arguments, boto3's usual chain is asked, at the first call.

    Raises `ConfigError` and those below it for a setting that is wrong or missing, `MissingAuthError`
    where it is certain that there are no credentials, and a `BuilderError` with all problems if there
    are several.
    """

    name = "bedrock"

    def __init__(
        self,
        *,
        model: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        access_key_id: str | SecretStr | None = None,
        secret_access_key: str | SecretStr | None = None,
        session_token: str | SecretStr | None = None,
        session: boto3.Session | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        model_name: str | None = None,
        guardrail: Guardrail | Mapping[str, Any] | str | None = None,
        prompt_cache: bool | None = None,
        extra_fields: Mapping[str, Any] | None = None,
    ) -> None:
        settings = {
            "model": model,
            "region": region,
            "profile": profile,
            "endpoint_url": endpoint_url,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
            "session_token": session_token,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "timeout": timeout,
            "prices": prices,
            "model_name": model_name,
            "guardrail": guardrail,
            "prompt_cache": prompt_cache,
            "extra_fields": extra_fields,
        }
        login = Login(session, settings)
        self.config = BedrockConfig.resolve(
            settings, region=login.region, has_session=session is not None, problems=login.problems
        )
        config = self.config
        self.model = config.model
        self.endpoint = config.endpoint
        self.timeout = config.timeout
        self._profile = profile_of(parse_model_id(config.named_model).name)
        self._defaults = ChatOptions(max_tokens=config.max_tokens, temperature=config.temperature)
        self._costs = BedrockCosts(config)
        self._login = login
        self._connections = Connections(config, login)
        self._mask = Mask(config, lambda: self._connections.known_secrets)
        if login.is_at_hand:
            self._open()

    def _open(self) -> None:
        """Make the client now: it takes nothing from the network, and tells what botocore dislikes."""
        try:
            self._connections.client()
        except Exception as exc:  # noqa: BLE001 - whatever botocore raises becomes ours
            failure = failure_of(exc, endpoint=self.endpoint or "", sent=False)
        else:
            return
        raise failure

    def __repr__(self) -> str:
        return f"BedrockProvider(model={self.config.model!r}, region={self.config.region!r})"

    @property
    def profile(self) -> ModelProfile:
        """What the model can do, as far as its id or ``model_name`` tells."""
        return self._profile

    def output_limit(self, options: ChatOptions | None = None) -> int | None:
        """The most tokens the reply can have; ``None`` where none is set and the model's own is not known."""
        settings = self._defaults.merged(options)
        limit: Any = reply_limit(settings, self.config)
        for extra in (self.config.extra_fields, settings.extra_body):
            inference = extra.get("inferenceConfig")
            if isinstance(inference, Mapping):
                limit = inference.get("maxTokens", limit)
        return limit if type(limit) is int else None

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        """The most a call of at most so many tokens can cost, in USD; cached input at its dearest."""
        return self._costs.most(input_tokens, output_tokens)

    def describe(self) -> Description:
        """Every resolved setting and where it came from, secrets masked."""
        settings = []
        for name in type(self.config).model_fields:
            value = getattr(self.config, name)
            if name == "max_tokens":
                value = reply_limit(ChatOptions(), self.config)
            if name == "sources" or value is None or value in ({}, ()):
                continue
            if isinstance(value, SecretStr):
                value = masked(value.get_secret_value())
            settings.append(Setting(name, value, self.config.sources.get(name, "default")))
        if self.config.endpoint_url is None:
            settings.append(Setting("endpoint_url", self.endpoint, "region"))
        settings.append(Setting("credentials", self._login.kind, self._login.source))
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
        return self._converse(self._begin(messages, tools, options))

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """`chat` in a thread. Cancelled, it hangs up at once."""
        call = self._begin(messages, tools, options)
        try:
            return await asyncio.wrap_future(in_thread(partial(self._converse, call)))
        except asyncio.CancelledError:
            call.exchange.break_off("cancelled")
            raise

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        """One reply as events; the last carries the response. Closing it early hangs up."""
        yield from self._events(self._begin(messages, tools, options))

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """`stream_chat`, each step of it in a thread. Cancelled or closed, it hangs up at once."""
        call = self._begin(messages, tools, options)
        events = self._events(call)
        step = None
        try:
            while True:
                step = in_thread(partial(next, events, None))
                event = await asyncio.wrap_future(step)
                if event is None:
                    return
                yield event
        finally:
            call.exchange.break_off("cancelled")  # says nothing where it is over
            if step is not None:  # a step that still runs fails now, and the generator with it
                step.add_done_callback(lambda _: events.close())

    # ── one call ─────────────────────────────────────────────────────────────────────────

    def _begin(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], options: ChatOptions | None
    ) -> _Call:
        settings = self._defaults.merged(options)
        failure: LoomError
        try:
            request = encode_request(messages, tools, settings, self.config)
            return _Call(request, settings, self.config.timeout)
        except InvalidRequestError as error:
            failure = error
        failure.deployment = self.model
        raise failure

    def _converse(self, call: _Call) -> Response:
        failure: LoomError
        try:
            call.wait()
            with call.exchange.sending():
                answer = self._connections.client().converse(**call.request.params)
            call.exchange.finish()
            call.answered(answer)
            return self._complete(call, decode_response(answer, call.request))
        except Exception as exc:  # noqa: BLE001 - whatever boto3 raises becomes ours
            failure = self._failure(exc, call)
        finally:
            call.exchange.finish()
        raise failure

    def _events(self, call: _Call) -> Generator[StreamEvent, None, None]:
        assembler = StreamAssembler(call.request)
        failure: LoomError | None = None
        stream: Any = None
        try:
            call.wait()
            with call.exchange.sending():
                answer = self._connections.client().converse_stream(**call.request.params)
            call.answered(answer)
            stream = answer["stream"]
            _check_kind(answer)
            events = iter(stream)
            while True:
                call.wait()
                event = next(events, None)
                call.exchange.rest()
                if event is None:
                    break
                yield from assembler.feed(event)
            call.exchange.check()
        except Exception as exc:  # noqa: BLE001 - whatever boto3 raises becomes ours
            failure = self._stream_failure(exc, call, assembler)
        finally:
            call.exchange.finish()
            if stream is not None:
                stream.close()
        if failure is not None:
            raise failure
        yield from self._last_events(call, assembler)

    def _last_events(self, call: _Call, assembler: StreamAssembler) -> Iterator[StreamEvent]:
        try:
            response = self._complete(call, assembler.finish())
        except LoomError as error:
            failure = self._told(error, call)
        else:
            yield UsageEvent(response.tokens_used)
            yield FinalResponse(response)
            return
        raise failure

    def _complete(self, call: _Call, response: Response) -> Response:
        """The response with its model, its price and what is known of the call."""
        cost = self._costs.cost(response.tokens_used, response.metadata)
        metadata = {
            "request_id": call.request_id,
            **response.metadata,
            "deployment": self.model,
            "region": self.config.region,
            "finish_reason": response.finish_reason,
            "latency_ms": round((time.perf_counter() - call.started) * 1000, 1),
            "cost": cost.to_dict(),
        }
        served = str(response.metadata.get("routed_to") or self.model)
        return replace(response, model=served, cost_usd=cost.usd, metadata=metadata)

    # ── what went wrong ──────────────────────────────────────────────────────────────────

    def _failure(self, exc: Exception, call: _Call) -> LoomError:
        if call.exchange.reason == "timeout":  # what was read by then is no answer, whatever it looks like
            return self._told(call.timed_out(), call)
        error = failure_of(exc, endpoint=self.endpoint or "", sent=call.exchange.sent)
        if isinstance(error, AuthenticationError):
            self._connections.forget()  # a client keeps the credentials it has found, or not found
        return self._told(error, call)

    def _stream_failure(self, exc: Exception, call: _Call, assembler: StreamAssembler) -> LoomError | None:
        """The error of a stream that broke; ``None`` where all of the answer had come before."""
        if assembler.is_whole:
            return None
        error = self._failure(exc, call)
        if not assembler.has_output or isinstance(error, (ContextLengthError, StreamInterruptedError)):
            return error
        broken = assembler.interrupted(
            f"the stream broke off: {error.message}",
            provider_code=getattr(error, "provider_code", None),
            retry_after=error.retry_after,
        )
        return self._told(broken, call)

    def _told(self, error: LoomError, call: _Call) -> LoomError:
        """``error`` with what only the provider knows, and without any credential in its text."""
        error.deployment = error.deployment or self.model
        error.request_id = error.request_id or call.request_id
        error.message = self._mask(error.message)
        error.args = (error.message,)
        if error.cost_usd is None and error.tokens_used:
            error.cost_usd = self._costs.cost(error.tokens_used).usd
        return error

    # ── closing ──────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Close the idle connections. A later call opens new ones."""
        self._connections.close()


def _check_kind(answer: Mapping[str, Any]) -> None:
    """Raise `MalformedResponseError` for a stream that is none, such as a proxy's page."""
    headers = (answer.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    kind = headers.get("content-type", EVENT_STREAM)
    if not kind.startswith(EVENT_STREAM):
        raise MalformedResponseError(
            f"the answer is {kind or 'of no kind'}, not an event stream",
            hint="Look for a proxy between here and Bedrock that answers itself.",
        )
