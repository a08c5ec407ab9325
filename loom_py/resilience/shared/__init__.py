"""State in Redis: many processes and machines that act as one.

Breakers, throttle clocks, rate limits and budgets are decided in Redis, by one script before each
attempt and one after it. If Redis is away each process goes on with its own share and says so::

    shared = SharedState("redis://10.0.0.5:6379/0")

Needs the extra ``redis``: ``pip install 'loom-py[redis]'``.
"""

from loom_py.resilience.shared.requests import (
    BudgetClaim,
    BudgetSums,
    EnterReply,
    EnterRequest,
    LeaveReport,
    SharedHealth,
    Spending,
)
from loom_py.resilience.shared.state import SharedState

__all__ = [
    "BudgetClaim",
    "BudgetSums",
    "EnterReply",
    "EnterRequest",
    "LeaveReport",
    "SharedHealth",
    "SharedState",
    "Spending",
]
