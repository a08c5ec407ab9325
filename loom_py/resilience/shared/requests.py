"""What the scripts are asked and what they answer: typed, and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from loom_py.resilience.breaker import BreakerConfig, BreakerStats
from loom_py.resilience.events import CircuitChanged
from loom_py.resilience.limiter.pace import interval_for

__all__ = [
    "BudgetClaim",
    "BudgetSums",
    "EnterReply",
    "EnterRequest",
    "LeaveReport",
    "Outcome",
    "SharedHealth",
    "Spending",
    "Unit",
    "Verdict",
    "circuit_changes",
    "config_fields",
    "decode_reply",
    "decode_stats",
    "decode_sums",
    "encode_report",
    "encode_request",
]

Unit: TypeAlias = Literal["usd", "tokens"]
Verdict: TypeAlias = Literal["granted", "circuit_open", "throttled", "rate_limited", "budget"]
Outcome: TypeAlias = Literal["success", "failure", "neutral", "take_out"]

FOREVER = 1e300
"""What stands for infinity, which JSON does not have."""

LARGEST = 2**62
"""The largest amount that is sent: sums of two of them are still whole numbers of 64 bits in Redis."""


class BudgetClaim(NamedTuple):
    """What an attempt could cost at worst, on one account.

    ``account`` begins with its kind: ``chat:``, ``session:``, ``agent:`` or ``day:``. Amounts are in
    tokens, or in units of 10⁻¹² USD. What was approved on top of ``limit`` is known to Redis.
    """

    account: str
    unit: Unit
    limit: int
    needed: int


class Spending(NamedTuple):
    """What an attempt cost, on one account; ``uncertain`` if it may never have been billed."""

    account: str
    unit: Unit
    amount: int
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class EnterRequest:
    """Asks for leave to send one attempt. ``permit`` is a new id for each.

    ``tokens`` are counted against ``tokens_per_minute``; ``None`` is no limit, or no breaker.
    """

    permit: str
    deployment: str
    breaker: BreakerConfig | None = None
    tokens: int = 0
    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None
    budgets: tuple[BudgetClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetSums:
    """The sums of one account in one unit, over all processes.

    ``uncertain`` is that part of ``spent`` which may never have been billed. ``limit`` is that of the
    claim and what was approved on top of it; ``extra`` is the latter alone.
    """

    account: str
    unit: Unit
    limit: int
    spent: int
    reserved: int
    extra: int = 0
    uncertain: int = 0


@dataclass(frozen=True, slots=True)
class EnterReply:
    """The answer. Whatever it is but ``"granted"``, nothing is reserved.

    ``wait`` is in seconds: when to ask again, infinite for a breaker that is forced open. ``budget`` are
    the sums of the account that refused.
    """

    verdict: Verdict
    wait: float = 0.0
    reason: str = ""
    budget: BudgetSums | None = None
    is_probe: bool = False

    @property
    def is_granted(self) -> bool:
        """Whether the attempt may be sent."""
        return self.verdict == "granted"


@dataclass(frozen=True, slots=True)
class LeaveReport:
    """Tells how an attempt went. What it held is given back, and what it spent is booked.

    Attributes:
        outcome: what it says of the deployment, for the breaker.
        throttled: the deployment said that it has enough (429), and ``throttle_seconds`` for how long;
            ``None`` if it did not say.
        take_out_seconds: with the outcome ``"take_out"``: how long the deployment is left alone, and why.
        tokens: what was used; ``None`` keeps what was reserved.
        release: nothing was sent, or nothing arrived: the tokens are given back too.
        spent: per account; an account that is not named has spent nothing.
        entered: false for an attempt that was sent while Redis was away, so that nothing was reserved:
            its tokens, its throttling and what it spent are added, its outcome tells nobody anything.
    """

    permit: str
    deployment: str
    outcome: Outcome = "neutral"
    breaker: BreakerConfig | None = None
    throttled: bool = False
    throttle_seconds: float | None = None
    take_out_seconds: float = 300.0
    take_out_reason: str = ""
    tokens: int | None = None
    release: bool = False
    spent: tuple[Spending, ...] = ()
    entered: bool = True


@dataclass(frozen=True, slots=True)
class SharedHealth:
    """Whether Redis can be reached, how many processes were last seen, and how long it has been away."""

    connected: bool
    processes: int
    away_seconds: float


def encode_request(request: EnterRequest) -> dict[str, Any]:
    """The request as the script ``enter`` reads it."""
    pace = request.requests_per_minute
    claims = [
        {
            "account": claim.account,
            "unit": claim.unit,
            "limit": _digits(claim.limit),
            "needed": _digits(claim.needed),
        }
        for claim in request.budgets
    ]
    return _known(
        permit=request.permit,
        deployment=request.deployment,
        breaker=config_fields(request.breaker),
        tokens=request.tokens,
        tokens_per_minute=request.tokens_per_minute,
        request_spacing=None if pace is None else interval_for(pace),
        budgets=claims,
    )


def encode_report(report: LeaveReport) -> dict[str, Any]:
    """The report as the script ``leave`` reads it."""
    spent = [
        {
            "account": each.account,
            "unit": each.unit,
            "amount": _digits(each.amount),
            "uncertain": each.uncertain,
        }
        for each in report.spent
    ]
    return _known(
        permit=report.permit,
        deployment=report.deployment,
        outcome=report.outcome,
        breaker=config_fields(report.breaker),
        throttled=report.throttled,
        throttle_seconds=_finite(report.throttle_seconds),
        take_out_seconds=report.take_out_seconds,
        take_out_reason=report.take_out_reason,
        tokens=report.tokens,
        release=report.release,
        spent=spent,
        entered=report.entered,
    )


def decode_reply(reply: Mapping[str, Any]) -> EnterReply:
    """The answer of the script ``enter``."""
    wait, sums = reply["wait"], reply.get("budget")
    return EnterReply(
        verdict=reply["verdict"],
        wait=math.inf if wait >= FOREVER / 2 else float(wait),
        reason=reply.get("reason", ""),
        budget=None if sums is None else decode_sums(sums),
        is_probe=reply.get("is_probe", False),
    )


def decode_sums(sums: Mapping[str, Any]) -> BudgetSums:
    """The sums of an account as the scripts give them."""
    extra = int(sums["extra"])
    return BudgetSums(
        account=sums["account"],
        unit=sums["unit"],
        limit=int(sums.get("limit", 0)) + extra,
        spent=int(sums["spent"]),
        reserved=int(sums["reserved"]),
        extra=extra,
        uncertain=int(sums["uncertain"]),
    )


def decode_stats(deployment: str, reply: Mapping[str, Any]) -> BreakerStats:
    """The state of a breaker, as that of one process tells it."""
    state, forced, calls = reply["state"], reply.get("cause") == "forced", reply["calls"]
    return BreakerStats(
        name=f"shared {deployment}",
        state=state,
        failures=reply["failures"],
        successes=reply["successes"],
        times_opened=reply["opens"],
        retry_after=None if forced or state == "closed" else float(reply["wait"]),
        reason=reply.get("reason"),
        forced=forced,
        failure_rate=reply["failed"] / calls if calls else None,
        calls=calls,
    )


def circuit_changes(reply: Mapping[str, Any]) -> Iterable[CircuitChanged]:
    """What became of breakers by what was asked."""
    for change in reply.get("changes", ()):
        yield CircuitChanged(
            breaker=f"shared {change['deployment']}",
            before=change["before"],
            after=change["after"],
            failures=change["failures"],
            open_seconds=change.get("open_seconds"),
            reason=change.get("reason"),
        )


def _known(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def config_fields(config: BreakerConfig | None) -> dict[str, Any] | None:
    """A breaker's configuration as the scripts read it."""
    if config is None:
        return None
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return _known(**{name: FOREVER if value == math.inf else value for name, value in fields.items()})


def _finite(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) else None


def _digits(amount: int) -> str:
    """An amount as text: JSON's numbers would not hold all of it."""
    return str(min(max(amount, 0), LARGEST))
