"""The emulated API as an ASGI application: routing, checks, and who answers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message as ASGIMessage
from starlette.types import Receive, Scope, Send

from loom_anthropic.emulator.checks import check_body, check_version
from loom_anthropic.emulator.decode import MessagesRequest, decode_request
from loom_anthropic.emulator.encode import StreamEncoder, encode_message, frame, new_id
from loom_anthropic.emulator.errors import api_error, as_wire_error, body_of, invalid
from loom_anthropic.emulator.limits import RateLimits
from loom_anthropic.emulator.troubles import Cut, Fault, Plan, RawAnswer, StreamError, Troubles
from loom_anthropic.profiles import MODELS, ClaudeModel, bare_name, claude_model
from loom_anthropic.raw_json import dumps, loads
from loom_py.clock import RealClock
from loom_py.emulator.exchange import ABORT, Reply, StreamCutError
from loom_py.emulator.resource import RecordedRequest, RequestLog, masked
from loom_py.emulator.wire_errors import WireError
from loom_py.errors import ConnectionFailedError, ContentFilterError, IncompleteResponseError
from loom_py.errors import StreamInterruptedError as Interrupted
from loom_py.llm.estimates import estimate_usage
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Message, Response

__all__ = ["AnthropicApp", "Organization"]

log = logging.getLogger("loom_anthropic.emulator")

MAX_BODY = 32 * 2**20
"""32 MiB, in bytes: the service's limit of a request."""


@dataclass(slots=True)
class Organization:
    """The settings and the state behind the emulated API."""

    engine: LLMProvider
    api_keys: tuple[str, ...]
    models: Mapping[str, ClaudeModel] = field(default_factory=lambda: dict(MODELS))
    limits: RateLimits = field(default_factory=RateLimits)
    troubles: Troubles = field(default_factory=Troubles)
    log: RequestLog = field(default_factory=lambda: RequestLog(10_000))
    thinking: str | None = None

    def thought(self, request: MessagesRequest) -> str | None:
        """What the model thinks before its reply; ``None`` where it does not think."""
        said = request.options.extra_body.get("thinking", {}).get("type")
        thinks = claude_model(request.model).thinks if said is None else said in {"enabled", "adaptive"}
        return self.thinking if thinks else None

    def model(self, name: Any) -> ClaudeModel:
        """What the model of that name can do. Raises `WireError` (404) where there is none."""
        if not isinstance(name, str) or not name:
            what = "Field required" if name is None else "Input should be a valid string"
            raise invalid(f"model: {what}")
        if name in self.models or bare_name(name) in self.models:
            return self.models.get(name) or claude_model(name)
        raise api_error(404, "not_found_error", f"model: {name}")

    def authenticate(self, headers: Mapping[str, str]) -> None:
        """Raises `WireError` (401) unless ``headers`` hold a key; ``x-api-key`` wins over a bearer token."""
        key = headers.get("x-api-key")
        if key is None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                raise api_error(401, "authentication_error", "x-api-key header is required")
            key = token.strip()
        if key not in self.api_keys:
            raise api_error(401, "authentication_error", "invalid x-api-key")


