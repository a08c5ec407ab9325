"""Cancellation: what is cancelled ends at once, and only that."""

from __future__ import annotations

import asyncio
import time

from loom_py.conformance.scenario import Stage, acall, expect, expect_equal, scenario
from loom_py.conformance.script import Answer, Script
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Message

DELAY = 2.5
"""Seconds a slow service takes."""
AT_ONCE = 1.2
"""Seconds a cancelled call may take to end, on a busy machine too."""
SLOW = Answer("Late.", delay=DELAY)


@scenario("cancellation/call-ends-at-once", "slow")
def call_ends_at_once(stage: Stage) -> None:
    """A cancelled call of achat ends at once, with CancelledError."""
    with stage.provider(SLOW) as provider:
        stage.run(_cancel(provider, "achat"))


@scenario("cancellation/stream-ends-at-once", "slow")
def stream_ends_at_once(stage: Stage) -> None:
    """A stream cancelled before its first event ends at once, with CancelledError."""
    with stage.provider(SLOW) as provider:
        stage.run(_cancel(provider, "astream_chat"))


@scenario("cancellation/stream-ends-between-pieces", "paced_streams")
def stream_ends_between_pieces(stage: Stage) -> None:
    """A stream cancelled while its next piece is awaited ends at once, with CancelledError."""
    with stage.provider(Answer("one two three", pause=DELAY)) as provider:
        stage.run(_cancel(provider, "astream_chat", after=0.3))


@scenario("cancellation/provider-works-on", "slow")
def provider_works_on(stage: Stage) -> None:
    """After a cancelled call the provider answers the next one."""
    # by prompt, for a call that is cancelled may never have reached the service
    script = Script((Answer("Here."),), by_prompt={"Hello": SLOW})
    for verb in ("achat", "astream_chat"):
        with stage.provider(script=script) as provider:
            stage.run(_cancel(provider, verb, judge=False))
            expect_equal(stage.call(provider, verb, "And now?").whole().message, "Here.", "the next reply")
            expect_equal(stage.call(provider, "chat", "And now?").whole().message, "Here.", "the next reply")


@scenario("cancellation/others-go-on", "slow")
def others_go_on(stage: Stage) -> None:
    """Calls beside a cancelled one get their own answers."""
    prompts = [f"question {number}" for number in range(5)]
    script = Script(by_prompt={prompt: Answer(f"answer to {prompt}", delay=0.3) for prompt in prompts})

    async def ask(provider: LLMProvider) -> list[str]:
        calls = [asyncio.create_task(acall(provider, "achat", prompt)) for prompt in prompts]
        await asyncio.sleep(0.1)
        calls[2].cancel()
        await asyncio.wait(calls)
        return [call.result().whole().message for number, call in enumerate(calls) if number != 2]

    with stage.provider(script=script) as provider:
        seen = stage.run(ask(provider))
    wanted = [f"answer to {prompt}" for number, prompt in enumerate(prompts) if number != 2]
    expect_equal(seen, wanted, "the other answers")


@scenario("cancellation/timeout-scope", "slow")
def timeout_scope(stage: Stage) -> None:
    """A caller's own `asyncio.timeout` ends the call with TimeoutError, not with an error of ours."""

    async def ask(provider: LLMProvider) -> str:
        try:
            async with asyncio.timeout(0.2):
                await provider.achat([Message.user("Hello")])
        except Exception as exc:  # noqa: BLE001 - the finding is judged below
            return type(exc).__name__
        return "no error"

    with stage.provider(SLOW) as provider:
        expect_equal(stage.run(ask(provider)), "TimeoutError", "the error")


async def _cancel(provider: LLMProvider, verb: str, *, after: float = 0.15, judge: bool = True) -> None:
    """Cancel a call after so many seconds and judge how it ends."""
    task = asyncio.create_task(acall(provider, verb, "Hello"))
    await asyncio.sleep(after)
    expect(not task.done(), "a call that still waits", task)
    task.cancel()
    begun = time.monotonic()
    await asyncio.wait({task}, timeout=AT_ONCE)
    waited = time.monotonic() - begun
    if not judge:
        return
    expect(task.done(), f"{verb} to end within {AT_ONCE} s of its cancellation", "it still waits")
    expect(waited < AT_ONCE, f"{verb} to end within {AT_ONCE} s of its cancellation", f"{waited:.1f} s")
    expect(task.cancelled(), "CancelledError", "the call went on as if nothing had happened")
