"""Whether a request is signed as AWS demands: Signature Version 4, computed anew by botocore's signer."""

from __future__ import annotations

import datetime as dt
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from botocore.auth import SigV4Auth  # type: ignore[import-untyped]  # botocore ships no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]

from loom_bedrock.emulator.exceptions import BedrockException

__all__ = ["Account", "check_signature"]

SERVICE = "bedrock"
SKEW = dt.timedelta(minutes=5)
"""How far a client's clock may be off."""

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)"
    r"/aws4_request, SignedHeaders=(?P<headers>[a-z0-9;_-]+), Signature=(?P<signature>[0-9a-f]{64})"
)
_NO_MATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret"
    " Access Key and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True)
class Account:
    """Who may call: one access key, with its secret and perhaps a session token."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None
    region: str

    def __repr__(self) -> str:
        return f"Account({self.access_key_id!r}, region={self.region!r})"


def check_signature(account: Account, url: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raises the `BedrockException` that AWS answers a request with that is not signed by ``account``.

    ``headers`` are by small names, ``url`` is the one the client called.
    """
    given = headers.get("authorization", "")
    if not given:
        raise BedrockException("MissingAuthenticationTokenException")
    match = _AUTHORIZATION.fullmatch(given)
    if match is None:
        message = f"Authorization header requires 'Credential' parameter. Authorization={given[:40]}"
        raise BedrockException("IncompleteSignatureException", message, status=403)
    if match["key"] != account.access_key_id or headers.get("x-amz-security-token") != account.session_token:
        raise BedrockException("UnrecognizedClientException")
    if (match["region"], match["service"]) != (account.region, SERVICE):
        raise BedrockException(
            "InvalidSignatureException",
            f"Credential should be scoped to a valid region and to correct service: '{SERVICE}'.",
        )
    _check_time(headers.get("x-amz-date", ""))
    expected = _signature(
        account, url, {name: headers.get(name, "") for name in match["headers"].split(";")}, body
    )
    if not hmac.compare_digest(expected, match["signature"]):
        raise BedrockException("InvalidSignatureException", _NO_MATCH)


def _check_time(stamp: str) -> None:
    try:
        signed = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        raise BedrockException(
            "InvalidSignatureException", "Date must be in ISO-8601 'basic format'."
        ) from None
    if abs(dt.datetime.now(dt.UTC) - signed) > SKEW:
        raise BedrockException("InvalidSignatureException", f"Signature expired: {stamp} is now too old.")


def _signature(account: Account, url: str, signed: Mapping[str, str], body: bytes) -> str:
    credentials = Credentials(account.access_key_id, account.secret_access_key, account.session_token)
    signer = SigV4Auth(credentials, SERVICE, account.region)
    request = AWSRequest(method="POST", url=url, data=body)
    for name, value in signed.items():
        request.headers[name] = value
    request.context["timestamp"] = signed.get("x-amz-date", "")
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(to_sign, request))
