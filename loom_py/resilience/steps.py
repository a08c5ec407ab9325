"""What a model call wants done: the steps that a gateway's verbs carry out, and what they have to go by."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from loom_py.clock import Clock, Signal
from loom_py.messages import Message, ToolSpec
from loom_py.options import ChatOptions
from loom_py.resilience.attempt import Attempt
from loom_py.resilience.call_log import CallLog
from loom_py.resilience.events import Emit
from loom_py.resilience.lanes import Lane
from loom_py.resilience.pool import NO_REASONS, Choice, Condition, Member, Pool
from loom_py.resilience.retry import Retries
from loom_py.resilience.timeouts import Timeouts

if TYPE_CHECKING:
    from loom_py.resilience.budget import Budget, BudgetAlert
    from loom_py.resilience.shared import EnterRequest, LeaveReport, SharedState

__all__ = ["Approve", "Asked", "Do", "Enter", "Leave", "Policies", "Send", "Sleep", "Step", "Steps"]


@dataclass(slots=True)
class Send:
    """Send the request to ``attempt``'s deployment; wants the `Response`.

    Where nothing has come after ``hedge_after`` seconds, a second deployment may be asked as well
    (`ModelCall.second`); the driver then puts the attempt that won in place of the first.
    """

    attempt: Attempt
    hedge_after: float | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for ``seconds``, or until the signal comes."""

    seconds: float
    until: Signal | None = None


@dataclass(frozen=True, slots=True)
class Do:
    """Call a function that may block for a moment on a file or database; wants what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Approve:
    """Ask whoever watches the budget for more; wants the amount, or nothing."""

    ask: Callable[[BudgetAlert], Any]
    alert: BudgetAlert


@dataclass(frozen=True, slots=True)
class Enter:
    """Ask the state that all processes share; wants its reply, or ``None`` where it is away."""

    request: EnterRequest


@dataclass(frozen=True, slots=True)
class Leave:
    """Tell the shared state how it went."""

    report: LeaveReport


NO_LEDGER = CallLog()
"""Logs only; a gateway puts its own in its place."""

_making = threading.Lock()

Step: TypeAlias = Send | Sleep | Do | Approve | Enter | Leave
Steps: TypeAlias = Generator[Step, Any, Any]


class Policies:
    """Everything that has a say in a model call. One per agent.

    ``only`` is the choice where there is one deployment, and ``None`` where there are several; ``avoided``
    are the deployments whose calls are known to go elsewhere. What most agents never need (the pool of one
    deployment, what wakes who waits when the agent is closed) is made when it is asked for.
    """

    __slots__ = (
        "_closing",
        "_pool",
        "avoided",
        "budgets",
        "by_key",
        "call_log",
        "clock",
        "emit",
        "hedge_after",
        "lanes",
        "only",
        "restart_streams",
        "retries",
        "shared",
        "timeouts",
    )

    def __init__(
        self,
        lanes: Sequence[Lane],
        pool: Pool | None,
        clock: Clock,
        emit: Emit,
        retries: Retries | None = None,
        budgets: Sequence[Budget] = (),
        shared: SharedState | None = None,
        timeouts: Timeouts | None = None,
        hedge_after: float | None = None,
        restart_streams: bool = False,
    ) -> None:
        self.lanes = tuple(lanes)
        self.clock = clock
        self.emit = emit
        self.retries = retries
        self.budgets = budgets
        self.shared = shared
        self.timeouts = timeouts
        self.hedge_after = hedge_after
        self.restart_streams = restart_streams
        self.call_log = NO_LEDGER
        self.by_key = {lane.member.key: lane for lane in self.lanes}
        self.avoided: dict[str, None] = {}
        self.only: Choice | None = None
        if len(self.lanes) == 1:
            member = self.lanes[0].member
            self.only = Choice(member, 0.0, NO_REASONS, member)
        self._pool = pool
        self._closing: Signal | None = None

    @property
    def pool(self) -> Pool:
        """What chooses among the deployments."""
        if self._pool is None:
            with _making:
                if self._pool is None:
                    self._pool = Pool([lane.member for lane in self.lanes], clock=self.clock.now)
        return self._pool

    @property
    def closing(self) -> Signal:
        """Set when the agent is closed: nobody is to wait any longer."""
        if self._closing is None:
            with _making:
                if self._closing is None:
                    self._closing = Signal()
        return self._closing

    @property
    def is_closing(self) -> bool:
        """Whether the agent is being closed."""
        return self._closing is not None and self._closing.is_set

    def condition(self, member: Member) -> Condition:
        """How a deployment stands, for the pool to choose."""
        return self.by_key[member.key].condition()

    def owned(self) -> list[Any]:
        """What is to be closed when the agent is."""
        return [*([] if self.shared is None else [self.shared]), *self.budgets]


@dataclass(slots=True)
class Asked:
    """What is asked of the model, by whom, and until when (on the clock of the policies)."""

    messages: Sequence[Message]
    tools: Sequence[ToolSpec]
    options: ChatOptions | None
    fields: Mapping[str, Any]
    deadline: float | None = None
