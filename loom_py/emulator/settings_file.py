"""An emulated resource described in a file, YAML or JSON.

::

    region: westeurope
    keys: [emulator-key]
    deployments:
      chat: gpt-4o-2024-11-20
      small:
        model: gpt-4.1-mini
        quota: {tokens_per_minute: 60000, requests_per_minute: 360}
      reserved:
        model: gpt-4o
        ptu: {tokens_per_minute: 100000}
        engine: scripted:answers.json
    faults:
      seed: 7
      rules:
        - {error: 429-2026, probability: 0.1}

Paths in it are relative to its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from loom_py.emulator.engines import engine_of
from loom_py.emulator.fault_plan import FaultPlan
from loom_py.emulator.quotas import Ptu, Quota
from loom_py.errors import BuilderError, ConfigError, MissingDependencyError, Problem

__all__ = ["load_settings"]

MAX_SIZE = 1024 * 1024
"""Bytes of a file at most."""


class _Deployment(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)
    quota: Quota | None = None
    ptu: Ptu | None = None
    engine: str | None = None


def _model_alone(given: Any) -> Any:
    """A deployment that is written as its model's name alone."""
    return {"model": given} if isinstance(given, str) else given


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str = "eastus"
    keys: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=lambda: ["emulator-key"], min_length=1
    )
    deployments: dict[str, Annotated[_Deployment, BeforeValidator(_model_alone)]] = Field(
        default_factory=dict
    )
    engine: str = "echo"
    faults: dict[str, Any] | str | None = None
    chunk_delay: float = Field(default=0.0, ge=0.0)
    quirks: bool = True


def load_settings(path: str | Path) -> dict[str, Any]:
    """The arguments for an `AzureEmulator` that the file describes.

    Raises `ConfigError` for a file that cannot be read, and a `BuilderError` with everything that is wrong.
    """
    file = Path(path)
    try:
        given = TypeAdapter(_Settings).validate_python(_read(file))
    except ValidationError as exc:
        raise BuilderError(map(_problem, exc.errors()), what=f"the emulator of {file}") from None
    settings = given.deployments
    made: dict[str, Any] = {
        "engine": _engine(given.engine, file.parent),
        "region": given.region,
        "api_keys": given.keys,
        "chunk_delay": given.chunk_delay,
        "quirks": given.quirks,
        "faults": _faults(given.faults, file.parent),
        "quotas": {name: found for name, each in settings.items() if (found := _quota(name, each))},
        "engines": {
            name: found
            for name, each in settings.items()
            if each.engine and (found := _engine(each.engine, file.parent)) is not None
        },
    }
    if settings:
        made["deployments"] = {name: each.model for name, each in settings.items()}
    return made


_WORDS = {
    "missing": "is missing",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "dataclass_type": "must be a mapping",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}
"""What is wrong, by pydantic's name for it."""


def _problem(found: ErrorDetails) -> Problem:
    """One thing wrong, in words that know nothing of Python."""
    kind, loc = found["type"], found["loc"]
    place = ".".join(map(str, loc)) or "file"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        holder = _Deployment if len(loc) == 3 else _Settings
        hint = f"Known are {', '.join(holder.model_fields)}." if len(loc) in (1, 3) else None
        return Problem(place, "there is no such setting", hint)
    words = found["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return Problem(place, f"{place} {_WORDS.get(kind, words)}")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        if file.stat().st_size > MAX_SIZE:
            raise ConfigError(f"{file} has more than {MAX_SIZE:,} bytes", field="file")
        text = file.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", field="file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8", field="file") from None
    data = _json(file, text) if file.suffix.lower() == ".json" else _yaml(file, text)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{file} must hold a mapping, such as deployments: …", field="file")
    return data


def _json(file: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON: {error}", field="file") from None


def _yaml(file: Path, text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "reading YAML needs the package pyyaml", hint="pip install 'loom-py[yaml]', or write JSON."
        ) from None
    try:
        return yaml.load(text, Loader=_loader())  # noqa: S506 - a SafeLoader that minds names given twice
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{file} is not YAML: {error}", field="file") from None


def _loader() -> Any:
    """PyYAML's safe loader, for which a name that is given twice is an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        line = key.start_mark.line + 1
                        raise ValueError(f"{key.value!r} is given twice, again in line {line}")
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


def _quota(name: str, given: _Deployment) -> Quota | Ptu | None:
    if given.quota is not None and given.ptu is not None:
        raise ConfigError(f"deployment {name!r} has quota and ptu: one of them", field="deployments")
    return given.quota or given.ptu


def _faults(given: Mapping[str, Any] | str | None, folder: Path) -> FaultPlan | None:
    if given is None:
        return None
    return FaultPlan.load(folder / given) if isinstance(given, str) else FaultPlan.from_dict(given)


def _engine(spec: str, folder: Path) -> Any:
    """The engine; the files it names are beside the file that names it."""
    kind, colon, path = spec.partition(":")
    if colon and kind in {"scripted", "replay"}:
        spec = f"{kind}:{folder / path}"
    return engine_of(spec)
