"""The errors of a model call that is not made, or not made again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loom_py.errors import FailedAttempt, LoomError, NoDeploymentError, RateLimitError, RetriesExhausted
from loom_py.resilience.pool import Choice

__all__ = ["given_up", "none_left", "throttled"]


def given_up(attempts: Sequence[FailedAttempt], reason: str, refusal: LoomError | None = None) -> LoomError:
    """What a call fails with after the attempts there were; ``refusal`` if there was none."""
    if not attempts:
        assert refusal is not None
        return refusal
    last = attempts[-1].error
    if len(attempts) == 1:
        last.add_note(f"Not tried again: {reason}.")
        return last
    exhausted = RetriesExhausted(f"{reason}; the last: {last.message}", attempts=attempts)
    exhausted.__cause__ = last
    return exhausted


def none_left(choice: Choice, deployments: int, reason: str = "") -> NoDeploymentError:
    """Says why none of so many ``deployments`` can be called."""
    reasons = dict(choice.reasons)
    told = "; ".join(f"{name}: {why}" for name, why in reasons.items())
    message = f"none of the {deployments} deployments can be called now ({told})"
    return NoDeploymentError(
        f"{message}: {reason}" if reason else message,
        reasons=reasons,
        retry_after=None if choice.wait == math.inf else round(choice.wait, 3),
        hint="agent.health() tells how each of them stands.",
    )


def throttled(deployment: str, seconds: float, reason: str = "") -> RateLimitError:
    """Says that the deployment has asked for no calls for so many seconds: nothing was sent."""
    message = f"the deployment has asked for no calls for another {seconds:.1f} s"
    return RateLimitError(
        f"{message}: {reason}" if reason else message,
        retry_after=round(seconds, 3),
        deployment=deployment,
        sent=False,
    )
