"""`Deployment`: one member of a pool of deployments, as a user describes it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from loom_py.errors import ConfigError
from loom_py.llm.provider import LLMProvider

if TYPE_CHECKING:
    from loom_py.llm.azure.auth import KeySource, TokenProvider
    from loom_py.llm.prices import DeploymentType, PriceSetting

__all__ = ["Deployment", "priorities"]

_AZURE = "azure-openai"
_CREDENTIALS = frozenset({"api_key", "entra_token", "credential"})
_MODELS = frozenset({"deployment_id", "model"})
_ALTERNATIVES = (_CREDENTIALS, _MODELS)
"""Settings of which one takes the place of the others."""
_NO_TAGS: frozenset[str] = frozenset()
_VERBS = ("chat", "achat", "stream_chat", "astream_chat")


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Deployment:
    """One member of a pool: a provider, and what the pool is to know of it::

        .with_failover([
            Deployment.azure("https://b.openai.azure.com", "gpt-4o-b", "key-b", residency="eu"),
            Deployment("bedrock:claude", region="us-east-1", settings={"region": "us-east-1"}),
            Deployment(provider),
        ])

    Arguments:
        provider: an `LLMProvider`, or the name of an installed one, ``"name"`` or ``"name:model"``.
        name: what it is called in logs and errors; by default what is called: deployment or model.
        priority: a whole number; the lowest is used first. ``None``: its position in a list for
            failover (0 is the first), and the same for all where the load is balanced.
        weight: above 0; its share of the calls where they are balanced by weight.
        region: where it is, such as ``"swedencentral"``. For people; nothing is chosen by it.
        residency: where its data stays: one or several tags, such as ``"eu"``, in any case.
        tokens_per_minute, requests_per_minute: its quota, for the rate limit.
        provisioned: it is paid for whether it is used or not (PTU). Without a priority it is used
            before all others, and what it cannot take goes to them.
        shared: the provider object is not closed with the agent.
        settings: further settings of the provider. Those that have the name of one of the arguments
            above, such as a provider's own ``region``, can only be given here.

    Any other keyword is a setting of the provider, too. Raises `ConfigError`, with the ``field``, for
    what makes no sense. Its ``repr`` names the settings and never shows their values.
    """

    provider: LLMProvider | str = field(hash=False)
    name: str | None
    priority: int | None
    weight: float
    region: str | None
    residency: frozenset[str]
    tokens_per_minute: int | None
    requests_per_minute: int | None
    provisioned: bool
    shared: bool
    settings: Mapping[str, Any] = field(hash=False)

    def __init__(
        self,
        provider: LLMProvider | str = _AZURE,
        /,
        *,
        name: str | None = None,
        priority: int | None = None,
        weight: float = 1.0,
        region: str | None = None,
        residency: str | Collection[str] | None = None,
        tokens_per_minute: int | None = None,
        requests_per_minute: int | None = None,
        provisioned: bool = False,
        shared: bool = False,
        settings: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        values = {
            "provider": _checked_provider(provider),
            "name": _text("name", name),
            "priority": _checked_priority(priority),
            "weight": _checked_weight(weight),
            "region": _text("region", region),
            "residency": _tags(residency),
            "tokens_per_minute": _quota("tokens_per_minute", tokens_per_minute),
            "requests_per_minute": _quota("requests_per_minute", requests_per_minute),
            "provisioned": _flag("provisioned", provisioned),
            "shared": _flag("shared", shared),
            "settings": _merged(settings, more),
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)
        self._check_together()

    @classmethod
    def azure(
        cls,
        endpoint: str | None = None,
        deployment_id: str | None = None,
        api_key: str | KeySource | None = None,
        *,
        credential: str | TokenProvider | Any = None,
        model_name: str | None = None,
        api_version: str | None = None,
        deployment_type: DeploymentType | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        surface: Literal["auto", "chat", "responses"] | None = None,
        api: Literal["auto", "classic", "v1"] | None = None,
        fast: bool | None = None,
        name: str | None = None,
        priority: int | None = None,
        weight: float = 1.0,
        region: str | None = None,
        residency: str | Collection[str] | None = None,
        tokens_per_minute: int | None = None,
        requests_per_minute: int | None = None,
        provisioned: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> Deployment:
        """An Azure OpenAI deployment. Settings as for `AzureOpenAIClient`, those not named in ``settings``.

        The key is an API key; ``credential`` is an azure-identity credential, a function that returns a
        token, ``"default"`` for azure-identity's ``DefaultAzureCredential``, or a token. What is left
        out comes from the builder's shared settings, then from the environment.
        """
        is_token = isinstance(credential, str) and credential != "default"
        given = {
            "endpoint": endpoint,
            "deployment_id": deployment_id,
            "api_key": api_key,
            "entra_token" if is_token else "credential": credential,
            "model_name": model_name,
            "api_version": api_version,
            "deployment_type": deployment_type,
            "prices": prices,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "timeout": timeout,
            "surface": surface,
            "api": api,
            "fast": fast,
        }
        return cls(
            _AZURE,
            name=name,
            priority=priority,
            weight=weight,
            region=region,
            residency=residency,
            tokens_per_minute=tokens_per_minute,
            requests_per_minute=requests_per_minute,
            provisioned=provisioned,
            settings=_merged(settings, {key: value for key, value in given.items() if value is not None}),
        )

    def __repr__(self) -> str:
        provider = self.provider if isinstance(self.provider, str) else type(self.provider)
        shown = [repr(provider) if isinstance(provider, str) else f"<{provider.__name__}>"]
        fields: dict[str, tuple[object, object]] = {
            "name": (self.name, None),
            "priority": (self.priority, None),
            "weight": (self.weight, 1.0),
            "region": (self.region, None),
            "residency": (sorted(self.residency), []),
            "tokens_per_minute": (self.tokens_per_minute, None),
            "requests_per_minute": (self.requests_per_minute, None),
            "provisioned": (self.provisioned, False),
            "shared": (self.shared, False),
        }
        shown += [f"{name}={value!r}" for name, (value, default) in fields.items() if value != default]
        if self.settings:
            shown.append(f"settings={{{', '.join(self.settings)}}}")
        return f"Deployment({', '.join(shown)})"

    @property
    def label(self) -> str:
        """What it is called: its ``name``, else the deployment or model, else the provider's name."""
        if self.name is not None:
            return self.name
        if not isinstance(self.provider, str):
            return self.provider.model
        _, _, model = self.provider.partition(":")
        given = self.settings.get("deployment_id") or model or self.settings.get("model")
        return str(given).strip() if given else self.provider

    def with_defaults(self, settings: Mapping[str, Any], *, provider: str = _AZURE) -> Deployment:
        """The same with those of ``settings`` that it does not give itself.

        The settings are those of the provider named ``provider``: a deployment of another one, or one
        made with a provider object, stays as it is. ``None`` counts as not given. One that has a
        credential of its own takes no other, and one that names its model no other model.
        """
        spec = self.provider
        if not isinstance(spec, str) or _provider_name(spec) != _provider_name(provider):
            return self
        own = {key: value for key, value in self.settings.items() if value is not None}
        settled = set(own) | ({"model"} if ":" in spec else set())
        for alternatives in _ALTERNATIVES:
            if settled & alternatives:
                settled |= alternatives
        added = {key: value for key, value in settings.items() if value is not None and key not in settled}
        return Deployment(
            spec,
            name=self.name,
            priority=self.priority,
            weight=self.weight,
            region=self.region,
            residency=self.residency,
            tokens_per_minute=self.tokens_per_minute,
            requests_per_minute=self.requests_per_minute,
            provisioned=self.provisioned,
            shared=self.shared,
            settings={**self.settings, **added},
        )

    def _check_together(self) -> None:
        """What only makes sense with something else."""
        settings = self.settings
        if isinstance(self.provider, str):
            if self.shared:
                raise ConfigError(
                    "shared goes with a provider object: what the agent makes, it closes", field="shared"
                )
            self._check_credential(_provider_name(self.provider))
        elif settings:
            names = ", ".join(settings)
            raise ConfigError(
                f"settings ({names}) go with a provider's name, not with a provider object",
                field="settings",
            )

    def _check_credential(self, provider: str) -> None:
        given = [name for name in self.settings if name in _CREDENTIALS and self.settings[name] is not None]
        if provider == _AZURE and len(given) > 1:
            raise ConfigError(
                f"a deployment takes one credential; {' and '.join(given)} were given",
                field="credential",
                hint="Keep the API key or the credential.",
            )


