"""Errors: of the right type, with the right facts, and without a secret in them."""

from __future__ import annotations

import json
import pickle
import traceback

from loom_py.conformance.scenario import VERBS, WHOLE, Outcome, Stage, expect, expect_equal, scenario
from loom_py.conformance.script import Answer, Failure
from loom_py.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.options import ChatOptions

_STATUSES = {
    "unauthorized": {401},
    "forbidden": {403},
    "not_found": {404},
    "invalid_request": {400, 422},
    "context_length": {400, 413},
    "content_filter": {400},
    "rate_limited": {429},
    "timeout": {408, 504},
}


def _check(stage: Stage, kind: str, error_type: type[LoomError], *, retryable: bool) -> None:
    """The failure ``kind``, by each verb, raises ``error_type`` with its facts."""
    with stage.provider(Answer.fails(kind)) as provider:
        for verb in VERBS:
            error = stage.call(provider, verb).failure(error_type)
            expect_equal(error.retryable, retryable, f"retryable of {type(error).__name__}")
            expect(error.message.strip(), "a message", repr(error.message))
            codes = _codes(error_type)
            expect(error.code in codes, f"the code {' or '.join(sorted(codes))}", error.code)
            statuses = _STATUSES.get(kind.partition("(")[0])
            if statuses is not None:
                wanted = f"an http_status of {' or '.join(map(str, sorted(statuses)))}"
                expect(error.http_status in statuses, wanted, error.http_status)


def _codes(kind: type[LoomError]) -> set[str]:
    """The codes of a kind of error and of everything below it."""
    return {kind.code}.union(*(_codes(below) for below in kind.__subclasses__()))


@scenario("errors/unauthorized", "unauthorized")
def unauthorized(stage: Stage) -> None:
    """A refused credential is an AuthenticationError, not to be retried."""
    _check(stage, "unauthorized", AuthenticationError, retryable=False)


@scenario("errors/forbidden", "forbidden")
def forbidden(stage: Stage) -> None:
    """A credential without the right is a PermissionDeniedError, not to be retried."""
    _check(stage, "forbidden", PermissionDeniedError, retryable=False)


@scenario("errors/not-found", "not_found")
def not_found(stage: Stage) -> None:
    """A model that does not exist is a NotFoundError, not to be retried."""
    _check(stage, "not_found", NotFoundError, retryable=False)


@scenario("errors/invalid-request", "invalid_request")
def invalid_request(stage: Stage) -> None:
    """A refused request is an InvalidRequestError, not to be retried."""
    _check(stage, "invalid_request", InvalidRequestError, retryable=False)


@scenario("errors/context-length", "context_length")
def context_length(stage: Stage) -> None:
    """A conversation that is too long is a ContextLengthError, not to be retried."""
    _check(stage, "context_length", ContextLengthError, retryable=False)


@scenario("errors/content-filter", "content_filter")
def content_filter(stage: Stage) -> None:
    """A blocked prompt is a ContentFilterError that names the prompt's side."""
    _check(stage, "content_filter", ContentFilterError, retryable=False)
    with stage.provider(Answer.fails("content_filter")) as provider:
        error = stage.call(provider, "chat").failure(ContentFilterError)
        expect_equal(error.side, "prompt", "the side")


@scenario("errors/rate-limited", "rate_limited")
def rate_limited(stage: Stage) -> None:
    """Too many requests are a RateLimitError that may be retried."""
    _check(stage, "rate_limited(retry_after=3)", RateLimitError, retryable=True)


@scenario("errors/retry-after", "rate_limited")
def retry_after(stage: Stage) -> None:
    """The wait the service asks for is the error's retry_after, in seconds."""
    for verb in VERBS:
        for wait in (2, 37):
            with stage.provider(Answer.fails(f"rate_limited(retry_after={wait})")) as provider:
                error = stage.call(provider, verb).failure(LoomError)
                expect_equal(error.retry_after, float(wait), "retry_after")


@scenario("errors/server-error", "server_error")
def server_error(stage: Stage) -> None:
    """A failing service is a ServiceUnavailableError that may be retried."""
    _check(stage, "server_error", ServiceUnavailableError, retryable=True)


@scenario("errors/unreachable", "unreachable")
def unreachable(stage: Stage) -> None:
    """A connection dropped without an answer is a ServiceUnavailableError that may be retried."""
    _check(stage, "unreachable", ServiceUnavailableError, retryable=True)


@scenario("errors/timeout", "timeout")
def timeout(stage: Stage) -> None:
    """A service that gives up in time is a RequestTimeoutError that may be retried."""
    _check(stage, "timeout", RequestTimeoutError, retryable=True)


