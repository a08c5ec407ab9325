"""Where the credentials come from, as far as that can be told without any network.

boto3's chain ends at services that must be asked: a container's endpoint and the instance metadata. They
are never asked while a provider is made; what they say shows at the first call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]  # it ships no types
import botocore.session  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
from botocore.loaders import create_loader  # type: ignore[import-untyped]
from pydantic import SecretStr

from loom_bedrock.config import problem
from loom_py.errors import ConfigError, MissingAuthError, Problem

__all__ = ["Login", "bearer_token"]

SERVICE = "bedrock-runtime"
BEARER_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"
_PROFILE_KEYS = {
    "aws_access_key_id": "keys",
    "role_arn": "assumed role",
    "credential_process": "credential process",
    "sso_session": "single sign-on",
    "sso_start_url": "single sign-on",
    "login_session": "console login",
}
_CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_LEGACY = ("BOTO_CONFIG", "AWS_CREDENTIAL_FILE")
_REMEDY = (
    "pass access_key_id= and secret_access_key=, profile= or session=, set AWS_ACCESS_KEY_ID and"
    f" AWS_SECRET_ACCESS_KEY (or {BEARER_VARIABLE}), or run aws configure"
)


def bearer_token() -> str | None:
    """The Bedrock API key in the environment, which botocore sends in place of a signature."""
    return os.environ.get(BEARER_VARIABLE) or None


@cache
def _loader() -> Any:
    """What reads botocore's data about services: once for all providers."""
    return create_loader()


class Login:
    """A session of botocore or boto3, and what is known of its credentials.

    ``problems`` says what is wrong for certain, ``source`` where the credentials come from.
    """

    def __init__(self, session: boto3.Session | None, settings: Mapping[str, Any]) -> None:
        self.problems: list[Problem] = []
        self.source = "session"
        self.is_given = session is not None
        self._profile = settings.get("profile") or None
        self._keys = {name: _revealed(settings.get(name)) for name in _ARGUMENTS}
        self._core = self._new_core()
        self.session = session
        if session is None:
            self._look()
        elif not callable(getattr(session, "client", None)):
            message = f"session must be a boto3.Session, not {type(session).__name__}"
            self.problems.append(problem(ConfigError, "session", message, "pass boto3.Session(…)"))
            self.session = None

    @property
    def kind(self) -> str:
        """What the credentials are, in a word or two."""
        if self.is_given:
            return "a boto3 session"
        return "keys" if self.source == "argument" else "boto3's chain"

    @property
    def region(self) -> str | None:
        """The region of the session or the AWS profile, if it has one."""
        if self.session is not None:
            return str(self.session.region_name or "") or None
        try:
            return self._core.get_config_variable("region") or None
        except BotoCoreError:  # told among the problems
            return None

    def renew(self) -> None:
        """Read credentials anew at the next call: these were refused, and files and variables change."""
        if not self.is_given:
            self._core = self._new_core()

    def _new_core(self) -> Any:
        core = botocore.session.Session(profile=self._profile)
        core.register_component("data_loader", _loader())
        return core

    @property
    def is_at_hand(self) -> bool:
        """Whether the credentials lie ready, so that nothing has to be asked for them."""
        return not self.is_given and self.source.startswith(("argument", "environment"))

    @property
    def credentials(self) -> Any:
        """The credentials in use; `None` without any. Only to be asked once a client was made."""
        session = self._core if self.session is None else self.session
        return session.get_credentials()

    def client(self, **settings: Any) -> Any:
        """A client of Bedrock's runtime. Credentials that do not lie ready are asked for now."""
        if self.session is not None:
            return self.session.client(SERVICE, **settings)
        keys = {_ARGUMENTS[name]: value for name, value in self._keys.items() if value}
        return self._core.create_client(SERVICE, **keys, **settings)

    def _look(self) -> None:
        if self._keys["access_key_id"] or self._keys["secret_access_key"]:
            self.source = "argument"
            return
        try:
            profile = self._core.get_scoped_config()
        except BotoCoreError as exc:
            remedy = "name a profile of your AWS configuration (aws configure list-profiles)"
            self.problems.append(problem(ConfigError, "profile", str(exc), remedy))
            return
        found = self._in_environment() or _in_profile(profile) or _in_container()
        if found is None and _metadata_is_off():
            message = "no AWS credentials were found, and the instance metadata service is switched off"
            self.problems.append(problem(MissingAuthError, "access_key_id", message, _REMEDY))
        self.source = found or "instance metadata, asked at the first call"

    def _in_environment(self) -> str | None:
        if bearer_token():
            return f"environment ({BEARER_VARIABLE})"
        if self._profile is not None:
            return None  # a profile that is named comes before the environment
        has_id, has_key = (os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
        if has_id and not has_key:
            message = "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"
            self.problems.append(
                problem(MissingAuthError, "secret_access_key", message, "set AWS_SECRET_ACCESS_KEY too")
            )
        if has_id:
            return "environment (AWS_ACCESS_KEY_ID)"
        if os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and os.environ.get("AWS_ROLE_ARN"):
            return "environment (AWS_WEB_IDENTITY_TOKEN_FILE)"
        return None


_ARGUMENTS = {
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}


def _revealed(value: Any) -> str | None:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return text.strip() if isinstance(text, str) and text.strip() else None


def _in_profile(profile: Mapping[str, Any]) -> str | None:
    kind = next((kind for key, kind in _PROFILE_KEYS.items() if profile.get(key)), None)
    return None if kind is None else f"AWS configuration ({kind})"


def _in_container() -> str | None:
    if any(os.environ.get(name) for name in _CONTAINER):
        return "container credentials"
    old = any(os.environ.get(name) for name in _LEGACY) or Path("~/.boto").expanduser().exists()
    return "legacy configuration" if old else None


def _metadata_is_off() -> bool:
    return os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
