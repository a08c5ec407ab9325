"""Rate limits: wait for a deployment's quota instead of running into it.

A limiter is a plain object with an injected clock. A call takes a `Ticket`, asks it how long to wait, and
gives it back with what was really used and what the server said; the limiter itself never sleeps and does
no I/O. One limiter serves all callers of one deployment, on any number of threads and tasks.

::

    limiter = RateLimiter(RateLimitConfig(tokens_per_minute=60_000))
    ticket = limiter.enter(tokens=600)
    try:
        while (seconds := ticket.wait()) > 0:
            clock.sleep(seconds, until=ticket.signal)
        response = provider.chat(...)
    except BaseException:
        ticket.release()
        raise
    ticket.settle(response.tokens_used.total, response.metadata)

The queue is strict: the lowest priority number first, then the first come. The head of it blocks all
others, so that many small requests cannot starve a large one.
"""

from loom_py.resilience.limiter.config import LimiterStats, RateLimitConfig
from loom_py.resilience.limiter.limiter import RateLimiter, Ticket

__all__ = ["LimiterStats", "RateLimitConfig", "RateLimiter", "Ticket"]
