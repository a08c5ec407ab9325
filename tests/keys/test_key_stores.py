"""Stores of API keys: what they keep, whom they refuse, and what they never show."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import KeyringLocked, PasswordDeleteError

from loom_py.errors import ConfigError, KeyStoreError
from loom_py.keys import FileStore, KeyringStore, KeyStore, LazyStore, masked, open_store

KEY = "sk-0123456789abcdefghij"


class Ring(KeyringBackend):
    """A keyring in memory: what a desktop has, and a test machine has not."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise KeyringLocked(f"locked, and {KEY} is in it")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.entries:
            raise PasswordDeleteError(username)
        del self.entries[service, username]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LOOM_KEYS", raising=False)
    return tmp_path


@pytest.fixture
def system_keyring() -> Iterator[KeyringBackend]:
    before = keyring.get_keyring()
    keyring.set_keyring(Ring())
    yield keyring.get_keyring()
    keyring.set_keyring(before)


@pytest.fixture
def no_keyring() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(NoKeyring())  # type: ignore[no-untyped-call]
    yield
    keyring.set_keyring(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "own" / "keys.json"


@pytest.fixture(params=["file", "keyring"])
def store(request: pytest.FixtureRequest, path: Path) -> KeyStore:
    return FileStore(path) if request.param == "file" else KeyringStore(Ring())


# ── every store ──────────────────────────────────────────────────────────────────────────


def test_a_store_keeps_replaces_lists_and_forgets_keys(store: KeyStore) -> None:
    assert (store.get("openai"), store.names(), store.delete("openai")) == (None, (), False)
    store.set("openai", KEY)
    store.set("anthropic", "another-key-0123456789")
    store.set("openai", f"{KEY}-new")
    assert store.get("openai") == f"{KEY}-new"
    assert store.names() == ("anthropic", "openai")
    assert store.delete("openai")
    assert store.get("openai") is None
    assert store.names() == ("anthropic",)
    assert isinstance(store, KeyStore)


def test_a_name_may_be_written_as_people_write_it_and_a_key_with_white_space_around_it(
    store: KeyStore,
) -> None:
    store.set(" Azure_OpenAI ", f" {KEY}\n")
    assert store.names() == ("azure-openai",)
    assert store.get("azure-openai") == store.get("AZURE_OPENAI") == KEY


@pytest.mark.parametrize("name", ["", " ", "a b", "../x", ":names", "a:b", "é", "x" * 65, "-a", "a\0"])
def test_what_is_no_name_is_refused(store: KeyStore, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a key"):
        store.set(name, KEY)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("a b", "one line"),
        ("a\nb", "one line"),
        ("“key”", "one line"),
        ("k" * 20_000, "more"),
    ],
)
def test_what_is_no_key_is_refused_without_being_repeated(store: KeyStore, key: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        store.set("openai", key)
    if len(key) > 4:
        assert key not in str(caught.value)
    assert store.names() == ()


def test_no_store_shows_a_key_in_its_repr(store: KeyStore) -> None:
    store.set("openai", KEY)
    assert KEY not in repr(store) + store.place + repr(LazyStore())


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=0, max_size=100))
def test_masking_shows_eight_characters_of_a_long_key_and_nothing_of_a_short_one(key: str) -> None:
    shown = masked(key)
    if len(key) > 16:
        assert shown == f"{key[:4]}...{key[-4:]}"
    else:
        assert shown == "***"


# ── the file ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
class TestThePermissionsOfTheFile:
    def test_file_and_folder_are_made_for_their_owner_alone_whatever_the_umask(self, path: Path) -> None:
        before = os.umask(0)
        try:
            FileStore(path).set("openai", KEY)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o660, 0o610])
    def test_a_file_that_others_can_open_is_refused(self, path: Path, mode: int) -> None:
        store = FileStore(path)
        store.set("openai", KEY)
        path.chmod(mode)
        acts: list[Callable[[], object]] = [
            lambda: store.get("openai"),
            lambda: store.set("openai", "x"),
            store.names,
        ]
        for act in acts:
            with pytest.raises(KeyStoreError, match="by others") as caught:
                act()
            assert f"chmod 600 {path}" in str(caught.value)
        path.chmod(0o600)
        assert store.get("openai") == KEY

    @pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
    def test_a_folder_that_others_can_enter_is_refused_and_left_as_it_is(self, path: Path, mode: int) -> None:
        path.parent.mkdir()
        path.parent.chmod(mode)
        with pytest.raises(KeyStoreError, match="can be entered by others"):
            FileStore(path).set("openai", KEY)
        assert list(path.parent.iterdir()) == []
        assert stat.S_IMODE(path.parent.stat().st_mode) == mode

    def test_a_symbolic_link_is_followed_neither_for_reading_nor_for_writing(self, path: Path) -> None:
        target = path.parent / "elsewhere.json"
        FileStore(target).set("openai", KEY)
        before = target.read_bytes()
        path.symlink_to(target)
        acts: list[Callable[[], object]] = [
            lambda: FileStore(path).get("openai"),
            lambda: FileStore(path).set("openai", "other"),
        ]
        for act in acts:
            with pytest.raises(KeyStoreError, match="symbolic link"):
                act()
        assert target.read_bytes() == before

    def test_a_folder_that_is_a_symbolic_link_is_refused(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        path.parent.symlink_to(tmp_path / "real")
        with pytest.raises(KeyStoreError, match="is no folder, or a link to one"):
            FileStore(path).set("openai", KEY)

    def test_a_pipe_in_its_place_is_refused_rather_than_waited_for(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700)
        os.mkfifo(path, 0o600)
        with pytest.raises(KeyStoreError, match="is no regular file"):
            FileStore(path).get("openai")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"keys": []}',
        f'{{"keys": {{"a": ["{KEY}"]}}}}',
        f'{{"a": "{KEY}',
        "\xff",
        "[" * 100_000,
    ],
)
def test_a_file_that_is_none_is_told_of_without_its_contents(path: Path, text: str) -> None:
    FileStore(path).set("openai", KEY)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(KeyStoreError, match="is no key file") as caught:
        FileStore(path).get("openai")
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_write_that_fails_leaves_the_old_keys_and_no_litter(path: Path) -> None:
    store = FileStore(path)
    store.set("openai", KEY)
    names = {each.name for each in path.parent.iterdir()}
    with pytest.raises(ConfigError):
        store.set("openai", "bad key")
    assert store.get("openai") == KEY
    assert {each.name for each in path.parent.iterdir()} == names


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    code = (
        "import sys; from loom_py.keys import FileStore\n"
        "for n in range(10): FileStore(sys.argv[1]).set(f'p{sys.argv[2]}-{n}', 'k' * 20)"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert len(FileStore(path).names()) == 40


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), st.from_regex(r"[!-~]{1,60}", fullmatch=True)
    )
)
def test_whatever_was_set_is_what_is_got(
    tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]
) -> None:
    store = FileStore(tmp_path_factory.mktemp("store") / "own" / "keys.json")
    for name, key in keys.items():
        store.set(name, key)
    assert {name: store.get(name) for name in store.names()} == keys


