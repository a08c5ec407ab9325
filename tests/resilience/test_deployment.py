"""What a deployment of a pool is described by, what is refused, and what is never shown."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.errors import ConfigError
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Response
from loom_py.resilience.deployment import Deployment, priorities

SECRET = "sk-very-secret"


class Echo(BaseProvider):
    name = "echo"
    model = "echo-1"

    def __repr__(self) -> str:
        return f"Echo({SECRET})"

    def chat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Response:
        return Response(messages[-1].text)


# ── what it holds ────────────────────────────────────────────────────────────────────────


def test_an_azure_deployment_holds_its_settings_and_what_the_pool_is_to_know() -> None:
    made = Deployment.azure(
        "https://b.openai.azure.com",
        "gpt-4o-b",
        SECRET,
        region="swedencentral",
        residency="EU",
        weight=3,
        tokens_per_minute=60_000,
    )
    assert made.provider == "azure-openai"
    assert made.settings == {
        "endpoint": "https://b.openai.azure.com",
        "deployment_id": "gpt-4o-b",
        "api_key": SECRET,
    }
    assert (made.region, made.residency, made.weight) == ("swedencentral", frozenset({"eu"}), 3.0)
    assert (made.tokens_per_minute, made.requests_per_minute) == (60_000, None)
    assert (made.priority, made.provisioned, made.shared, made.name) == (None, False, False, None)


def test_further_keywords_are_settings_of_the_provider() -> None:
    made = Deployment("needle:small", name="n", depth=3, settings={"region": "us-east-1"}, region="east")
    assert made.settings == {"region": "us-east-1", "depth": 3}
    assert made.region == "east"


def test_every_setting_of_azure_arrives_under_its_own_name() -> None:
    made = Deployment.azure(
        model_name="gpt-4o",
        api_version="2024-10-21",
        deployment_type="data-zone-eu",
        prices={},
        max_tokens=5,
        temperature=0.5,
        timeout=9,
        surface="responses",
        api="v1",
        settings={"genai_prices": True},
    )
    assert made.settings == {
        "model_name": "gpt-4o",
        "api_version": "2024-10-21",
        "deployment_type": "data-zone-eu",
        "prices": {},
        "max_tokens": 5,
        "temperature": 0.5,
        "timeout": 9,
        "surface": "responses",
        "api": "v1",
        "genai_prices": True,
    }


@pytest.mark.parametrize(
    ("credential", "setting"),
    [("default", "credential"), ("eyJ0", "entra_token"), (lambda: "token", "credential")],
)
def test_a_text_is_a_token_unless_it_is_the_default_credential(credential: Any, setting: str) -> None:
    assert Deployment.azure("https://b", "d", credential=credential).settings[setting] is credential


def test_what_was_given_may_change_afterwards_without_harm() -> None:
    settings = {"depth": 1}
    tags = ["eu"]
    made = Deployment("needle", settings=settings, residency=tags)
    settings["depth"] = 2
    tags.append("us")
    assert (made.settings["depth"], made.residency) == (1, frozenset({"eu"}))


def test_it_is_frozen_and_equal_to_its_like_and_can_be_copied() -> None:
    made = Deployment.azure("https://b", "d", SECRET, residency={"eu", "de"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.weight = 2.0  # type: ignore[misc]
    assert made == Deployment.azure("https://b", "d", SECRET, residency=["DE", "eu"])
    assert made != Deployment.azure("https://b", "d", "another", residency=["de", "eu"])
    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made
    assert len({made, copy.copy(made)}) == 1


@pytest.mark.parametrize(
    ("made", "label"),
    [
        (Deployment.azure("https://b", "gpt-4o-b"), "gpt-4o-b"),
        (Deployment.azure("https://b", "gpt-4o-b", name="west"), "west"),
        (Deployment("bedrock:claude"), "claude"),
        (Deployment("bedrock", model="claude"), "claude"),
        (Deployment("bedrock"), "bedrock"),
        (Deployment(), "azure-openai"),
        (Deployment(Echo()), "echo-1"),
    ],
)
def test_it_is_called_by_its_name_or_by_what_it_calls(made: Deployment, label: str) -> None:
    assert made.label == label


# ── what it shows ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "made",
    [
        Deployment.azure("https://b", "d", SECRET),
        Deployment.azure("https://b", SECRET),  # a key in the wrong place
        Deployment.azure(f"https://b?api-key={SECRET}"),
        Deployment.azure("https://b", "d", credential=SECRET),
        Deployment("needle", password=SECRET, settings={"headers": {"x": SECRET}}),
        Deployment(Echo()),
    ],
)
def test_no_value_of_a_setting_is_in_the_repr(made: Deployment) -> None:
    assert SECRET not in f"{made!r} {made} {[made]}"


def test_the_repr_says_what_was_given_and_leaves_out_what_was_not() -> None:
    assert repr(Deployment.azure("https://b", "d", SECRET, region="x", provisioned=True)) == (
        "Deployment('azure-openai', region='x', provisioned=True, "
        "settings={endpoint, deployment_id, api_key})"
    )
    assert repr(Deployment(Echo(), shared=True)) == "Deployment(<Echo>, shared=True)"


# ── what is refused ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", " "),
        ("name", 5),
        ("priority", 1.0),
        ("priority", True),
        ("priority", "1"),
        ("weight", 0),
        ("weight", -1.0),
        ("weight", math.inf),
        ("weight", math.nan),
        ("weight", True),
        ("weight", "2"),
        ("weight", 10**400),
        ("region", ""),
        ("residency", ""),
        ("residency", ["eu", " "]),
        ("residency", [None]),
        ("residency", 7),
        ("residency", b"eu"),
        ("residency", {"eu": True}),
        ("tokens_per_minute", 0),
        ("tokens_per_minute", 1.5),
        ("tokens_per_minute", True),
        ("requests_per_minute", -1),
        ("provisioned", "yes"),
        ("shared", 1),
        ("shared", True),  # of what the agent makes itself
        ("settings", ["a"]),
        ("settings", {1: 2}),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Deployment("needle", **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("provider", [None, 5, Echo, object(), "", " ", ":gpt-4o"])
def test_what_is_no_provider_is_refused(provider: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Deployment(provider)
    assert caught.value.field == "provider"


def test_settings_with_a_provider_object_are_refused_without_showing_them() -> None:
    with pytest.raises(ConfigError, match="api_key") as caught:
        Deployment(Echo(), api_key=SECRET)
    assert caught.value.field == "settings"
    assert SECRET not in str(caught.value)


def test_a_setting_given_twice_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="given twice") as caught:
        Deployment("needle", api_key=SECRET, settings={"api_key": SECRET})
    assert caught.value.field == "api_key"
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match="given twice"):
        Deployment.azure("https://b", settings={"endpoint": "https://c"})


def test_a_provider_given_by_keyword_is_refused_rather_than_taken_for_a_setting() -> None:
    with pytest.raises(ConfigError, match="first argument"):
        Deployment(provider="needle")
    with pytest.raises(ConfigError, match="first argument"):
        dataclasses.replace(Deployment("needle"), weight=2)
    assert Deployment("needle", settings={"provider": "x"}).settings == {"provider": "x"}


def test_a_key_and_a_credential_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="api_key and credential") as caught:
        Deployment.azure("https://b", "d", SECRET, credential="default")
    assert caught.value.field == "credential"
    with pytest.raises(ConfigError, match="one credential"):
        Deployment("Azure_OpenAI:d", api_key=SECRET, entra_token=SECRET)


# ── shared settings ──────────────────────────────────────────────────────────────────────


def test_defaults_fill_what_is_not_given_and_nothing_else() -> None:
    own = Deployment.azure("https://b", "gpt-b", residency="eu", priority=2, name="west", temperature=0.0)
    filled = own.with_defaults({"endpoint": "https://a", "api_key": SECRET, "temperature": 1.0, "api": None})
    assert filled.settings == {
        "endpoint": "https://b",
        "deployment_id": "gpt-b",
        "api_key": SECRET,
        "temperature": 0.0,
    }
    assert (filled.residency, filled.priority, filled.name) == (frozenset({"eu"}), 2, "west")
    assert "api_key" not in own.settings


def test_defaults_keep_every_field_of_the_pool() -> None:
    own = Deployment(
        "needle",
        name="n",
        priority=-1,
        weight=2.5,
        region="r",
        residency=("a", "b"),
        tokens_per_minute=1,
        requests_per_minute=2,
        provisioned=True,
    )
    filled = own.with_defaults({"depth": 1}, provider="needle")
    assert filled == Deployment(
        "needle",
        name="n",
        priority=-1,
        weight=2.5,
        region="r",
        residency=("a", "b"),
        tokens_per_minute=1,
        requests_per_minute=2,
        provisioned=True,
        depth=1,
    )


@pytest.mark.parametrize(
    ("own", "kind"),
    [({"credential": "default"}, "credential"), ({"credential": "eyJ0"}, "entra_token")],
)
def test_a_deployment_with_its_own_credential_takes_no_other(own: dict[str, Any], kind: str) -> None:
    filled = Deployment.azure("https://b", "d", **own).with_defaults({"api_key": SECRET, "timeout": 5})
    assert set(filled.settings) == {"endpoint", "deployment_id", kind, "timeout"}


def test_a_deployment_that_names_its_model_takes_no_other() -> None:
    filled = Deployment("azure-openai:gpt-b").with_defaults({"deployment_id": "gpt-a", "api_key": SECRET})
    assert set(filled.settings) == {"api_key"}
    assert Deployment(model="gpt-b").with_defaults({"deployment_id": "gpt-a"}).settings == {"model": "gpt-b"}


def test_a_setting_that_is_none_counts_as_not_given() -> None:
    assert Deployment(api_key=None).with_defaults({"api_key": SECRET}).settings == {"api_key": SECRET}


def test_defaults_of_one_provider_are_not_given_to_another() -> None:
    for other in (Deployment(Echo()), Deployment("bedrock:claude")):
        assert other.with_defaults({"api_key": SECRET}) is other
    assert Deployment("AZURE_OPENAI").with_defaults({"api_key": SECRET}).settings == {"api_key": SECRET}


# ── priorities ───────────────────────────────────────────────────────────────────────────


def azure(**pool: Any) -> Deployment:
    return Deployment.azure("https://b", "d", **pool)


def test_in_a_list_for_failover_the_position_is_the_priority() -> None:
    assert priorities([azure(), azure(), azure()], in_order=True) == (0, 1, 2)
    assert priorities([azure(), azure(priority=0), azure()], in_order=True) == (0, 0, 2)


def test_where_the_load_is_balanced_all_have_the_same_priority() -> None:
    assert priorities([azure(), azure(), azure(priority=1)], in_order=False) == (0, 0, 1)


def test_the_provisioned_ones_come_before_all_others() -> None:
    ptu = azure(provisioned=True)
    assert priorities([azure(), ptu, azure(), ptu], in_order=True) == (0, -2, 2, -1)
    assert priorities([azure(), ptu, azure(priority=-5), ptu], in_order=False) == (0, -6, -5, -6)
    assert priorities([azure(), azure(provisioned=True, priority=3)], in_order=True) == (0, 3)


def test_nothing_has_no_priorities() -> None:
    assert priorities([], in_order=True) == ()


@given(
    st.lists(
        st.builds(azure, priority=st.none() | st.integers(-3, 3), provisioned=st.booleans()), min_size=1
    ),
    st.booleans(),
)
def test_a_given_priority_stays_and_the_provisioned_are_always_first(
    deployments: list[Deployment], in_order: bool
) -> None:
    found = priorities(deployments, in_order=in_order)
    pairs = list(zip(deployments, found, strict=True))
    assert all(one.priority in (None, number) for one, number in pairs)
    first = [number for one, number in pairs if one.provisioned and one.priority is None]
    others = [number for one, number in pairs if not (one.provisioned and one.priority is None)]
    assert not first or not others or max(first) < min(others)
    if in_order:
        assert first == sorted(set(first))
