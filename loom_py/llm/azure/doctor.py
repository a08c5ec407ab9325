"""A 404, diagnosed from the configuration alone: endpoint, deployment or API version?

Azure answers most wrong settings with a bare 404. `CHECKS` is the diagnosis, as data: each row
names the setting it suspects, how to see it in a `Case` and what to say. No request is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from loom_py.errors import DeploymentNotFoundError, LoomError
from loom_py.llm.azure.config import DEFAULT_API_VERSION, AzureOpenAIConfig, is_loopback
from loom_py.llm.azure.surfaces import CLASSIC_RESPONSES, Route
from loom_py.llm.models import infer_model

__all__ = ["API_VERSIONS", "AZURE_HOSTS", "CHECKS", "Case", "Check", "not_found_hint"]

Suspect: TypeAlias = Literal["endpoint", "deployment", "api_version"]

API_VERSIONS = frozenset(
    {"2022-12-01", "2023-03-15-preview", "2023-05-15", "2023-06-01-preview", "2023-07-01-preview"}
    | {"2023-08-01-preview", "2023-09-01-preview", "2023-10-01-preview", "2023-12-01-preview"}
    | {"2024-02-01", "2024-02-15-preview", "2024-03-01-preview", "2024-04-01-preview"}
    | {"2024-05-01-preview", "2024-06-01", "2024-07-01-preview", "2024-08-01-preview"}
    | {"2024-09-01-preview", "2024-10-01-preview", "2024-10-21", "2024-12-01-preview"}
    | {"2025-01-01-preview", "2025-02-01-preview", "2025-03-01-preview", "2025-04-01-preview"}
)
"""The dated versions of the inference API, from the folders of its specifications that Microsoft
publishes (azure-rest-api-specs, cognitiveservices/data-plane/AzureOpenAI/inference). The v1 API, which
followed them, has none."""

FIRST_CHAT = "2023-03-15"
"""The first dated version with chat completions (same source)."""

AZURE_HOSTS = (
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".api.cognitive.microsoft.com",
    ".azure-api.net",
    ".openai.azure.us",
    ".cognitiveservices.azure.us",
    ".azure-api.us",
    ".openai.azure.cn",
    ".cognitiveservices.azure.cn",
    ".azure-api.cn",
)
"""Ends of the host names under which resources and API Management gateways answer."""

_GATEWAYS = (".azure-api.net", ".azure-api.us", ".azure-api.cn")
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_MODEL_VERSION = re.compile(r"[-_:@](20\d{2}-?\d{2}-?\d{2}|\d{4})$")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a call that found nothing.

    ``knows_path`` says that Azure understood the URL and missed the deployment only.
    """

    host: str
    path: str
    deployment: str
    api_version: str
    is_v1: bool
    wants_responses: bool
    knows_path: bool

    @property
    def is_dated(self) -> bool:
        """Whether the API version has the form that Azure's have."""
        return _DATED.fullmatch(self.api_version) is not None

    @property
    def is_gateway(self) -> bool:
        """Whether an API Management gateway answered, whose paths are its owner's."""
        return self.host.endswith(_GATEWAYS)

    @property
    def is_azure(self) -> bool:
        """Whether the host is one of Azure's; this machine's own are taken for stand-ins."""
        return self.host.endswith(AZURE_HOSTS) or is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class Check:
    """One row: the setting it suspects, when, and what to say; ``{…}`` are fields of the case."""

    suspect: Suspect
    fits: Callable[[Case], bool]
    advice: str


