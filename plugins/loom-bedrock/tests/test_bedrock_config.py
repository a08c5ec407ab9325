"""Settings: where they come from, and what is said when they are wrong."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest

from loom_bedrock import BedrockProvider, create_provider
from loom_bedrock.emulator import BedrockEmulator
from loom_py import AgentBuilder
from loom_py.errors import (
    AuthenticationError,
    BuilderError,
    ConfigError,
    InvalidDeploymentError,
    InvalidEndpointError,
    LoomError,
    MissingAuthError,
)
from loom_py.messages import Message

NOVA = "us.amazon.nova-lite-v1:0"
KEYS: dict[str, Any] = {
    "access_key_id": "AKIAEXAMPLEEXAMPLE00",
    "secret_access_key": "a-secret-that-must-never-show-0001",
}
ARN = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0"


def provider(**settings: Any) -> BedrockProvider:
    return BedrockProvider(**{"model": NOVA, "region": "us-east-1", **KEYS, **settings})


def test_the_registry_makes_it_by_name_and_the_builder_by_method() -> None:
    with AgentBuilder().with_bedrock_llm("eu-west-1", "eu.amazon.nova-lite-v1:0", **KEYS).build() as agent:
        assert "eu.amazon.nova-lite-v1:0" in str(agent.describe())
    named = AgentBuilder().with_llm(f"bedrock:{NOVA}", region="us-east-1", **KEYS).build()
    named.close()
    assert isinstance(create_provider(model=NOVA, region="us-east-1", **KEYS), BedrockProvider)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"model": None}, InvalidDeploymentError, "model is required"),
        ({"model": " "}, InvalidDeploymentError, "model is required"),
        ({"model": "two\nlines"}, InvalidDeploymentError, "one line"),
        ({"region": None}, ConfigError, "region is required"),
        ({"region": "Frankfurt!"}, ConfigError, "region"),
        ({"endpoint_url": "http://bedrock.example.com"}, InvalidEndpointError, "https"),
        ({"endpoint_url": "ftp://x"}, InvalidEndpointError, "URL"),
        ({"endpoint_url": "https://u:p@x.com"}, InvalidEndpointError, "user name"),
        ({"secret_access_key": None}, MissingAuthError, "without secret_access_key"),
        ({"access_key_id": None}, MissingAuthError, "without access_key_id"),
        ({"profile": "work"}, ConfigError, "profile"),
        ({"temperature": 1.5}, ConfigError, "temperature"),
        ({"max_tokens": 0}, ConfigError, "max_tokens"),
        ({"timeout": 0}, ConfigError, "timeout"),
        ({"guardrail": {"id": "x", "version": "latest"}}, ConfigError, "guardrail"),
        ({"session": boto3.Session(region_name="us-east-1")}, ConfigError, "session"),
        (
            {"session": "default", "access_key_id": None, "secret_access_key": None},
            ConfigError,
            "must be a boto3.Session, not str",
        ),
    ],
)
def test_a_wrong_setting_is_told_by_its_own_error(
    settings: dict[str, Any], kind: type[Any], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        provider(**settings)
    assert KEYS["secret_access_key"] not in repr(caught.value) + str(vars(caught.value))


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(BuilderError) as caught:
        BedrockProvider(temperature=7, access_key_id="AKIA")
    assert {problem.field for problem in caught.value.problems} == {
        "model",
        "region",
        "temperature",
        "secret_access_key",
    }
    assert "the Bedrock provider cannot be built, 4 problems" in str(caught.value)


def test_a_setting_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="regoin"):
        AgentBuilder().with_llm(f"bedrock:{NOVA}", regoin="us-east-1").build()


@pytest.mark.parametrize(
    ("environment", "settings", "region", "source"),
    [
        (
            {"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "x-y-1"},
            {},
            "us-west-2",
            "environment (AWS_REGION)",
        ),
        ({"AWS_DEFAULT_REGION": "us-west-1"}, {}, "us-west-1", "environment (AWS_DEFAULT_REGION)"),
        ({"AWS_REGION": "us-west-2"}, {"region": "eu-west-3"}, "eu-west-3", "argument"),
        ({"AWS_REGION": "us-west-2"}, {"model": ARN}, "eu-central-1", "model"),
    ],
)
def test_the_region_comes_from_argument_arn_or_environment(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    settings: dict[str, Any],
    region: str,
    source: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = provider(**{"region": None, **settings})
    assert made.describe().to_dict()["region"] == {"value": region, "source": source}
    assert made.endpoint == f"https://bedrock-runtime.{region}.amazonaws.com"


def write_config(text: str) -> None:
    folder = Path(os.environ["HOME"]) / ".aws"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(text)


def test_region_and_credentials_come_from_an_aws_profile() -> None:
    write_config(
        "[profile work]\nregion = ap-south-1\naws_access_key_id = AKIAWORK\n"
        "aws_secret_access_key = profile-secret-0000000000\n"
    )
    made = BedrockProvider(model="global.amazon.nova-2-lite-v1:0", profile="work")
    told = made.describe().to_dict()
    assert told["region"] == {"value": "ap-south-1", "source": "AWS configuration"}
    assert told["credentials"]["source"] == "AWS configuration (keys)"


def test_credentials_of_a_file_that_were_renewed_are_taken_up_after_a_refusal() -> None:
    with BedrockEmulator() as bedrock:
        keys = (bedrock.settings["access_key_id"], "an-old-secret-00000000")
        profile = "[profile work]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
        write_config(profile.format(*keys))
        made = BedrockProvider(
            model=NOVA, region="us-east-1", profile="work", endpoint_url=bedrock.endpoint_url
        )
        with pytest.raises(AuthenticationError):
            made.chat([Message.user("Hi")])
        write_config(profile.format(keys[0], bedrock.settings["secret_access_key"]))
        assert made.chat([Message.user("Hi")]).message == "Hi"
        made.close()


def test_empty_settings_count_as_not_given() -> None:
    made = provider(profile="", session_token="", endpoint_url="", model_name="")
    assert (made.config.profile, made.config.session_token, made.config.endpoint_url) == (None, None, None)


def test_a_profile_that_does_not_exist_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="nobody") as caught:
        BedrockProvider(model=NOVA, region="us-east-1", profile="nobody")
    assert caught.value.field == "profile"


def test_no_credentials_at_all_are_known_without_any_network() -> None:
    with pytest.raises(MissingAuthError, match="no AWS credentials") as caught:
        BedrockProvider(model=NOVA, region="us-east-1")
    assert "aws configure" in str(caught.value)


def test_half_a_key_in_the_environment_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHALF")
    with pytest.raises(MissingAuthError, match="without AWS_SECRET_ACCESS_KEY"):
        BedrockProvider(model=NOVA, region="us-east-1")


def refuse(listener: socket.socket, asked: list[bytes]) -> None:
    """A metadata service without a role."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )


def test_the_metadata_service_is_not_asked_while_building_but_at_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as metadata:
        threading.Thread(target=refuse, args=(metadata, asked), daemon=True).start()
        url = f"http://127.0.0.1:{metadata.getsockname()[1]}/"
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        made = BedrockProvider(model=NOVA, region="us-east-1", endpoint_url="http://127.0.0.1:9")
        assert made.describe().to_dict()["credentials"]["source"].startswith("instance metadata")
        assert not asked
        with pytest.raises(AuthenticationError, match="no usable AWS credentials") as caught:
            made.chat([Message.user("Hi")])
        assert caught.value.sent is False
        assert asked
        metadata.shutdown(socket.SHUT_RDWR)


def test_credentials_that_appear_later_are_found_at_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with BedrockEmulator() as bedrock:
        monkeypatch.setenv("BOTO_CONFIG", "/nonexistent")  # so that it is not certain that there are none
        made = BedrockProvider(model=NOVA, region="us-east-1", endpoint_url=bedrock.endpoint_url)
        with pytest.raises(AuthenticationError):
            made.chat([Message.user("Hi")])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", bedrock.settings["access_key_id"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bedrock.settings["secret_access_key"])
        assert made.chat([Message.user("Hi")]).message == "Hi"
        made.close()


def test_a_session_brings_its_region_and_credentials() -> None:
    with BedrockEmulator(region="eu-north-1") as bedrock:
        session = boto3.Session(
            aws_access_key_id=bedrock.settings["access_key_id"],
            aws_secret_access_key=bedrock.settings["secret_access_key"],
            region_name="eu-north-1",
        )
        made = BedrockProvider(model=NOVA, session=session, endpoint_url=bedrock.endpoint_url)
        assert made.chat([Message.user("Hi")]).message == "Hi"
        assert made.describe().to_dict()["region"]["source"] == "session"
        made.close()


def test_a_bedrock_api_key_in_the_environment_is_sent_in_place_of_a_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-abcdefghij")
    made = BedrockProvider(model=NOVA, region="us-east-1")
    sent: list[Any] = []

    def stop(request: Any, **_: Any) -> None:
        sent.append(request)
        raise ConnectionRefusedError("stopped at the door: it goes out over TLS only")

    made._connections.client().meta.events.register("before-send.bedrock-runtime", stop)
    with pytest.raises(LoomError, match="at the door"):
        made.chat([Message.user("Hi")])
    assert sent[0].headers["authorization"] in (
        "Bearer bedrock-api-key-abcdefghij",
        b"Bearer bedrock-api-key-abcdefghij",
    )
    assert "bedrock-api-key" not in repr(made) + str(made.describe())


def test_the_endpoint_comes_from_awss_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "https://vpce-1.example.com/")
    assert provider().endpoint == "https://vpce-1.example.com"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert provider().endpoint == "https://bedrock-runtime.us-east-1.amazonaws.com"


def test_no_secret_shows_anywhere() -> None:
    made = provider(session_token="a-session-token-that-must-never-show")
    shown = f"{made!r} {made} {made.describe()} {made.config!r} {made.config} {made.describe().to_dict()}"
    assert KEYS["secret_access_key"] not in shown
    assert "a-session-token-that" not in shown
    assert "a-se...0001" in shown


def test_config_survives_pickling_and_is_frozen() -> None:
    config = provider().config
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValueError, match="frozen"):
        config.region = "x"
