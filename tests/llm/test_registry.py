from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pydantic import BaseModel

import loom_py.llm
from loom_py.errors import ConfigError, MissingAuthError, ProviderLoadError, ProviderNotFoundError
from loom_py.llm.provider import BaseProvider, LLMProvider
from loom_py.llm.registry import (
    ProviderInfo,
    available_providers,
    create_provider,
    load_provider,
    register_provider,
    unregister_provider,
)
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions

ECHO = """
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Response


class Echo(BaseProvider):
    name = "echo"

    def __init__(self, model="echo-1", prefix=""):
        self.model, self.prefix = model, prefix

    def chat(self, messages, tools=(), *, options=None):
        return Response(self.prefix + messages[-1].text)


def create_provider(**settings):
    return Echo(**settings)
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a real distribution on the path: a module, and its metadata with entry points."""
    modules: list[str] = []

    def install(distribution: str, entry_points: str, *, version: str = "1.2.3", **sources: str) -> None:
        info = tmp_path / distribution / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(entry_points)
        for module, source in sources.items():
            (info.parent / f"{module}.py").write_text(source)
            modules.append(module)
        monkeypatch.syspath_prepend(info.parent)

    yield install
    for module in modules:
        sys.modules.pop(module, None)


def points(*lines: str) -> str:
    return "\n".join(["[loom_py.providers]", *lines, ""])


class Local(BaseProvider):
    name = "local"

    def __init__(self, model: str = "local-1") -> None:
        self.model = model

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        return Response(messages[-1].text)


@pytest.fixture
def local() -> Iterator[str]:
    register_provider("local", Local)
    yield "local"
    unregister_provider("local")


# ── installed packages ───────────────────────────────────────────────────────────────────


def test_the_built_in_provider_is_found_by_its_entry_point() -> None:
    info = available_providers()["azure-openai"]
    assert info.distribution == "loom-py"
    assert info.error is None


def test_a_plugin_is_found_loaded_and_used(install: Install) -> None:
    install("loom-echo", points("echo = echo_plugin:create_provider"), echo_plugin=ECHO)
    assert available_providers()["echo"] == ProviderInfo("echo", "loom-echo", "1.2.3")
    assert "azure-openai" in available_providers()
    provider = create_provider("echo:big", prefix="> ")
    assert isinstance(provider, LLMProvider)
    assert provider.model == "big"
    assert provider.chat([Message.user("hi")]).message == "> hi"


def test_looking_for_providers_imports_none_of_them(install: Install) -> None:
    install("loom-echo", points("echo = echo_plugin:create_provider"), echo_plugin=ECHO)
    available_providers()
    assert "echo_plugin" not in sys.modules
    available_providers(load=True)
    assert "echo_plugin" in sys.modules


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_nobody_has", "ModuleNotFoundError: No module named 'a_module_nobody_has'"),
        ("raise RuntimeError('no weights')", "RuntimeError: no weights"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("nothing = 1", "AttributeError"),
        ("create_provider = 42", "names no factory but 42"),
    ],
)
def test_a_broken_plugin_is_told_by_name_and_harms_no_other(
    install: Install, source: str, reason: str
) -> None:
    install("loom-broken", points("broken = broken_plugin:create_provider"), broken_plugin=source)
    install("loom-echo", points("echo = echo_plugin:create_provider"), echo_plugin=ECHO)
    assert available_providers()["broken"].error is None
    tried = available_providers(load=True)
    assert reason in str(tried["broken"].error)
    assert tried["echo"].error is None
    with pytest.raises(ProviderLoadError, match=r"loom-broken 1\.2\.3") as caught:
        load_provider("broken")
    assert reason in caught.value.message
    assert callable(load_provider("echo"))


def test_the_original_error_is_the_cause(install: Install) -> None:
    install(
        "loom-broken", points("broken = broken_plugin:f"), broken_plugin="raise RuntimeError('no weights')"
    )
    with pytest.raises(ProviderLoadError) as caught:
        load_provider("broken")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.hint == "Reinstall or remove loom-broken 1.2.3."


def test_a_plugin_that_misses_an_extra_passes_the_hint_on(install: Install) -> None:
    source = (
        "from loom_py.errors import MissingDependencyError as E\nraise E('no torch', hint='pip install it')"
    )
    install("loom-broken", points("broken = broken_plugin:f"), broken_plugin=source)
    with pytest.raises(ProviderLoadError, match="no torch") as caught:
        load_provider("broken")
    assert caught.value.hint == "pip install it"


def test_a_package_with_unreadable_entry_points_harms_no_other(install: Install) -> None:
    install("loom-garbled", "[loom_py.providers]\nthis line is no entry point\n")
    install("other-garbled", "[console_scripts]\nneither is this\n")
    install("loom-echo", points("echo = echo_plugin:create_provider"), echo_plugin=ECHO)
    found = available_providers()
    assert "entry_points.txt cannot be read" in str(found["loom-garbled"].error)
    assert "other-garbled" not in found
    assert found["azure-openai"].error is None
    assert create_provider("echo").name == "echo"
    with pytest.raises(ProviderLoadError, match=r"entry_points\.txt cannot be read"):
        load_provider("loom-garbled")


def test_two_packages_with_one_name_are_both_told_and_neither_is_taken(install: Install) -> None:
    install("loom-one", points("echo = echo_plugin:create_provider"), echo_plugin=ECHO)
    install("loom-two", points("Echo = other_plugin:create_provider"), other_plugin=ECHO)
    error = str(available_providers()["echo"].error)
    assert "loom-one 1.2.3, loom-two 1.2.3" in error
    with pytest.raises(ProviderLoadError, match="uninstall all but one"):
        create_provider("echo")