CHECKS: tuple[Check, ...] = (
    Check(
        "endpoint",
        lambda case: case.host == "api.openai.com",
        "{host} is OpenAI's own API, not Azure: use https://NAME.openai.azure.com.",
    ),
    Check(
        "endpoint",
        lambda case: case.host in {"portal.azure.com", "ai.azure.com", "oai.azure.com"},
        "{host} is a web page for people: use the resource's own URL, https://NAME.openai.azure.com.",
    ),
    Check(
        "endpoint",
        lambda case: not case.is_azure and not case.knows_path,
        "{host} is no host of Azure OpenAI (https://NAME.openai.azure.com,"
        " NAME.cognitiveservices.azure.com or NAME.services.ai.azure.com). If it is a proxy or a gateway of"
        " your own, check which path it serves.",
    ),
    Check(
        "endpoint",
        lambda case: case.path.startswith("/api/projects") and not case.is_v1,
        "{path} is a Foundry project: leave it out, or end the endpoint in {path}/openai/v1.",
    ),
    Check(
        "endpoint",
        lambda case: bool(case.path) and case.is_azure and not case.is_gateway and not case.is_v1,
        "it has the path {path}: give the resource's base URL, https://{host}.",
    ),
    Check(
        "endpoint",
        lambda case: case.is_gateway and not case.knows_path,
        "an API Management gateway answered: check the path of its API after https://{host}"
        " (now {path!r}), and whether it serves this operation.",
    ),
    Check(
        "api_version",
        lambda case: not case.is_v1 and case.api_version in {"preview", "latest", "v1"},
        "{api_version!r} belongs to the v1 API: end the endpoint in /openai/v1 and leave api_version out.",
    ),
    Check(
        "api_version",
        lambda case: not case.is_v1 and not case.is_dated,
        "{api_version!r} has not the form YYYY-MM-DD or YYYY-MM-DD-preview, such as "
        + DEFAULT_API_VERSION
        + ".",
    ),
    Check(
        "api_version",
        lambda case: not case.is_v1 and case.is_dated and not case.knows_path and not _is_listed(case),
        "Azure has published no version {api_version!r}{meant}; {newest} is the last dated one that is"
        " generally available.",
    ),
    Check(
        "api_version",
        lambda case: (
            not case.is_v1 and case.is_dated and case.wants_responses and case.api_version < CLASSIC_RESPONSES
        ),
        "{api_version} is too old for the Responses API: take {responses}-preview or later, or end the"
        " endpoint in /openai/v1.",
    ),
    Check(
        "api_version",
        lambda case: not case.is_v1 and case.is_dated and case.api_version < FIRST_CHAT,
        "{api_version} is from before chat completions, which {newest} has.",
    ),
    Check(
        "deployment",
        lambda case: "/" in case.deployment,
        "{deployment!r} has a slash, which no deployment's name has; without the part before it,"
        " it would be {last!r}.",
    ),
    Check(
        "deployment",
        lambda case: "/" not in case.deployment and _NAME.fullmatch(case.deployment) is None,
        "{deployment!r} cannot be a deployment's name: these have letters, digits, '-', '_' and '.',"
        " at most 64.",
    ),
    Check(
        "deployment",
        lambda case: _is_versioned_model(case.deployment),
        "{deployment!r} looks like a model with its version: use the name that the deployment was given,"
        " and the model as model_name=.",
    ),
    Check(
        "deployment",
        lambda case: case.deployment.startswith("gpt-3.5"),
        "{deployment!r} is OpenAI's name of a model, which Azure writes gpt-35-turbo: use the name that the"
        " deployment was given.",
    ),
)


def not_found_hint(config: AzureOpenAIConfig, route: Route, error: LoomError) -> str | None:
    """What to do about a 404: the settings that look wrong, or else the hint it has."""
    parts = urlsplit(config.endpoint)
    case = Case(
        host=(parts.hostname or "").lower(),
        path=parts.path,
        deployment=config.deployment_id,
        api_version=config.api_version,
        is_v1=route.is_v1,
        wants_responses=route.path == "/responses",
        knows_path=isinstance(error, DeploymentNotFoundError),
    )
    found: dict[Suspect, str] = {}
    for check in CHECKS:
        if check.suspect not in found and check.fits(case):
            found[check.suspect] = f"Check {check.suspect}: {_filled(check.advice, case)}"
    return " ".join(found.values()) or _nothing_found(case, error.hint)


def _nothing_found(case: Case, hint: str | None) -> str | None:
    if case.knows_path or not case.is_v1:
        return hint
    what = "responses" if case.wants_responses else "chat completions"
    return (
        f"The v1 API at https://{case.host}{case.path}/openai/v1 has no {what}, or no deployment"
        f" {case.deployment!r}: check endpoint and deployment, or try the classic API with api='classic'."
    )


def _filled(advice: str, case: Case) -> str:
    fields = {name: getattr(case, name) for name in Case.__dataclass_fields__}
    other = case.api_version.removesuffix("-preview")
    meant = next((name for name in sorted(API_VERSIONS) if name.startswith(other)), "")
    return advice.format(
        **fields,
        newest=DEFAULT_API_VERSION,
        responses=CLASSIC_RESPONSES,
        last=case.deployment.rpartition("/")[2],
        meant=f" (there is {meant})" if meant else "",
    )


def _is_listed(case: Case) -> bool:
    """Whether the version is published; one younger than the list may well be."""
    return case.api_version in API_VERSIONS or case.api_version > max(API_VERSIONS)


def _is_versioned_model(name: str) -> bool:
    return _MODEL_VERSION.search(name) is not None and infer_model(name) is not None
