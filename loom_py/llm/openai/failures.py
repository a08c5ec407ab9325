"""What to do about OpenAI's refusals.

Which error a refusal is, is told in `loom_py.llm.azure.errors`; the advice there is for Azure. `ADVICE` is
OpenAI's, as data: the first row that fits an error says what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from loom_py.errors import (
    AuthenticationError,
    ContentFilterError,
    DeploymentNotFoundError,
    LoomError,
    MalformedResponseError,
    NetworkAccessError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    UnsupportedParameterError,
)
from loom_py.llm.azure.errors import TOO_LARGE, USED_UP
from loom_py.llm.azure.failures import Failures

__all__ = ["ADVICE", "Advice", "OpenAIFailures"]


@dataclass(frozen=True, slots=True)
class Advice:
    """One row: errors of a kind, with one of the ``codes`` or a ``message``, each optional.

    Without ``advice`` the error keeps what it has; ``{model}`` and ``{base_url}`` in it are what was called.
    ``is_final`` says that another try is of no use, whatever the error's kind.
    """

    error: type[ProviderError]
    advice: str | None
    codes: frozenset[str] = frozenset()
    message: str = ""
    is_final: bool = False

    def fits(self, error: ProviderError) -> bool:
        """Whether the row is about ``error``."""
        code = (error.provider_code or "").lower()
        return (
            isinstance(error, self.error)
            and (not self.codes or code in self.codes)
            and re.search(self.message, error.message, re.IGNORECASE) is not None
        )


_ECHOED_KEY = re.compile(r"(?<![\w-])sk-[\w.*…-]*[\w*]|(?<=API key provided: )[^\s.]+")
"""A key, or what is left of it, in the words of a refusal."""

_SCOPES = (
    "The key is a restricted one: give it the permission that the message names"
    " (platform.openai.com/api-keys), or use another."
)

_UNVERIFIED = Advice(
    ProviderError,
    "Verify the organization (platform.openai.com/settings/organization/general), or use another model.",
    message=r"organization must be verified",
)
_NO_CHAT_MODEL = Advice(
    ProviderError,
    "The model {model} is no chat model: use one that answers in /v1/chat/completions or /v1/responses.",
    message=r"not a chat model|does not work with the specified model",
)

ADVICE: tuple[Advice, ...] = (
    Advice(AuthenticationError, None, message=r"^the credential "),  # the user's own function failed
    Advice(AuthenticationError, _SCOPES, message=r"missing scopes|insufficient permissions"),
    Advice(
        AuthenticationError,
        "Check organization= and project= (OPENAI_ORG_ID, OPENAI_PROJECT_ID): the key belongs to others.",
        message=r"\b(organization|project)\b",
    ),
    Advice(
        AuthenticationError,
        "Check OPENAI_API_KEY or api_key=: the key may be revoked, or was copied in part"
        " (platform.openai.com/api-keys).",
    ),
    Advice(
        PermissionDeniedError,
        "OpenAI does not serve the country or region that this call comes from.",
        frozenset({"unsupported_country_region_territory"}),
    ),
    Advice(PermissionDeniedError, _SCOPES, message=r"missing scopes|insufficient permissions"),
    _UNVERIFIED,
    Advice(NetworkAccessError, "Add this address to the allowed ones of the project or the organization."),
    Advice(
        PermissionDeniedError,
        "Check what the key's project may use (platform.openai.com/settings), the model {model} above all.",
    ),
    Advice(
        DeploymentNotFoundError,
        "Check the model's name, {model}, and whether the key's project may use it:"
        " GET /v1/models lists those it may.",
    ),
    _NO_CHAT_MODEL,
    Advice(NotFoundError, "Check base_url=: it usually ends in /v1, and the client adds the rest."),
    Advice(
        RateLimitError,
        "The account's credit or monthly budget is used up, and waiting does not help: see"
        " platform.openai.com/settings/organization/billing.",
        frozenset(USED_UP),
    ),
    Advice(RateLimitError, None, message=TOO_LARGE),
    Advice(
        ContentFilterError,
        "Rephrase the content: it goes against OpenAI's usage policies, which cannot be switched off.",
    ),
    Advice(UnsupportedParameterError, None, message=r"function tools with reasoning_effort"),
    Advice(
        UnsupportedParameterError, "The model {model} does not take this: leave it out, or use another model."
    ),
    Advice(
        MalformedResponseError,
        "Check that base_url= is an API and not a web page or a proxy's.",
        message=r"answered 200 with (an HTML page|.* that is not JSON)",
    ),
    Advice(
        ProviderError,
        "The server sends callers elsewhere: check base_url=.",
        message=r"^HTTP 3\d\d ",
    ),
)


class OpenAIFailures(Failures):
    """`Failures` of OpenAI's own API."""

    advice: tuple[Advice, ...] = ADVICE

    def complete(self, error: LoomError, headers: Mapping[str, str], model: str = "") -> LoomError:
        """``error`` with what only the client knows, and with OpenAI's advice."""
        if isinstance(error, ProviderError):
            self._advise(error)
            error.message = _ECHOED_KEY.sub("***", error.message)
        return super().complete(error, headers, model)

    def _advise(self, error: ProviderError) -> None:
        """Say what to do about ``error``, by the first row that fits it."""
        row = next((row for row in self.advice if row.fits(error)), None)
        if row is None:
            return
        if row.is_final:
            error.retryable = False
        if row.advice is not None:
            advice = row.advice.replace("{base_url}", self._config.address)
            error.hint = advice.replace("{model}", repr(self._config.target))
