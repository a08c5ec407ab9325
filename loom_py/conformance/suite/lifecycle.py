"""A provider's life: its name, its shape, and its end."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator

from loom_py.conformance.scenario import (
    VERBS,
    Stage,
    aclose_stream,
    close,
    close_stream,
    expect,
    expect_equal,
    scenario,
)
from loom_py.conformance.script import Answer
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Message


@scenario("lifecycle/protocol")
def protocol(stage: Stage) -> None:
    """The provider has every member of LLMProvider."""
    with stage.provider(Answer("Hello.")) as provider:
        missing = [name for name in ("name", "model", *VERBS) if not hasattr(provider, name)]
        expect(isinstance(provider, LLMProvider), "an LLMProvider", f"it lacks {', '.join(missing)}")


@scenario("lifecycle/kinds-of-verbs")
def kinds_of_verbs(stage: Stage) -> None:
    """achat is awaited, stream_chat iterated, astream_chat iterated asynchronously."""
    messages = [Message.user("Hello")]
    with stage.provider(Answer("Hello.")) as provider:
        made = provider.achat(messages)
        expect(inspect.isawaitable(made), "something to await from achat", repr(made))
        if inspect.iscoroutine(made):
            made.close()
        events = provider.stream_chat(messages)
        expect(isinstance(events, Iterator), "an iterator from stream_chat", repr(events))
        close_stream(events)
        aevents = provider.astream_chat(messages)
        expect(isinstance(aevents, AsyncIterator), "an async iterator from astream_chat", repr(aevents))
        stage.run(aclose_stream(aevents))


@scenario("lifecycle/name-and-model")
def name_and_model(stage: Stage) -> None:
    """The provider says its name and the model it calls."""
    with stage.provider(Answer("Hello.")) as provider:
        for what in ("name", "model"):
            value = getattr(provider, what)
            expect(isinstance(value, str) and value.strip(), f"a {what}", repr(value))


@scenario("lifecycle/closing-twice")
def closing_twice(stage: Stage) -> None:
    """A provider may be closed twice, after use and before any."""
    for used in (True, False):
        with stage.provider(Answer("Hello.")) as provider:
            if used:
                stage.call(provider, "chat").whole()
                stage.call(provider, "achat").whole()
            stage.run(close(provider))
            if (plain := getattr(provider, "close", None)) is not None:
                plain()
            stage.run(close(provider))


@scenario("lifecycle/many-calls", "text")
def many_calls(stage: Stage) -> None:
    """A provider answers call after call, by all verbs in turn."""
    with stage.provider(*(Answer(f"answer {number}") for number in range(12))) as provider:
        seen = [stage.call(provider, VERBS[number % 4]).whole().message for number in range(12)]
    expect_equal(seen, [f"answer {number}" for number in range(12)], "the answers")


@scenario("lifecycle/repr-has-no-secret", "secrets")
def repr_has_no_secret(stage: Stage) -> None:
    """No credential shows in the provider's repr and str."""
    with stage.provider(Answer("Hello.")) as provider:
        stage.call(provider, "chat").whole()
        texts = {"repr": repr(provider), "str": str(provider)}
    found = [what for what, text in texts.items() if any(s in text for s in stage.adapter.secrets)]
    expect(not found, "no credential", f"one in {', '.join(found)}")
