"""What a model call wants done: the steps that a gateway's verbs carry out, and what they have to go by."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from loom_py.clock import Clock, Signal
from loom_py.messages import Message, ToolSpec
from loom_py.options import ChatOptions
from loom_py.resilience.attempt import Attempt
from loom_py.resilience.call_log import CallLog
from loom_py.resilience.events import Emit
from loom_py.resilience.lanes import Lane
from loom_py.resilience.pool import Choice, Pool
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


Step: TypeAlias = Send | Sleep | Do | Approve | Enter | Leave
Steps: TypeAlias = Generator[Step, Any, Any]


@dataclass(slots=True)
class Policies:
    """Everything that has a say in a model call. One per agent.

    ``only`` is the choice among one; ``avoided`` are the deployments whose calls are known to go elsewhere.
    """

    lanes: Sequence[Lane]
    pool: Pool
    clock: Clock
    emit: Emit
    retries: Retries | None = None
    budgets: Sequence[Budget] = ()
    shared: SharedState | None = None
    timeouts: Timeouts | None = None
    hedge_after: float | None = None
    restart_streams: bool = False
    call_log: CallLog = field(default_factory=CallLog)
    by_key: dict[str, Lane] = field(default_factory=dict)
    only: Choice | None = None
    avoided: set[str] = field(default_factory=set)
    closing: Signal = field(default_factory=Signal)

    def __post_init__(self) -> None:
        self.by_key = {lane.member.key: lane for lane in self.lanes}
        if len(self.lanes) == 1:
            (lane,) = self.lanes
            self.only = Choice(lane.member, 0.0, {}, lane.member)

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