def test_the_built_in_provider_wins_over_a_package_of_its_name(install: Install) -> None:
    install("impostor", points("azure-openai = echo_plugin:create_provider"), echo_plugin=ECHO)
    info = available_providers()["azure-openai"]
    assert (info.distribution, info.error, info.ignored) == ("loom-py", None, ("impostor 1.2.3",))
    load_provider("azure-openai")
    assert "echo_plugin" not in sys.modules


@pytest.mark.parametrize("name", ["MY_ECHO", "my-echo", " My-Echo "])
def test_names_are_told_apart_by_neither_case_nor_underscores(install: Install, name: str) -> None:
    install("loom-echo", points("My_Echo = echo_plugin:create_provider"), echo_plugin=ECHO)
    assert "my-echo" in available_providers()
    assert create_provider(name).name == "echo"


def test_an_unknown_provider_is_told_with_those_there_are() -> None:
    with pytest.raises(ProviderNotFoundError, match=r"installed: .*azure-openai") as caught:
        load_provider("azure_openia")
    assert caught.value.hint == "Did you mean 'azure-openai'?"
    with pytest.raises(ProviderNotFoundError) as caught:
        create_provider("zzz:model")
    assert "loom-zzz" in str(caught.value.hint)


# ── registered in the process ────────────────────────────────────────────────────────────


def test_a_registered_factory_is_found_and_can_be_taken_back() -> None:
    register_provider("Local_One", Local)
    assert available_providers()["local-one"] == ProviderInfo("local-one")
    assert create_provider("local-one:m").model == "m"
    unregister_provider("local-one")
    assert "local-one" not in available_providers()
    with pytest.raises(ProviderNotFoundError, match="'local-one'"):
        unregister_provider("local-one")


def test_a_registered_factory_stands_in_for_an_installed_one() -> None:
    register_provider("azure-openai", Local)
    try:
        info = available_providers()["azure-openai"]
        assert create_provider("azure-openai").name == "local"
        assert info.ignored[0].startswith("loom-py ")
    finally:
        unregister_provider("azure-openai")
    assert available_providers()["azure-openai"].distribution == "loom-py"


@pytest.mark.parametrize("name", ["", "  ", "a:b"])
def test_a_name_that_could_never_be_asked_for_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        register_provider(name, Local)


def test_a_factory_must_be_callable() -> None:
    with pytest.raises(ConfigError, match="must be callable"):
        register_provider("x", 42)  # type: ignore[arg-type]


# ── making one ───────────────────────────────────────────────────────────────────────────


def test_only_the_first_colon_divides(local: str) -> None:
    assert create_provider(f"{local}:a:b").model == "a:b"
    assert create_provider(local).model == "local-1"


def test_a_model_may_not_be_missing_or_given_twice(local: str) -> None:
    with pytest.raises(ConfigError, match="no model after the colon"):
        create_provider(f"{local}: ")
    with pytest.raises(ConfigError, match="given twice"):
        create_provider(f"{local}:a", model="b")
    with pytest.raises(ConfigError, match="needs a name"):
        create_provider(":a")


def test_settings_the_provider_does_not_take_are_a_config_error(local: str) -> None:
    with pytest.raises(ConfigError, match=r"'local' refuses its settings.*'colour'") as caught:
        create_provider(local, colour="red")
    assert isinstance(caught.value.__cause__, TypeError)


def test_refused_settings_are_never_shown() -> None:
    class Settings(BaseModel):
        api_key: int

    def factory(**settings: str) -> LLMProvider:
        Settings.model_validate(settings)
        return Local()

    register_provider("strict", factory)
    try:
        with pytest.raises(ConfigError, match="api_key: Input should be a valid integer") as caught:
            create_provider("strict", api_key="s3cret")
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    finally:
        unregister_provider("strict")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(MissingAuthError("no key"), MissingAuthError), (OSError("disk"), ProviderLoadError)],
)
def test_errors_of_the_tree_pass_and_others_become_load_errors(
    raised: Exception, expected: type[Exception]
) -> None:
    def factory() -> LLMProvider:
        raise raised

    register_provider("failing", factory)
    try:
        with pytest.raises(expected, match=str(raised)):
            create_provider("failing")
    finally:
        unregister_provider("failing")


def test_what_is_no_provider_is_refused_with_what_it_lacks() -> None:
    class Half:
        name = "half"
        model = "half"

        def chat(self) -> None: ...

    register_provider("half", Half)  # type: ignore[arg-type]
    try:
        with pytest.raises(ProviderLoadError, match="lacks achat, stream_chat, astream_chat"):
            create_provider("half")
    finally:
        unregister_provider("half")


def test_an_async_factory_is_refused() -> None:
    async def factory() -> LLMProvider:
        return Local()

    register_provider("async", factory)  # type: ignore[arg-type]
    try:
        with pytest.raises(ProviderLoadError, match="returned coroutine"):
            create_provider("async")
    finally:
        unregister_provider("async")


# ── the package's face ───────────────────────────────────────────────────────────────────


def test_every_public_name_of_the_package_is_there() -> None:
    assert [name for name in loom_py.llm.__all__ if getattr(loom_py.llm, name, None) is None] == []
    assert set(loom_py.llm.__all__) <= set(dir(loom_py.llm))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        loom_py.llm.nonsense  # noqa: B018