@scenario("errors/deadline", "deadlines", "slow")
def deadline(stage: Stage) -> None:
    """A call that takes longer than its timeout is a RequestTimeoutError, at that time."""
    with stage.provider(Answer("Late.", delay=2.0)) as provider:
        for verb in VERBS:
            outcome = stage.call(provider, verb, options=ChatOptions(timeout=0.1))
            expect_equal(outcome.failure(RequestTimeoutError).retryable, True, "retryable")


@scenario("errors/malformed", "malformed")
def malformed(stage: Stage) -> None:
    """An answer that is none, such as a portal's page, is a MalformedResponseError."""
    with stage.provider(Answer.fails("malformed")) as provider:
        for verb in VERBS:
            outcome = stage.call(provider, verb)
            if verb in WHOLE or not isinstance(outcome.error, StreamInterruptedError):
                outcome.failure(MalformedResponseError)


@scenario("errors/request-id", "request_ids", "server_error")
def request_id(stage: Stage) -> None:
    """An error has the service's id of the request, for support."""
    with stage.provider(Answer.fails("server_error")) as provider:
        for verb in VERBS:
            error = stage.call(provider, verb).failure(LoomError)
            expect(error.request_id, f"a request id from {verb}", repr(error.request_id))


@scenario("errors/no-secret", "secrets", "unauthorized")
def no_secret(stage: Stage) -> None:
    """No credential shows in an error or its traceback, not even where the service repeats it."""
    for verb in VERBS:
        for echo in (True, False):
            answer = Answer(failure=Failure("unauthorized", echo_secret=echo))
            with stage.provider(answer) as provider:
                error = stage.call(provider, verb).failure(LoomError)
                found = [where for where, text in _texts(error).items() if _holds_secret(stage, text)]
                expect(not found, f"no credential in any text of the error from {verb}", ", ".join(found))


@scenario("errors/cause-chain", "server_error")
def cause_chain(stage: Stage) -> None:
    """An error does not seem to have happened during the handling of another one."""
    for kind in ("unauthorized", "rate_limited", "server_error", "unreachable", "malformed"):
        if kind not in stage.adapter.capabilities:
            continue
        for verb in VERBS:
            with stage.provider(Answer.fails(kind)) as provider:
                error = stage.call(provider, verb).failure(LoomError)
                stray = None if error.__suppress_context__ else error.__context__
                expect(stray is None, f"a clean {type(error).__name__} from {verb}", f"the context {stray!r}")


@scenario("errors/json-and-pickle", "rate_limited")
def json_and_pickle(stage: Stage) -> None:
    """An error survives pickling, and `to_dict` can be written as JSON."""
    with stage.provider(Answer.fails("rate_limited(retry_after=2)")) as provider:
        error = stage.call(provider, "chat").failure(LoomError)
    expect_equal(json.loads(json.dumps(error.to_dict())), error.to_dict(), "to_dict, through JSON")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    seen = (type(again), str(again), again.to_dict())
    expect_equal(seen, (type(error), str(error), error.to_dict()), "the error, pickled")


@scenario("errors/one-request", "requests", "server_error")
def one_request(stage: Stage) -> None:
    """A call that fails is one request: to try again is for the layers above."""
    for verb in VERBS:
        with stage.provider(Answer.fails("server_error")) as provider:
            stage.call(provider, verb).failure(LoomError)
            expect(len(stage.requests) == 1, f"one request of {verb}", f"{len(stage.requests)} requests")


@scenario("errors/provider-works-on", "text", "server_error")
def provider_works_on(stage: Stage) -> None:
    """After an error the provider answers the next call."""
    for verb in VERBS:
        with stage.provider(Answer.fails("server_error"), Answer("Better.")) as provider:
            stage.call(provider, verb).failure(LoomError)
            expect_equal(stage.call(provider, verb).whole().message, "Better.", "the next reply")


@scenario("errors/of-the-tree", "server_error")
def of_the_tree(stage: Stage) -> None:
    """Whatever goes wrong, what is raised is a LoomError."""
    for kind in ("unauthorized", "not_found", "rate_limited", "server_error", "unreachable", "malformed"):
        if kind not in stage.adapter.capabilities:
            continue
        for verb in VERBS:
            with stage.provider(Answer.fails(kind)) as provider:
                outcome: Outcome = stage.call(provider, verb)
                expect(
                    isinstance(outcome.error, LoomError),
                    f"a LoomError from {verb} for {kind}",
                    repr(outcome.error or outcome.response),
                )


def _texts(error: LoomError) -> dict[str, str]:
    """Everything of an error that ends up in a log."""
    return {
        "str": str(error),
        "repr": repr(error),
        "args": repr(error.args),
        "to_dict": repr(error.to_dict()),
        "attributes": repr(vars(error)),
        "the traceback": "".join(traceback.format_exception(error)),
    }


def _holds_secret(stage: Stage, text: str) -> bool:
    return any(secret in text for secret in stage.adapter.secrets)
