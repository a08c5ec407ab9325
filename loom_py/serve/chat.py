"""``POST /v1/chat/completions``: one request on its way through an agent."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from starlette.types import Receive, Scope, Send

from loom_py._log import get_logger
from loom_py.agent import Agent
from loom_py.conversation import Conversation
from loom_py.errors import DeadlineExceededError, LoomError
from loom_py.events import StreamEvent
from loom_py.llm.estimates import estimate_tokens
from loom_py.messages import Response, TokenUsage
from loom_py.output import OUTPUT_TOOL
from loom_py.serve.answers import Chunks, completion
from loom_py.serve.callers import Caller
from loom_py.serve.exchange import ClientGoneError, Exchange
from loom_py.serve.failures import HTTPError, failure_of
from loom_py.serve.requests import Ask, parse_chat
from loom_py.serve.service import Service
from loom_py.serve.sessions import HEADER, checked_id
from loom_py.serve.streaming import EventLog, StreamWriter
from loom_py.serve.watching import listening

__all__ = ["ChatEndpoint", "where_of"]

EVENTS = "X-Loom-Events"
"""The header by which a client asks for what happens on the way to the answer."""

_YES = ("1", "true", "yes")

_log = get_logger()


@dataclass(slots=True)
class _Job:
    """One chat that was let in, and what became of it."""

    exchange: Exchange
    caller: Caller
    ask: Ask
    agent: Agent
    session: str | None
    events: EventLog | None
    began: float = field(default_factory=time.perf_counter)
    status: int = 0
    usage: TokenUsage | None = None
    cost: Decimal | None = None
    code: str | None = None
    writer: StreamWriter | None = None


class ChatEndpoint:
    """Answers chats. A client that hangs up ends its chat at once."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        exchange = self._service.exchange(scope, receive, send)
        try:
            try:
                job = await self._let_in(exchange)
            except LoomError as error:
                await self._refuse(exchange, error)
                return
        except ClientGoneError:
            return
        await self._while_there(job)

    async def _let_in(self, exchange: Exchange) -> _Job:
        """Who asks what of which agent. Raises `LoomError`, and `ClientGoneError`."""
        service = self._service
        caller = service.caller(exchange.headers)
        ask = parse_chat(await exchange.json_body())
        session = exchange.headers.get(HEADER)
        if session is not None:
            checked_id(session)
            if service.sessions is None:
                message = "this server has several workers, which keep no sessions: send the whole history"
                raise HTTPError(400, message, code="sessions_unavailable")
        agent = service.agent(ask.model)
        _check_names(ask, agent)
        is_told = service.config.show_events and exchange.headers.get(EVENTS, "").lower() in _YES
        events = EventLog() if is_told else None
        return _Job(exchange, caller, ask, agent, session, events)

    async def _refuse(self, exchange: Exchange, error: LoomError) -> None:
        failure = failure_of(error, from_agent=False)
        self._service.metrics.refused.labels(failure.error["code"]).inc()
        _log.info("request_refused", request_id=exchange.request_id, status=failure.status, error=error.code)
        await exchange.answer(failure.status, failure.body, failure.headers)

    async def _while_there(self, job: _Job) -> None:
        """Run the chat until it is over, or nobody listens any more."""
        work = asyncio.create_task(self._run(job))
        watch = asyncio.create_task(job.exchange.gone())
        self._service.running.add(work)
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._service.running.discard(work)
            watch.cancel()
            if not work.done():
                work.cancel()
            await asyncio.wait({work, watch})
            if not work.cancelled():
                work.result()

    # ── one chat ─────────────────────────────────────────────────────────────────────────

    async def _run(self, job: _Job) -> None:
        try:
            await self._answered(job)
        except ClientGoneError:
            job.status, job.code = 499, "client_gone"
        except asyncio.CancelledError:
            if not self._service.is_cut:
                job.status, job.code = 499, "client_gone"
                raise
            stopping = HTTPError(503, "the server is stopping", code="server_stopping", retry_after=1)
            await self._fail(job, stopping)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            await self._fail(job, error)
        finally:
            self._record(job)

    async def _answered(self, job: _Job) -> None:
        service = self._service
        with service.slot(), job.caller.paying():
            async with AsyncExitStack() as stack:
                if job.events is not None:
                    stack.enter_context(listening(job.events.hear))
                options = job.ask.options
                tokens = estimate_tokens(job.ask.messages, job.ask.tools, options.max_tokens)
                admission = await service.callers.admit(job.caller, tokens)
                stack.callback(lambda: admission.end(None if job.usage is None else job.usage.total))
                await stack.enter_async_context(self._in_time())
                conversation, session = await self._conversation(job, stack)
                answer = self._stream if job.ask.stream else self._whole
                try:
                    response = await answer(job, conversation, session)
                except LoomError as error:
                    job.usage, job.cost = error.tokens_used or job.usage, error.cost_usd
                    raise
                job.status = 200
                service.metrics.used_tools(job.ask.model, response.tool_results)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        most = self._service.config.request_timeout
        try:
            async with asyncio.timeout(most):
                yield
        except TimeoutError:
            raise DeadlineExceededError(f"the answer took more than {most:g} s") from None

    async def _conversation(self, job: _Job, stack: AsyncExitStack) -> tuple[Conversation, str | None]:
        """What the agent is asked, and in which session; the session is taken until the stack is closed."""
        sessions = self._service.sessions
        if job.session is None or sessions is None:
            return job.ask.whole(), None
        taken = sessions.taken(job.agent, job.ask.model, job.caller.name, job.session)
        place = await stack.enter_async_context(taken)
        return job.ask.since(place.known), place.id

    async def _whole(self, job: _Job, conversation: Conversation, session: str | None) -> Response:
        options = job.ask.options
        if job.events is None:
            response = await job.agent.achat(conversation, session_id=session, options=options)
        else:
            final = None
            async with aclosing(_events(job, conversation, session)) as events:
                async for event in events:
                    job.events.take(event)
                    final = event.response or final
            assert final is not None
            response = final
        events_taken = None if job.events is None else job.events.taken()
        body = completion(response, job.ask.model, job.exchange.request_id, events_taken)
        job.usage, job.cost = response.tokens_used, response.cost_usd
        await job.exchange.answer(200, body, {"content-type": "application/json"})
        return response

    async def _stream(self, job: _Job, conversation: Conversation, session: str | None) -> Response:
        chunks = Chunks(job.ask.model, job.exchange.request_id, include_usage=job.ask.include_usage)
        job.writer = writer = StreamWriter(job.exchange, chunks, job.events)
        response = None
        async with writer, aclosing(_events(job, conversation, session)) as events:
            async for event in events:
                if not job.exchange.started:
                    elapsed = time.perf_counter() - job.began
                    self._service.metrics.first_byte.labels(job.ask.model).observe(elapsed)
                if (response := event.response) is not None:
                    job.usage, job.cost = response.tokens_used, response.cost_usd
                await writer.take(event)
        assert response is not None
        await writer.end(response)
        return response

    # ── how it ended ─────────────────────────────────────────────────────────────────────

    async def _fail(self, job: _Job, error: BaseException) -> None:
        """Tell the client: as the answer, or as the last event of its stream."""
        is_known = isinstance(error, LoomError)
        given = job.ask.given - {"tools"} if job.agent.tools else job.ask.given
        failure = failure_of(error, from_agent=True, given=given)
        job.status, job.code = failure.status, failure.error["code"]
        detail: dict[str, Any] = {"error": job.code} if is_known else {"error": type(error).__name__}
        if not is_known:
            detail["where"] = where_of(error)
        elif failure.status >= 500 and isinstance(error, LoomError):
            detail["upstream_request_id"] = error.request_id  # the agent has logged the rest
        emit = _log.warning if failure.status >= 500 else _log.info
        emit("request_failed", request_id=job.exchange.request_id, status=failure.status, **detail)
        try:
            if job.exchange.started and job.writer is not None:
                await job.writer.fail(failure)
            elif not job.exchange.started:
                await job.exchange.answer(failure.status, failure.body, failure.headers)
        except ClientGoneError:
            job.code = "client_gone"

    def _record(self, job: _Job) -> None:
        metrics, model, key = self._service.metrics, job.ask.model, job.caller.name
        seconds = time.perf_counter() - job.began
        metrics.requests.labels(model, key, str(job.status)).inc()
        metrics.seconds.labels(model).observe(seconds)
        if job.usage is not None:
            metrics.spent(model, key, job.usage, job.cost)
        _log.info(
            "request",
            request_id=job.exchange.request_id,
            model=model,
            key=key or None,
            stream=job.ask.stream,
            status=job.status,
            error=job.code,
            tokens=None if job.usage is None else job.usage.total,
            cost_usd=None if job.cost is None else str(job.cost),
            latency_ms=round(seconds * 1000, 1),
        )


def _check_names(ask: Ask, agent: Agent) -> None:
    """Raises `HTTPError` where the caller's tools could not be told from the agent's."""
    taken = {OUTPUT_TOOL, *(tool.name for tool in agent.tools)}
    if clash := sorted(taken & {tool.name for tool in ask.tools}):
        message = f"the agent has a tool of that name itself: {', '.join(clash)}"
        raise HTTPError(400, message, code="invalid_tools", param="tools", hint="Give yours another name.")


def _events(job: _Job, conversation: Conversation, session: str | None) -> AsyncGenerator[StreamEvent, None]:
    return job.agent.astream_chat(conversation, session_id=session, options=job.ask.options)


def where_of(error: BaseException) -> str:
    """Where an unexpected error was raised. Its message stays out of the log: it may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    last = frames[-1]
    return f"{last.filename.rpartition('/')[2]}:{last.lineno} in {last.name}"