class AnthropicApp:
    """Answers HTTP requests as the API of ``organization`` would. Each request is a task of its own."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self._running: set[asyncio.Task[None]] = set()

    def abort(self) -> None:
        """End every request in flight by cutting it off."""
        for task in self._running:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        record = RecordedRequest(
            request.method, scope["path"], dict(request.query_params), _masked(request.headers)
        )
        self.organization.log.add(record)
        exchange = _Exchange(self.organization, request, Reply(send, record, RealClock()))
        work = asyncio.ensure_future(exchange.serve())
        self._running.add(work)
        try:
            await asyncio.wait({work})
        finally:
            self._running.discard(work)
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        if work.cancelled():
            raise StreamCutError("the request was given up")
        work.result()


def _masked(headers: Mapping[str, str]) -> dict[str, str]:
    shown = masked(dict(headers))
    if "x-api-key" in shown:
        shown["x-api-key"] = "***"
    return shown


class _Exchange:
    """One request on its way through, and its answer on its way out."""

    def __init__(self, organization: Organization, request: Request, reply: Reply) -> None:
        self._organization = organization
        self._request = request
        self._reply = reply
        self._id = new_id("req")

    async def serve(self) -> None:
        try:
            await self._answer()
        except ClientDisconnect:
            return
        except WireError as error:
            await self._refuse(error)
        except ConnectionResetError:
            raise  # a StreamCutError: the server drops the connection
        except ConnectionFailedError:
            self._abort()
        except Exception as error:
            self._reply.record.error = error
            if self._reply.started:
                log.exception("the emulator failed in the middle of an answer")
                raise StreamCutError("the emulator failed") from error
            await self._refuse(as_wire_error(error))

    def _abort(self) -> None:
        self._request.scope.get(ABORT, lambda: None)()
        raise StreamCutError("this connection was to be dropped")

    def _headers(self) -> dict[str, str]:
        return {
            "request-id": self._id,
            "anthropic-organization-id": "5f1c1c3a-0000-4000-8000-emulated0000",
            **self._organization.limits.headers(),
        }

    async def _refuse(self, error: WireError) -> None:
        if self._reply.started:
            raise StreamCutError("an error after the answer had begun")
        body = error.body
        if isinstance(body, Mapping):
            body = dumps({**body, "request_id": self._id})
        elif isinstance(body, str):
            body = body.encode()
        headers = {**self._headers(), **error.headers}
        if error.media_type is not None:
            headers["content-type"] = error.media_type
        await self._reply.whole(error.status, headers, body)

    # ── routing and checks ───────────────────────────────────────────────────────────────

    async def _answer(self) -> None:
        path = self._request.scope["path"]
        raw = await self._read()
        if path == "/v1/messages" and self._request.method == "POST":
            await self._messages(raw)
        elif path.startswith("/v1/models") and self._request.method == "GET":
            await self._models(path.removeprefix("/v1/models").strip("/"))
        elif path == "/v1/messages":
            raise api_error(405, "invalid_request_error", "Method Not Allowed")
        else:
            raise api_error(404, "not_found_error", "Not Found")

    async def _read(self) -> bytes:
        pieces, size = [], 0
        async for piece in self._request.stream():
            size += len(piece)
            if size <= MAX_BODY:
                pieces.append(piece)
        if size > MAX_BODY:
            raise api_error(413, "request_too_large", "Request exceeds the maximum size")
        return b"".join(pieces)

    async def _models(self, name: str) -> None:
        self._organization.authenticate(self._request.headers)
        check_version(self._request.headers.get("anthropic-version"))
        if name:
            body: dict[str, Any] = _model_info(name, self._organization.model(name))
        else:
            data = [_model_info(one, model) for one, model in self._organization.models.items()]
            body = {"data": data, "has_more": False, "first_id": None, "last_id": None}
        await self._reply.whole(200, {**self._headers(), "content-type": "application/json"}, dumps(body))

    async def _messages(self, raw: bytes) -> None:
        body = _parsed(raw)
        record, headers = self._reply.record, self._request.headers
        record.body = body
        record.deployment = body.get("model") if isinstance(body.get("model"), str) else None
        plan = self._organization.troubles.next(stream=body.get("stream") is True)
        watch = asyncio.ensure_future(self._cancel_on_disconnect(asyncio.current_task()))
        try:
            if plan.delay:
                await asyncio.sleep(plan.delay)
            if await self._is_scripted(plan):
                return
            self._organization.authenticate(headers)
            check_version(headers.get("anthropic-version"))
            model = self._organization.model(body.get("model"))
            check_body(body, model, headers["anthropic-version"])
            request = decode_request(body)
            usage = estimate_usage(request.messages, request.tools, Message.assistant(""))
            self._organization.limits.admit(usage.input)
            if request.stream:
                await self._stream(request, plan)
            else:
                await self._whole(request)
        finally:
            watch.cancel()

    async def _is_scripted(self, plan: Plan) -> bool:
        """Whether a test has scripted the whole answer, which is sent then."""
        if isinstance(plan.trouble, Fault):
            raise plan.trouble.to_error()
        if not isinstance(plan.trouble, RawAnswer):
            return False
        body = plan.trouble.body
        content = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else dumps(body)
        await self._reply.whole(plan.trouble.status, {**self._headers(), **plan.trouble.headers}, content)
        return True

    async def _cancel_on_disconnect(self, work: asyncio.Task[Any] | None) -> None:
        message: ASGIMessage = {}
        while message.get("type") != "http.disconnect":
            message = await self._request.receive()
        if work is not None and not self._reply.complete:
            work.cancel()

    # ── answers ──────────────────────────────────────────────────────────────────────────

    async def _whole(self, request: MessagesRequest) -> None:
        engine = self._organization.engine
        try:
            response = await engine.achat(request.messages, request.tools, options=request.options)
        except (ContentFilterError, IncompleteResponseError) as error:
            response = _ended_early(error)
        self._organization.limits.spend(response.tokens_used.output)
        headers = {**self._headers(), "content-type": "application/json"}
        await self._reply.whole(
            200, headers, dumps(encode_message(response, request.model, self._organization.thought(request)))
        )

    async def _stream(self, request: MessagesRequest, plan: Plan) -> None:
        usage = estimate_usage(request.messages, request.tools, Message.assistant(""))
        out = _Out(self._reply, {**self._headers(), "content-type": "text/event-stream; charset=utf-8"}, plan)
        encoder = StreamEncoder(request.model, usage, self._organization.thought(request))
        engine = self._organization.engine
        try:
            response = None
            async for event in engine.astream_chat(request.messages, request.tools, options=request.options):
                await out.send(*(() if out.started else encoder.start()), *encoder.feed(event))
                response = event.response
        except (ContentFilterError, IncompleteResponseError) as error:
            response = _ended_early(error)
            if not out.started:
                await out.send(*encoder.start())
        except Interrupted as error:
            await out.send()
            raise StreamCutError("the stream was cut by the model") from error
        except ConnectionFailedError:
            raise
        except Exception as error:
            if not out.started:
                raise
            wire = as_wire_error(error)
            await out.send(wire.body if isinstance(wire.body, dict) else body_of("api_error", "failed"))
            await out.end()
            return
        if response is None:
            raise StreamCutError("the model gave no response")
        self._organization.limits.spend(response.tokens_used.output)
        await out.send(*encoder.finish(response))
        await out.end()


class _Out:
    """The events of a stream on their way out, and what a test wants to happen to them."""

    def __init__(self, reply: Reply, headers: dict[str, str], plan: Plan) -> None:
        self._reply = reply
        self._headers = headers
        self._trouble = plan.trouble
        self._sent = 0
        self.started = False

    async def send(self, *events: Mapping[str, Any]) -> None:
        """Send events; the first call begins the answer."""
        if not self.started:
            self.started = True
            await self._reply.start(200, self._headers)
        for event in events:
            await self._strike()
            await self._reply.write(frame(event))
            self._sent += 1

    async def _strike(self) -> None:
        trouble = self._trouble
        if not isinstance(trouble, (Cut, StreamError)) or self._sent < trouble.after_events:
            return
        if isinstance(trouble, StreamError):
            await self._reply.write(frame(body_of(trouble.type, trouble.message)))
        elif not trouble.clean:
            await asyncio.sleep(0.01)  # what was written shall arrive before the end
            raise StreamCutError("this stream was to be cut")
        await self._reply.end()
        raise ClientDisconnect

    async def end(self) -> None:
        """The answer is whole."""
        await self._reply.end()


def _ended_early(error: ContentFilterError | IncompleteResponseError) -> Response:
    """The reply that stands for a filter or a token limit that came before any text."""
    usage = error.tokens_used or estimate_usage((), (), Message.assistant(""))
    if isinstance(error, IncompleteResponseError):
        return Response("", usage, finish_reason="length")
    category = next(iter(error.filtered), None)
    details = {"type": "refusal", "category": category, "explanation": None}
    return Response(
        error.partial_text, usage, finish_reason="content_filter", provider_data={"stop_details": details}
    )


def _refuse_constant(name: str) -> None:
    """Python reads NaN and the infinities; the service does not."""
    raise ValueError(f"unexpected character: {name}")


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        json.loads(raw, parse_constant=_refuse_constant)
        body = loads(raw)
    except (ValueError, RecursionError) as error:
        raise invalid(f"The request body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise invalid("Input should be a valid dictionary")
    return body


def _model_info(name: str, model: ClaudeModel) -> dict[str, Any]:
    profile = model.profile

    def can(supported: bool) -> dict[str, bool]:
        return {"supported": supported}

    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": profile.context_window,
        "max_tokens": profile.max_output,
        "capabilities": {
            "image_input": can(profile.vision),
            "structured_outputs": can(profile.structured_output),
            "effort": {
                **can(bool(profile.efforts)),
                **{word: can(word in profile.efforts) for word in ("low", "medium", "high", "xhigh", "max")},
            },
            "thinking": {
                **can(bool(model.thinking)),
                "types": {
                    kind: can(kind in model.thinking)
                    for kind in ("adaptive", "enabled", "disabled", "between_tools")
                },
            },
        },
    }
