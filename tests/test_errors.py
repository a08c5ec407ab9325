"""The error tree: its codes, its shape, and that errors travel."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py import errors
from loom_py.errors import BuilderError, ContentFilterError, LoomError, Problem, StreamInterruptedError
from loom_py.messages import TokenUsage, ToolCall

CODES: dict[str, tuple[str, int | None, str, bool]] = {
    "InvalidEndpointError": ("invalid_endpoint", None, "INVALID_ARGUMENT", False),
    "InvalidDeploymentError": ("invalid_deployment", None, "INVALID_ARGUMENT", False),
    "MissingAuthError": ("missing_auth", None, "INVALID_ARGUMENT", False),
    "AuthenticationError": ("unauthorized", 401, "UNAUTHENTICATED", False),
    "DeploymentNotFoundError": ("DeploymentNotFound", 404, "NOT_FOUND", False),
    "RateLimitError": ("rate_limit_exceeded", 429, "RESOURCE_EXHAUSTED", True),
    "ServiceUnavailableError": ("service_unavailable", 503, "UNAVAILABLE", True),
    "RequestTimeoutError": ("timeout", 408, "DEADLINE_EXCEEDED", True),
    "InvalidRequestError": ("invalid_request_error", 400, "INVALID_ARGUMENT", False),
    "ContentFilterError": ("content_filter", 400, "INVALID_ARGUMENT", False),
    "ContextLengthError": ("context_length_exceeded", 400, "INVALID_ARGUMENT", False),
    "PermissionDeniedError": ("permission_denied", 403, "PERMISSION_DENIED", False),
    "NetworkAccessError": ("network_access_denied", 403, "PERMISSION_DENIED", False),
    "MalformedResponseError": ("malformed_response", None, "INTERNAL", True),
    "StreamInterruptedError": ("stream_interrupted", None, "UNAVAILABLE", True),
    "CircuitOpenError": ("circuit_open", 503, "UNAVAILABLE", True),
    "LimitExceededError": ("limit_exceeded", None, "RESOURCE_EXHAUSTED", False),
}

CANONICAL = {
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}  # fmt: skip

CLASSES: list[type[LoomError]] = [
    thing
    for _, thing in inspect.getmembers(errors, inspect.isclass)
    if issubclass(thing, LoomError) and thing.__module__ == errors.__name__
]


def example(kind: type[LoomError]) -> LoomError:
    first = [Problem("llm", "LLM provider is required", "add one")] if kind is BuilderError else "it broke"
    return kind(
        first,  # type: ignore[arg-type]
        retry_after=1.5,
        request_id="req-1",
        deployment="gpt-4o",
        hint="try again",
        tokens_used=TokenUsage(3, 4),
        cost_usd=Decimal("0.01"),
    )


@pytest.mark.parametrize("name", CODES)
def test_each_error_has_its_code_status_and_retryability(name: str) -> None:
    error = example(getattr(errors, name))
    assert (error.code, error.http_status, error.grpc_code, error.retryable) == CODES[name]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_public_documented_and_drawn_in_the_tree(kind: type[LoomError]) -> None:
    assert kind.__name__ in errors.__all__
    assert kind.__doc__
    assert errors.__doc__ is not None
    line = next(line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in f"{line} ")
    if kind is not LoomError:
        assert kind.code in line or kind.code in {"agent_closed", "invalid_arguments"}
    assert kind.grpc_code in CANONICAL


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("travel", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_survive_pickling_and_copying_whole(kind: type[LoomError], travel: object) -> None:
    error = example(kind)
    again = travel(error)  # type: ignore[operator]
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__
    assert again.args == error.args


def test_the_extra_fields_of_an_error_travel_too() -> None:
    call = ToolCall("c1", "count", {"n": 1})
    cut = StreamInterruptedError("cut", partial_text="The ans", partial_tool_calls=[call])
    again = pickle.loads(pickle.dumps(cut))
    assert (again.partial_text, again.partial_tool_calls) == ("The ans", (call,))
    blocked = ContentFilterError("no", side="completion", categories={"hate": {"filtered": True}, "x": {}})
    assert pickle.loads(pickle.dumps(blocked)).filtered == ("hate",)


@pytest.mark.parametrize("kind", CLASSES)
def test_to_dict_has_every_field_and_is_json(kind: type[LoomError]) -> None:
    data = json.loads(json.dumps(example(kind).to_dict()))
    assert data["type"] == kind.__name__
    assert data["code"] == kind.code
    assert data["request_id"] == "req-1"
    assert data["deployment"] == "gpt-4o"
    assert data["retry_after"] == 1.5
    assert data["hint"] == "try again"
    assert {"message", "http_status", "grpc_code", "retryable"} <= set(data)


def test_the_text_says_what_where_and_what_to_do() -> None:
    text = str(example(errors.RateLimitError))
    assert text == ("it broke (deployment gpt-4o, request id req-1, retry after 1.5 s) Hint: try again")
    assert str(LoomError("alone")) == "alone"


def test_one_handler_catches_the_whole_tree() -> None:
    for kind in CLASSES:
        with pytest.raises(LoomError):
            raise example(kind)


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5))
def test_a_builder_error_tells_every_problem(pairs: list[tuple[str, str]]) -> None:
    error = BuilderError([Problem(field, message) for field, message in pairs])
    assert [(problem.field, problem.message) for problem in error.problems] == pairs
    for field, message in pairs:
        assert field in error.message
        assert message in error.message
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == error.problems
