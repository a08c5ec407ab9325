"""What installed packages offer is found by its group; a damaged package stops no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loom_py._entry_points import Offer, normalised, offers

Install = Callable[..., None]
GROUP = "loom_py.test_group"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a real distribution on the path: a module, and its metadata with entry points."""
    modules: list[str] = []

    def install(name: str, *lines: str, header: str = f"[{GROUP}]", **sources: str) -> None:
        info = tmp_path / name / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join([header, *lines, ""]))
        for module, source in sources.items():
            (info.parent / f"{module}.py").write_text(source)
            modules.append(module)
        monkeypatch.syspath_prepend(info.parent)

    yield install
    for module in modules:
        sys.modules.pop(module, None)


def test_nothing_is_offered_in_a_group_that_nobody_knows() -> None:
    assert offers("loom_py.nobody_knows") == {}


def test_an_offer_says_whose_it_is_and_is_imported_only_when_loaded(install: Install) -> None:
    install("pkg-one", "My_Thing = entry_one:thing", entry_one="thing = 42\n")
    offer = offers(GROUP)["my-thing"]
    assert offer == Offer("my-thing", "pkg-one", "1.0")
    assert offer.origin == "pkg-one 1.0"
    assert "entry_one" not in sys.modules
    assert offer.load() == 42


def test_groups_do_not_mix(install: Install) -> None:
    install("pkg-other", "thing = entry_other:thing", header="[loom_py.another_group]")
    assert offers(GROUP) == {}


def test_of_two_packages_with_one_name_none_is_chosen(install: Install) -> None:
    install("pkg-a", "same = entry_a:thing", entry_a="thing = 1\n")
    install("pkg-b", "same = entry_b:thing", entry_b="thing = 2\n")
    offer = offers(GROUP)["same"]
    assert offer.error == "several packages offer it: pkg-a 1.0, pkg-b 1.0; uninstall all but one"
    with pytest.raises(LookupError, match="uninstall all but one"):
        offer.load()


def test_what_is_built_in_comes_before_what_a_package_offers(install: Install) -> None:
    install("pkg-late", "json = entry_late:thing", entry_late="thing = 1\n")
    offer = offers(GROUP, built_in={"json": "json:loads"})["json"]
    assert (offer.distribution, offer.ignored, offer.error) == ("loom-py", ("pkg-late 1.0",), None)
    assert offer.load()("[1]") == [1]


def test_a_package_with_damaged_metadata_is_told_and_stops_no_other(install: Install) -> None:
    install("pkg-good", "good = entry_good:thing", entry_good="thing = 1\n")
    install("pkg-bad", "no equals sign here")
    found = offers(GROUP)
    assert found["good"].load() == 1
    bad = found["pkg-bad"]
    assert bad.error is not None
    assert bad.error.startswith("its entry_points.txt cannot be read: ")


@pytest.mark.parametrize(("name", "wanted"), [(" My_Name ", "my-name"), ("a", "a"), ("  ", "")])
def test_names_are_compared_in_one_form(name: str, wanted: str) -> None:
    assert normalised(name) == wanted