def priorities(deployments: Sequence[Deployment], *, in_order: bool) -> tuple[int, ...]:
    """The priority of each of ``deployments``, those that give none included.

    Where they are ``in_order``, as for failover, one without a priority has its position in the list
    for it; otherwise it has 0. The provisioned ones without a priority come before all others: in
    order, each by itself; otherwise together.
    """
    found: dict[int, int] = {}
    provisioned = []
    for position, deployment in enumerate(deployments):
        if deployment.priority is not None:
            found[position] = deployment.priority
        elif deployment.provisioned:
            provisioned.append(position)
        else:
            found[position] = position if in_order else 0
    first = min(found.values(), default=0)
    for number, position in enumerate(provisioned):
        found[position] = first - (len(provisioned) - number if in_order else 1)
    return tuple(found[position] for position in range(len(deployments)))


# ── checks ───────────────────────────────────────────────────────────────────────────────


def _provider_name(spec: str) -> str:
    """A provider's name as the registry reads it."""
    return spec.partition(":")[0].strip().lower().replace("_", "-")


def _checked_provider(provider: object) -> LLMProvider | str:
    if isinstance(provider, str):
        if not _provider_name(provider):
            raise ConfigError("a deployment's provider needs a name", field="provider")
        return provider.strip()
    if isinstance(provider, type) or not _is_provider(provider):
        kind = f"the class {provider.__name__}" if isinstance(provider, type) else type(provider).__name__
        raise ConfigError(
            f"{kind} is not an LLM provider",
            field="provider",
            hint="Give an LLMProvider, the name of an installed one, or use Deployment.azure(…).",
        )
    return provider


