"""`Agent`: answers questions with a model and tools. Made by `AgentBuilder`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from dataclasses import fields, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from loom_py._closing import Closing
from loom_py._concurrency import run_coroutine, run_in_thread
from loom_py._streams import Stream
from loom_py.conversation import Conversation
from loom_py.description import Description, Setting
from loom_py.errors import AgentClosedError, ConfigError, DeadlineExceededError, ToolError
from loom_py.events import StreamEvent, ToolResultEvent
from loom_py.llm.costs import CostLedger, CostReport
from loom_py.loop import AgentRun, AskModel, Limits, RunTools, Step
from loom_py.messages import ContentPart, Message, Response, ToolResult, ToolSpec
from loom_py.options import ChatOptions
from loom_py.output import OUTPUT_TOOL, output_spec
from loom_py.resilience.breaker import CircuitBreaker, CircuitBreakers
from loom_py.resilience.events import ToolWithheld
from loom_py.resilience.gateway import ModelGateway
from loom_py.resilience.health import Health
from loom_py.sessions import Session, Sessions
from loom_py.tools import ToolExecutor, as_tool
from loom_py.turn import Turn, is_waited_for

if TYPE_CHECKING:
    from loom_py.backends import Backend
    from loom_py.llm.provider import LLMProvider
    from loom_py.resilience.shared import SharedState
    from loom_py.tools import Tool

__all__ = ["Agent"]

T = TypeVar("T")

_FREE_CHOICE = (None, "auto", "none")
_NONE: frozenset[str] = frozenset()

WITHHELD = "(These tools are out of service at the moment: {tools}. Do without them.)"


class Agent(Closing):
    """A model with tools, ready to be asked.

    The four verbs do the same and differ in how they answer. ``message`` is text, parts with images, or a
    `Conversation` whose history the caller keeps. Chats with the same ``session_id`` form one conversation
    and take turns; without one a chat stands alone. A chat that fails leaves its session as it was.

    An agent may be used by many threads and tasks at once. Close it with `close`, `aclose` or as
    a context manager; that closes its provider and backends too, unless they were given as shared.
    """

    def __init__(
        self,
        provider: LLMProvider,
        *,
        tools: Iterable[Tool[..., Any]] = (),
        backends: Iterable[Backend] = (),
        system_prompt: str | None = None,
        name: str = "agent",
        limits: Limits | None = None,
        output: Any = None,
        gateway: ModelGateway | None = None,
        tool_breakers: CircuitBreakers | None = None,
        owned: Iterable[Any] = (),
    ) -> None:
        self.name = name
        self.provider = provider
        self.backends = tuple(backends)
        self.system_prompt = system_prompt
        self.limits = limits or Limits()
        self.tools = tuple(map(as_tool, tools))
        self._owned = tuple(owned)
        self._closed = False
        self._sessions = Sessions()
        self._output = None if output is None else output_spec(output)
        self._gateway = gateway or ModelGateway.of(provider, ledger=CostLedger(agent=name))
        self._policies = self._gateway.policies
        timeouts = self._policies.timeouts
        self._tool_breakers = tool_breakers
        self._known_withheld = _NONE
        self._executor = ToolExecutor(
            self.tools, timeout=None if timeouts is None else timeouts.tool, guard=tool_breakers
        )
        self._specs = tuple(tool.spec for tool in self.tools)

    def __repr__(self) -> str:
        tools = ", ".join(tool.name for tool in self.tools)
        return f"Agent(name={self.name!r}, provider={self.provider!r}, tools=[{tools}])"

    @property
    def providers(self) -> tuple[LLMProvider, ...]:
        """Every provider that the agent may call, in the order in which they were given."""
        return tuple(lane.provider for lane in self._policies.lanes)

    # ── the four verbs ───────────────────────────────────────────────────────────────────

    @property
    def _ledger(self) -> CostLedger:
        assert self._gateway.call_log.ledger is not None
        return self._gateway.call_log.ledger

    @overload
    def chat(
        self,
        message: str | Sequence[ContentPart] | Conversation,
        *,
        session_id: str | None = None,
        options: ChatOptions | None = None,
        output: UnionType | None = None,
    ) -> Response: ...

    @overload
    def chat(
        self,
        message: str | Sequence[ContentPart] | Conversation,
        *,
        session_id: str | None = None,
        options: ChatOptions | None = None,
        output: type[T],
    ) -> Response[T]: ...

    def chat(
        self,
        message: str | Sequence[ContentPart] | Conversation,
        *,
        session_id: str | None = None,
        options: ChatOptions | None = None,
        output: type[Any] | UnionType | None = None,
    ) -> Response[Any]:
        """The answer to ``message``.

        With ``output`` (a pydantic model, dataclass, TypedDict, union, …) the answer fits that type and
        ``response.output`` is its value; what does not fit is sent back for correction.

        Raises an error of `loom_py.errors` if the model cannot be reached or will not answer; what
        was spent until then is on the error. A failing tool raises nothing: the model is told.
        """
        session = self._open(session_id)
        with _Taken(self, session) as deadline:
            turn = self._begin(session, message, options, output, deadline)
            with turn, turn.context():
                step = turn.run.begin()
                while step is not None:
                    step = turn.run.send(self._take(turn, step))
            return turn.finished()

    @overload
    async def achat(
        self,
        message: str | Sequence[ContentPart] | Conversation,
        *,
        session_id: str | None = None,
        options: ChatOptions | None = None,
        output: UnionType | None = None,
    ) -> Response: ...

    @overload
    async def achat(
        self,
        message: str | Sequence[ContentPart] | Conversation,
        *,
        session_id: str | None = None,
        options: ChatOptions | None = None,
        output: type[T],
    ) -> Response[T]: ...

    async def achat(
        self,
        message: str | Sequence[ContentPart] | Conversation,
        *,
        session_id: str | None = None,
        options: ChatOptions | None = None,
        output: type[Any] | UnionType | None = None,
    ) -> Response[Any]:
        """`chat`, async. Cancelling it cancels what is under way."""
        session = self._open(session_id)
        async with _Taken(self, session) as deadline:
            turn = self._begin(session, message, options, output, deadline)
            with turn, turn.context():
                step = turn.run.begin()
                while step is not None:
                    step = turn.run.send(await self._atake(turn, step))
            return turn.finished()

    def stream_chat(
        self,
        message: str | Sequence[ContentPart] | Conversation,
        *,
        session_id: str | None = None,
        options: ChatOptions | None = None,
        output: type[Any] | UnionType | None = None,
    ) -> Generator[StreamEvent, None, None]:
        """The answer as it comes: text, tool calls and their results, and at last the response.

        Nothing is sent before the first event is asked for. Closing the generator early hangs up,
        and the session stays as it was. Until the stream has ended or was closed its session is
        taken: do not start another chat in it from the loop that reads the stream. Dropping it
        closes it, too.
        """
        return Stream(self._stream(message, session_id, options, output))

    def _stream(
        self,
        message: str | Sequence[ContentPart] | Conversation,
        session_id: str | None,
        options: ChatOptions | None,
        output: type[Any] | UnionType | None,
    ) -> Generator[StreamEvent, None, None]:
        session = self._open(session_id)
        with _Taken(self, session) as deadline:
            turn = self._begin(session, message, options, output, deadline)
            with turn:
                step = turn.run.begin()
                while step is not None:
                    outcome: Response | tuple[ToolResult, ...]
                    if isinstance(step, AskModel):
                        reply: Response | None = None
                        with closing(self._gateway.stream_chat(*self._asked(turn, step))) as events:
                            for event in events:
                                if (reply := event.response) is None:
                                    yield event
                        outcome = turn.replied(reply)
                    else:
                        with turn.context():
                            outcome = self._run_tools(turn, step)
                        yield from map(ToolResultEvent, outcome)
                    step = turn.run.send(outcome)
            response = turn.finished()
        yield from turn.last_events(response)  # the session is free by now

    async def astream_chat(
        self,
        message: str | Sequence[ContentPart] | Conversation,
        *,
        session_id: str | None = None,
        options: ChatOptions | None = None,
        output: type[Any] | UnionType | None = None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """`stream_chat`, async. ``aclose()`` hangs up early."""
        session = self._open(session_id)
        async with _Taken(self, session) as deadline:
            turn = self._begin(session, message, options, output, deadline)
            with turn:
                step = turn.run.begin()
                while step is not None:
                    outcome: Response | tuple[ToolResult, ...]
                    if isinstance(step, AskModel):
                        reply: Response | None = None
                        async with aclosing(self._gateway.astream_chat(*self._asked(turn, step))) as events:
                            async for event in events:
                                if (reply := event.response) is None:
                                    yield event
                        outcome = turn.replied(reply)
                    else:
                        with turn.context():
                            outcome = await self._arun_tools(turn, step)
                        for result in outcome:
                            yield ToolResultEvent(result)
                    step = turn.run.send(outcome)
            response = turn.finished()
        for event in turn.last_events(response):
            yield event

    # ── one step ─────────────────────────────────────────────────────────────────────────

    def _take(self, turn: Turn, step: Step) -> Response | tuple[ToolResult, ...]:
        if isinstance(step, AskModel):
            return self._gateway.chat(*self._asked(turn, step))
        return self._run_tools(turn, step)

    async def _atake(self, turn: Turn, step: Step) -> Response | tuple[ToolResult, ...]:
        if isinstance(step, AskModel):
            return await self._gateway.achat(*self._asked(turn, step))
        return await self._arun_tools(turn, step)

    def _run_tools(self, turn: Turn, step: RunTools) -> tuple[ToolResult, ...]:
        return turn.log_results(self._executor.run(step.calls, within=self._left(turn)))

    async def _arun_tools(self, turn: Turn, step: RunTools) -> tuple[ToolResult, ...]:
        return turn.log_results(await self._executor.arun(step.calls, within=self._left(turn)))

    def _left(self, turn: Turn) -> float | None:
        """Seconds until the chat must be over."""
        if turn.deadline is None:
            return None
        return max(turn.deadline - self._policies.clock.now(), 0.001)

    def _asked(
        self, turn: Turn, step: AskModel
    ) -> tuple[Sequence[Message], Sequence[ToolSpec], ChatOptions | None, dict[str, Any], float | None]:
        """What the gateway is asked."""
        options = turn.options
        if options is not None and turn.run.has_run_tools and options.tool_choice not in _FREE_CHOICE:
            options = replace(options, tool_choice=None)  # or it would be forced to call for ever
        tools = self._offered(turn.foreign) if step.with_tools else ()
        withheld = self._withheld(tools[: len(tools) - len(turn.foreign)]) if step.with_tools else ()
        if options is not None and self._is_withheld(options.tool_choice, tools):
            options = replace(options, tool_choice=None)
        if step.output is not None:
            options = options or ChatOptions()
            if self._knows_schemas():
                options = replace(options, response_format=step.output.response_format)
            else:
                tools = (*(() if options.tool_choice == "none" else tools), step.output.tool)
                forced = OUTPUT_TOOL if len(tools) == 1 else options.tool_choice
                options = replace(options, tool_choice=forced)
        messages = step.messages
        if withheld:
            messages = (*messages, Message.user(WITHHELD.format(tools=", ".join(withheld))))
        return messages, tools, options, turn.fields, turn.deadline

    def _is_withheld(self, choice: str | None, offered: Sequence[ToolSpec]) -> bool:
        """Whether ``choice`` names a tool of this agent that the model is not offered now."""
        return choice in {spec.name for spec in self._specs} - {spec.name for spec in offered}

    def _knows_schemas(self) -> bool:
        """Whether every model keeps to a JSON schema; if not, the answer comes as a tool's arguments."""
        profiles = (getattr(lane.provider, "profile", None) for lane in self._policies.lanes)
        return all(getattr(profile, "structured_output", False) for profile in profiles)

    def _offered(self, foreign: tuple[ToolSpec, ...] = ()) -> tuple[ToolSpec, ...]:
        """The tools the model may ask for now, the caller's last: one whose breaker is open is left out."""
        guard, specs = self._tool_breakers, self._specs
        if guard is not None and not all(guard.available(spec.name) for spec in specs):
            specs = tuple(spec for spec in specs if guard.available(spec.name))
        return (*specs, *foreign) if foreign else specs  # the same tuple need not be encoded again

    def _withheld(self, offered: Sequence[ToolSpec]) -> list[str]:
        """The names of the tools that are out of service; whoever listens hears of each, once."""
        if len(offered) == len(self._specs) or self._tool_breakers is None:
            self._known_withheld = frozenset()
            return []
        there = {spec.name for spec in offered}
        names = [spec.name for spec in self._specs if spec.name not in there]
        known, self._known_withheld = self._known_withheld, frozenset(names)
        for name in self._known_withheld - known:
            wait = self._tool_breakers[name].stats().retry_after
            self._policies.emit(ToolWithheld(name, None if wait is None else round(wait, 1)))
        return names

    # ── one chat ─────────────────────────────────────────────────────────────────────────

    def _open(self, session_id: str | None) -> Session:
        self._check_open()
        session = self._sessions.get(session_id)
        if is_waited_for(session):
            raise ToolError(
                f"a tool cannot chat in session {session_id!r} while that session waits for the tool",
                hint="Use another session_id in the tool, or none.",
            )
        return session

    def _time_to_run(self) -> tuple[float | None, float | None]:
        """Seconds that a chat may take, and until when on the policies' clock."""
        run = None if self._policies.timeouts is None else self._policies.timeouts.run
        return run, None if run is None else self._policies.clock.now() + run

    def _check_open(self) -> None:
        if self._closed:
            raise AgentClosedError(f"agent {self.name!r} is closed", hint="Build a new one.")

    def _begin(
        self,
        session: Session,
        message: str | Sequence[ContentPart] | Conversation,
        options: ChatOptions | None,
        output: Any,
        deadline: float | None,
    ) -> Turn:
        self._check_open()  # it may have been closed while the chat waited for its turn
        if options is not None and not isinstance(options, ChatOptions):
            raise TypeError(f"options must be ChatOptions(…), not {type(options).__name__}")
        if isinstance(message, Conversation):
            said, foreign = message.messages, message.tools
            self._check_foreign(foreign)
        else:
            said, foreign = (Message.user(message),), ()
        system = () if self.system_prompt is None else (Message.system(self.system_prompt),)
        bound: dict[str, Any] = {
            "agent": self.name,
            "deployment": self.provider.model,
            "chat_id": os.urandom(8).hex(),
        }
        if session.id is not None:
            bound["session_id"] = session.id
        spec = self._output if output is None else output_spec(output)
        if spec is not None and any(tool.name == OUTPUT_TOOL for tool in self.tools):
            raise ConfigError(
                f"a tool is named {OUTPUT_TOOL!r}, as is the one by which a model gives its output",
                field="tools",
                hint="Give yours another name: @tool(name=…).",
            )
        names = frozenset(tool.name for tool in foreign)
        run = AgentRun((*system, *session.messages, *said), self.limits, spec, names)
        return Turn(session, run, said, options, bound, deadline, foreign)

    def _check_foreign(self, foreign: Iterable[ToolSpec]) -> None:
        """Raises `ConfigError` where the caller's tools cannot be told from the agent's."""
        taken = {spec.name for spec in self._specs} | {OUTPUT_TOOL}
        if clash := sorted(taken & {tool.name for tool in foreign}):
            raise ConfigError(
                f"the agent has a tool of that name itself: {', '.join(clash)}",
                field="tools",
                hint="Give the caller's tool another name.",
            )

    # ── sessions, state, closing ─────────────────────────────────────────────────────────

    def sessions(self) -> tuple[str, ...]:
        """The ids of the conversations that are kept, oldest first."""
        return self._sessions.ids()

    def history(self, session_id: str) -> tuple[Message, ...]:
        """The messages of a conversation, without the system prompt.

        Raises `KeyError` if there is none of that id.
        """
        return self._sessions.messages(session_id)

    def delete_session(self, session_id: str) -> bool:
        """Forget a conversation; whether there was one. Its cost stays in the agent's total."""
        self._ledger.forget(session_id)
        return self._sessions.delete(session_id)

    def costs(self, *, chat: str | None = None, session: str | None = None) -> CostReport:
        """What the agent has cost so far; or one chat (``response.metadata["chat_id"]``), or a session.

        Every model call counts, also failed ones that were billed. Raises `KeyError` for a chat or
        session there is no record of.
        """
        return self._ledger.report(chat=chat, session=session)

    def describe(self) -> Description:
        """Every resolved setting and where it came from, secrets masked."""
        settings = [
            Setting("name", self.name, "agent"),
            Setting("provider", self.provider.name, "agent"),
            Setting("tools", ", ".join(tool.name for tool in self.tools) or "none", "agent"),
            Setting("backends", ", ".join(backend.name for backend in self.backends) or "none", "agent"),
            Setting("output", "text" if self._output is None else self._output.name, "agent"),
        ]
        for each in fields(self.limits):
            value = getattr(self.limits, each.name)
            source = "default" if value == each.default else "argument"
            settings.append(Setting(f"limits.{each.name}", value, source))
        if (describe := getattr(self.provider, "describe", None)) is not None:
            settings += [replace(each, name=f"llm.{each.name}") for each in describe()]
        return Description(settings)

    def health(self) -> Health:
        """How every deployment, tool breaker, budget and the shared state stand at this moment."""
        policies = self._policies
        pool = {member.key: member.latency for member in policies.pool.stats().members}
        return Health(
            deployments={lane.name: lane.health(pool.get(lane.member.key)) for lane in policies.lanes},
            tools={} if self._tool_breakers is None else self._tool_breakers.stats(),
            budgets=tuple(status for budget in policies.budgets for status in budget.statuses()),
            retries=None if policies.retries is None else policies.retries.budget.stats(),
            shared=None if policies.shared is None else policies.shared.health(),
        )

    @property
    def circuit_breakers(self) -> dict[str, CircuitBreaker]:
        """Every circuit breaker there is by now, by the name of its deployment or tool.

        ``agent.circuit_breakers["query"].force_open()`` takes a tool out of service by hand;
        ``force_close()`` and ``reset()`` bring it back.
        """
        found = {lane.name: lane.breaker for lane in self._policies.lanes if lane.breaker is not None}
        if self._tool_breakers is not None:
            found |= {spec.name: self._tool_breakers[spec.name] for spec in self._specs}
        return found

    @property
    def shared_state(self) -> SharedState | None:
        """The state in Redis that the agent shares with others; its ``control`` forces breakers for all.

        It knows a deployment by the ``key`` that `health` gives.
        """
        return self._policies.shared

    def close(self) -> None:
        """Close the agent, its provider and its backends. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        self._policies.closing.set()
        with ExitStack() as stack:  # one that fails to close does not keep the others open
            for thing in reversed(self._owned):
                stack.callback(_close, thing)

    async def aclose(self) -> None:
        """`close`, async: also closes the async connections of this event loop."""
        if self._closed:
            return
        self._closed = True
        self._policies.closing.set()
        async with AsyncExitStack() as stack:
            for thing in reversed(self._owned):
                stack.push_async_callback(_aclose, thing)


class _Taken:
    """A session for one chat; entering it gives until when that must be over."""

    __slots__ = ("_agent", "_session", "_turn")

    def __init__(self, agent: Agent, session: Session) -> None:
        self._agent = agent
        self._session = session

    def __enter__(self) -> float | None:
        run, deadline = self._agent._time_to_run()
        try:
            self._turn = self._session.lock.acquire(run)
        except TimeoutError:
            raise _too_late(self._session) from None
        return deadline

    async def __aenter__(self) -> float | None:
        run, deadline = self._agent._time_to_run()
        try:
            self._turn = await self._session.lock.aacquire(run)
        except TimeoutError:
            raise _too_late(self._session) from None
        return deadline

    def __exit__(self, *_: object) -> None:
        self._session.lock.release(self._turn)

    async def __aexit__(self, *_: object) -> None:
        self._session.lock.release(self._turn)


def _too_late(session: Session) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"the time for the run was over before session {session.id!r} was free",
        hint="Other chats of the session go first: raise with_timeouts(run=…), or use another session.",
    )


def _close(thing: object) -> None:
    if (close := getattr(thing, "close", None)) is not None:
        close()
    elif (aclose := getattr(thing, "aclose", None)) is not None:
        run_coroutine(aclose())


async def _aclose(thing: object) -> None:
    if (aclose := getattr(thing, "aclose", None)) is not None:
        await aclose()
    elif (close := getattr(thing, "close", None)) is not None:
        await run_in_thread(close)
