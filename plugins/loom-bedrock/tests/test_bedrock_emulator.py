"""The emulator refuses what the service refuses."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import ClientError, EventStreamError  # type: ignore[import-untyped]

from loom_bedrock import BedrockProvider
from loom_bedrock.emulator import BedrockEmulator
from loom_py import ScriptedProvider
from loom_py.errors import AuthenticationError, DeploymentNotFoundError
from loom_py.messages import Message

Serve = Callable[..., tuple[BedrockEmulator, BedrockProvider]]
HELLO = [Message.user("Hello")]
MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
SAID: dict[str, Any] = {"role": "user", "content": [{"text": "Hi"}]}
TOOL: dict[str, Any] = {"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}
USE = {"toolUse": {"toolUseId": "t1", "name": "look", "input": {}}}
RESULT = {"toolResult": {"toolUseId": "t1", "content": [{"text": "seen"}]}}


@contextmanager
def plain(bedrock: BedrockEmulator, **changes: Any) -> Iterator[Any]:
    """boto3's own client, with no loom in between and without its checks of parameters."""
    settings = {**bedrock.settings, **changes}
    client = boto3.client(
        "bedrock-runtime",
        region_name=settings["region"],
        endpoint_url=settings["endpoint_url"],
        aws_access_key_id=settings["access_key_id"],
        aws_secret_access_key=settings["secret_access_key"],
        aws_session_token=settings["session_token"],
        config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )
    try:
        yield client
    finally:
        client.close()


def test_boto3_itself_talks_to_it_and_reads_its_stream() -> None:
    engine = ScriptedProvider(["It rains.", "It rains."])
    with BedrockEmulator(engine) as bedrock, plain(bedrock) as client:
        answer = client.converse(modelId=MODEL, messages=[SAID])
        assert answer["output"]["message"] == {"role": "assistant", "content": [{"text": "It rains."}]}
        assert answer["stopReason"] == "end_turn"
        events = list(client.converse_stream(modelId=MODEL, messages=[SAID])["stream"])
        assert [next(iter(event)) for event in events] == [
            "messageStart",
            "contentBlockDelta",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
            "metadata",
        ]
        assert answer["ResponseMetadata"]["RequestId"]


def test_an_arn_as_the_model_travels_whole() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"
    with BedrockEmulator() as bedrock, plain(bedrock) as client:
        client.converse(modelId=arn, messages=[SAID])
        assert bedrock.calls[0].model == arn


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"secret_access_key": "wrong"}, "InvalidSignatureException"),
        ({"access_key_id": "AKIAWRONG"}, "UnrecognizedClientException"),
        ({"region": "eu-west-1"}, "InvalidSignatureException"),
        ({"session_token": "unasked"}, "UnrecognizedClientException"),
    ],
)
def test_a_signature_that_is_not_the_accounts_is_refused(changes: dict[str, str], code: str) -> None:
    with BedrockEmulator() as bedrock, plain(bedrock, **changes) as client:
        with pytest.raises(ClientError) as caught:
            client.converse(modelId=MODEL, messages=[SAID])
        assert caught.value.response["Error"]["Code"] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert not bedrock.calls


def test_a_body_changed_after_it_was_signed_is_refused() -> None:
    with BedrockEmulator() as bedrock, plain(bedrock) as client:

        def tamper(request: Any, **_: Any) -> None:
            request.body = request.body.replace(b"Hi", b"Ho")

        client.meta.events.register("before-send.bedrock-runtime", tamper)
        with pytest.raises(ClientError, match="InvalidSignatureException"):
            client.converse(modelId=MODEL, messages=[SAID])


