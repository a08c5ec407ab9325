"""What the exit code of ``loom`` says."""

from __future__ import annotations

from enum import IntEnum

from loom_py.errors import (
    AuthenticationError,
    BudgetError,
    CircuitOpenError,
    ConfigError,
    DeadlineExceededError,
    LimitExceededError,
    LoomError,
    NotFoundError,
    PermissionDeniedError,
    QueueError,
    RateLimitError,
    RetriesExhausted,
)

__all__ = ["ExitCode", "exit_code"]


class ExitCode(IntEnum):
    """Exit codes; ``describe`` in ``docs/cli.md`` is the same table."""

    OK = 0
    FAILED = 1
    """The model or agent failed, or a file that was checked has problems."""
    USAGE = 2
    """The command line, a setting or a file is wrong."""
    REFUSED = 3
    """The service refused the credential."""
    UNAVAILABLE = 4
    """The service cannot answer at the moment: the same command may succeed later."""
    LIMIT = 5
    """A budget, deadline or limit of your own ended it."""
    BUG = 70
    """An error that nobody foresaw, in loom_py, a plugin or a tool."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE_CLOSED = 141
    """Whoever read the output stopped reading."""


_KINDS: tuple[tuple[ExitCode, tuple[type[LoomError], ...]], ...] = (
    (ExitCode.USAGE, (ConfigError, NotFoundError)),
    (ExitCode.REFUSED, (AuthenticationError, PermissionDeniedError)),
    (ExitCode.LIMIT, (BudgetError, QueueError, DeadlineExceededError, LimitExceededError)),
    (ExitCode.UNAVAILABLE, (RateLimitError, CircuitOpenError)),
)


def exit_code(error: BaseException) -> ExitCode:
    """The exit code for an error that ended a command."""
    if isinstance(error, RetriesExhausted) and error.last is not None:
        return exit_code(error.last)
    for code, kinds in _KINDS:
        if isinstance(error, kinds):
            return code
    if isinstance(error, LoomError):
        return ExitCode.UNAVAILABLE if error.retryable else ExitCode.FAILED
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.BUG