# ── the keyring ──────────────────────────────────────────────────────────────────────────


def test_the_keyring_holds_the_keys_and_their_names_and_nothing_else() -> None:
    ring = Ring()
    store = KeyringStore(ring)
    store.set("openai", KEY)
    assert ring.entries["loom-py", "openai"] == KEY
    (index,) = (value for (_, entry), value in ring.entries.items() if entry != "openai")
    assert json.loads(index) == ["openai"]


def test_a_key_that_was_deleted_with_other_tools_is_no_longer_listed() -> None:
    ring = Ring()
    store = KeyringStore(ring)
    store.set("openai", KEY)
    del ring.entries["loom-py", "openai"]
    assert store.names() == ()
    assert not store.delete("openai")


@pytest.mark.parametrize("index", ["", "no json", "{}", "[1, null]"])
def test_a_damaged_list_of_names_hides_no_key(index: str) -> None:
    ring = Ring()
    ring.entries |= {("loom-py", ":names"): index, ("loom-py", "openai"): KEY}
    store = KeyringStore(ring)
    assert (store.names(), store.get("openai")) == ((), KEY)
    store.set("anthropic", KEY)
    assert store.names() == ("anthropic",)


def test_a_locked_keyring_says_so_without_what_is_in_it() -> None:
    ring = Ring()
    ring.is_locked = True
    with pytest.raises(KeyStoreError, match="KeyringLocked") as caught:
        KeyringStore(ring).get("openai")
    assert KEY not in str(caught.value)
    assert "--file" in str(caught.value)


# ── which one is used ────────────────────────────────────────────────────────────────────


def test_the_keyring_is_used_unless_another_place_is_named(
    system_keyring: KeyringBackend, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_store(), KeyringStore)
    assert isinstance(open_store("file"), FileStore)
    assert open_store(f"file:{path}").place == str(path)
    monkeypatch.setenv("LOOM_KEYS", f"file:{path}")
    assert open_store().place == str(path)
    assert isinstance(open_store("keyring"), KeyringStore)


@pytest.mark.usefixtures("no_keyring")
def test_where_there_is_no_keyring_a_file_is_never_begun_in_silence(home: Path) -> None:
    with pytest.raises(KeyStoreError, match="no keyring on this machine") as caught:
        open_store()
    assert "--file" in str(caught.value)
    assert not (home / "config").exists()
    open_store("file").set("openai", KEY)
    assert open_store().get("openai") == KEY, "one that was asked for is read from then on"


@pytest.mark.parametrize("place", ["files", "file:", "keyring:x", "~/keys", " "])
def test_a_place_that_is_none_is_told_of(place: str) -> None:
    with pytest.raises(ConfigError, match="is no place for keys"):
        open_store(place)


@pytest.mark.usefixtures("no_keyring")
def test_a_lazy_store_without_a_keyring_is_empty_and_says_why() -> None:
    store = LazyStore()
    assert (store.get("openai"), store.names(), store.delete("openai")) == (None, (), False)
    assert store.problem is not None
    assert "no keyring" in store.problem.message
    with pytest.raises(KeyStoreError):
        store.set("openai", KEY)


@pytest.mark.usefixtures("no_keyring")
def test_a_lazy_store_raises_where_the_keyring_was_asked_for() -> None:
    with pytest.raises(KeyStoreError):
        LazyStore("keyring").get("openai")


def test_naming_a_store_imports_no_keyring_before_a_key_is_wanted() -> None:
    code = "import sys; from loom_py.keys import LazyStore; LazyStore(); print('keyring' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_file_of_a_later_form_is_left_alone(path: Path) -> None:
    store = FileStore(path)
    store.set("openai", KEY)
    later = path.read_text("utf-8").replace('"version": 1', '"version": 2')
    path.write_text(later, "utf-8")
    with pytest.raises(KeyStoreError, match="another version of loom_py"):
        store.set("anthropic", KEY)
    with pytest.raises(KeyStoreError) as caught:
        store.get("openai")
    assert caught.value.hint == "Update loom_py: pip install -U loom-py"
    assert path.read_text("utf-8") == later