def test_temporary_credentials_work_until_they_expire(serve: Serve) -> None:
    bedrock, provider = serve(emulated={"session_token": "a-session-token-of-the-test"})
    assert provider.chat(HELLO).message == "Hello"
    bedrock.expire_credentials()
    with pytest.raises(AuthenticationError, match="expired") as caught:
        provider.chat(HELLO)
    assert caught.value.provider_code == "ExpiredTokenException"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 404),
        ("GET", f"/model/{MODEL}/converse", {}, 404),
        ("POST", f"/model/{MODEL}/invoke", {}, 404),
        ("POST", f"/model/{MODEL}/converse", {}, 403),
        ("POST", f"/model/{MODEL}/converse", {"authorization": "AWS4-HMAC-SHA256 nonsense"}, 403),
    ],
)
def test_what_is_no_signed_converse_gets_awss_own_errors(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    with BedrockEmulator() as bedrock:
        connection = http.client.HTTPConnection(urlsplit(bedrock.endpoint_url).netloc, timeout=5)
        connection.request(method, path, "{}", headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        assert answer.status == status
        assert answer.headers["x-amzn-RequestId"]
        assert answer.headers["x-amzn-ErrorType"].endswith("bedrock/")
        assert set(body) == {"message"}


@pytest.mark.parametrize(
    ("request_body", "said"),
    [
        ({"messages": []}, "must start with a user message"),
        (
            {"messages": [{"role": "assistant", "content": [{"text": "Hi"}]}]},
            "must start with a user message",
        ),
        ({"messages": [SAID, SAID]}, "must alternate"),
        ({"messages": [{"role": "user", "content": []}]}, "is empty"),
        ({"messages": [{"role": "user", "content": [{"text": " "}]}]}, "is blank"),
        ({"messages": [{"role": "tool", "content": [{"text": "Hi"}]}]}, "enum value set"),
        ({"messages": [{"role": "user", "content": [{"text": "a", "image": {}}]}]}, "exactly one member"),
        ({"messages": [SAID], "inferenceConfig": {"temperature": 1.5}}, "less than or equal to 1"),
        ({"messages": [SAID], "inferenceConfig": {"maxTokens": 0}}, "greater than or equal to 1"),
        ({"messages": [SAID], "system": [{"text": ""}]}, "greater than or equal to 1"),
        ({"messages": [SAID], "toolConfig": {"tools": []}}, "greater than or equal to 1"),
        (
            {
                "messages": [SAID],
                "toolConfig": {"tools": [{"toolSpec": {**TOOL["toolSpec"], "name": "a b"}}]},
            },
            "regular expression",
        ),
        ({"messages": [SAID], "toolConfig": {"tools": [TOOL, TOOL]}}, "already defined"),
        (
            {
                "messages": [SAID],
                "toolConfig": {"tools": [{"toolSpec": {"name": "x", "inputSchema": {"json": {}}}}]},
            },
            "one of the following: object",
        ),
        (
            {"messages": [SAID], "toolConfig": {"tools": [TOOL], "toolChoice": {"tool": {"name": "other"}}}},
            "is not defined",
        ),
        (
            {
                "messages": [
                    SAID,
                    {"role": "assistant", "content": [USE]},
                    {"role": "user", "content": [RESULT]},
                ]
            },
            "toolConfig field must be defined",
        ),
        (
            {
                "messages": [SAID, {"role": "assistant", "content": [USE]}, SAID],
                "toolConfig": {"tools": [TOOL]},
            },
            "Expected toolResult blocks at messages.2.content for the following Ids: t1",
        ),
        (
            {"messages": [{"role": "user", "content": [RESULT]}], "toolConfig": {"tools": [TOOL]}},
            "exceeds the number of toolUse",
        ),
    ],
)
def test_a_request_the_service_refuses_is_refused_in_its_words(
    request_body: dict[str, Any], said: str
) -> None:
    with BedrockEmulator() as bedrock, plain(bedrock) as client:
        with pytest.raises(ClientError, match=said) as caught:
            client.converse(modelId=MODEL, **request_body)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_model_that_does_not_exist_is_said_to_be_invalid(serve: Serve) -> None:
    _, provider = serve(emulated={"models": [MODEL]}, model="anthropic.claude-9-v1:0")
    with pytest.raises(DeploymentNotFoundError, match="invalid"):
        provider.chat(HELLO)


def test_an_exception_in_a_stream_is_what_botocore_takes_it_for() -> None:
    with BedrockEmulator(ScriptedProvider(["one two"])) as bedrock, plain(bedrock) as client:
        bedrock.fail("ModelStreamErrorException", "Oh.", after_events=2)
        stream = client.converse_stream(modelId=MODEL, messages=[SAID])["stream"]
        with pytest.raises(EventStreamError, match=r"modelStreamErrorException.*Oh\."):
            list(stream)
        stream.close()


def test_faults_are_counted_and_wrong_counts_refused() -> None:
    with BedrockEmulator() as bedrock, plain(bedrock) as client:
        with pytest.raises(ValueError, match="at least 1"):
            bedrock.fail("ThrottlingException", times=0)
        bedrock.delay(0.01, times=2)
        assert client.converse(modelId=MODEL, messages=[SAID])["stopReason"] == "end_turn"


def test_it_may_be_started_and_stopped_twice_and_says_when_it_does_not_run() -> None:
    bedrock = BedrockEmulator()
    with pytest.raises(RuntimeError, match="not running"):
        _ = bedrock.endpoint_url
    assert bedrock.start().start() is bedrock
    bedrock.stop()
    bedrock.stop()
    assert "not running" in repr(bedrock)


def test_claude_refuses_an_id_that_comes_twice() -> None:
    said = [SAID, {"role": "assistant", "content": [USE]}, {"role": "user", "content": [RESULT]}]
    with BedrockEmulator() as bedrock, plain(bedrock) as client:
        tools = {"tools": [TOOL]}
        client.converse(modelId=MODEL, messages=said, toolConfig=tools)
        with pytest.raises(ClientError, match="ids must be unique"):
            client.converse(modelId=MODEL, messages=[*said, *said[1:]], toolConfig=tools)