def _is_provider(thing: object) -> TypeGuard[LLMProvider]:
    """``isinstance(thing, LLMProvider)``, which in Python 3.11 takes longer than all else of an agent."""
    if not (hasattr(thing, "name") and hasattr(thing, "model")):
        return False
    return all(callable(getattr(thing, verb, None)) for verb in _VERBS)


def _merged(settings: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"settings must be a mapping, not {type(settings).__name__}", field="settings")
    given = dict(settings or {})
    if "provider" in more:
        raise ConfigError(
            "the provider is the first argument, without a keyword",
            field="provider",
            hint="A provider's own setting of that name goes into settings={…}.",
        )
    for name in given:
        if not isinstance(name, str):
            raise ConfigError(f"a setting's name must be text, not {type(name).__name__}", field="settings")
        if name in more:
            raise ConfigError(f"{name} is given twice: by itself and in settings", field=name)
    return {**given, **more}


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        kind = "empty" if isinstance(value, str) else type(value).__name__
        raise ConfigError(f"a deployment's {name} must be text that is not empty; it is {kind}", field=name)
    return value.strip()


def _tags(residency: object) -> frozenset[str]:
    tags: object = [residency] if isinstance(residency, str) else residency
    if tags is None:
        return _NO_TAGS
    if not isinstance(tags, Collection) or isinstance(tags, (bytes, bytearray, Mapping)):
        raise ConfigError(
            f"residency must be a tag or several, such as 'eu', not {type(residency).__name__}",
            field="residency",
        )
    return frozenset(str(_text("residency", tag or "")).lower() for tag in tags)


def _checked_priority(value: object) -> int | None:
    if value is None or type(value) is int:
        return value
    raise ConfigError(f"a deployment's priority must be a whole number, not {value!r}", field="priority")


def _checked_weight(value: object) -> float:
    if isinstance(value, (int, float)) and type(value) is not bool and 0 < value <= sys.float_info.max:
        return float(value)
    raise ConfigError(f"a deployment's weight must be a finite number above 0, not {value!r}", field="weight")


def _quota(name: str, value: object) -> int | None:
    if value is None:
        return None
    if type(value) is int and value > 0:
        return value
    raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}", field=name)


def _flag(name: str, value: object) -> bool:
    if type(value) is bool:
        return value
    raise ConfigError(f"{name} must be True or False, not {value!r}", field=name)
