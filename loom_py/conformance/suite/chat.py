"""Text in, text out: what is said arrives as it was said."""

from __future__ import annotations

from loom_py.conformance.scenario import VERBS, Stage, expect, expect_equal, scenario
from loom_py.conformance.script import Answer
from loom_py.messages import ContentPart, ImagePart, Message, TextPart
from loom_py.options import ChatOptions

UNICODE = 'Grüße, 世界! 👩‍👩‍👧‍👦 e\u0301 العربية \U0001d54f \u2028 “quoted” \\ "plain" \t tab'
PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
)
"""The beginning of a picture, enough to be told for a PNG."""


@scenario("chat/text", "text")
def text(stage: Stage) -> None:
    """The text of a reply arrives, by each of the four verbs."""
    with stage.provider(Answer("It rains in Oslo.")) as provider:
        for verb in VERBS:
            expect_equal(stage.call(provider, verb).whole().message, "It rains in Oslo.", "the text")


@scenario("chat/empty-text", "text")
def empty_text(stage: Stage) -> None:
    """An empty reply is a response with an empty message, not an error."""
    with stage.provider(Answer("")) as provider:
        for verb in VERBS:
            expect_equal(stage.call(provider, verb).whole().message, "", "the text")


@scenario("chat/unicode", "text")
def unicode(stage: Stage) -> None:
    """Emoji, combining marks and other scripts survive in a reply."""
    with stage.provider(Answer(UNICODE)) as provider:
        for verb in VERBS:
            expect_equal(stage.call(provider, verb).whole().message, UNICODE, "the text")


@scenario("chat/unicode-in-a-prompt", "requests")
def unicode_in_a_prompt(stage: Stage) -> None:
    """Emoji, combining marks and other scripts survive in a prompt."""
    with stage.provider(Answer("Yes.")) as provider:
        stage.call(provider, "chat", UNICODE).whole()
        expect_equal(stage.last_request.prompt, UNICODE, "the prompt")


@scenario("chat/white-space-is-kept", "text")
def white_space(stage: Stage) -> None:
    """White space and line breaks around a reply are kept."""
    said = "\n\n  def f():\r\n\treturn 1\n\n"
    with stage.provider(Answer(said)) as provider:
        for verb in VERBS:
            expect_equal(stage.call(provider, verb).whole().message, said, "the text")


@scenario("chat/long-text", "text", "requests")
def long_text(stage: Stage) -> None:
    """100,000 characters arrive whole, in both directions."""
    prompt, said = "question " * 12_500, "an answer " * 10_000
    with stage.provider(Answer(said, pieces=(said[:70_001], said[70_001:]))) as provider:
        for verb in VERBS:
            message = stage.call(provider, verb, prompt).whole().message
            expect(message == said, f"all {len(said)} characters", f"{len(message)} characters")
            seen = stage.last_request.prompt
            expect(seen == prompt, f"a prompt of {len(prompt)} characters", f"{len(seen)} characters")


@scenario("chat/system-prompt", "requests")
def system_prompt(stage: Stage) -> None:
    """Instructions reach the service as instructions, before the user's words."""
    with stage.provider(Answer("Aye.")) as provider:
        stage.call(provider, "chat", [Message.system("Talk like a sailor."), Message.user("Hello")]).whole()
        seen = [(message.role, message.text) for message in stage.last_request.messages]
    expect_equal(seen, [("system", "Talk like a sailor."), ("user", "Hello")], "the messages")


@scenario("chat/history", "requests")
def history(stage: Stage) -> None:
    """A conversation of several turns reaches the service in order, with its roles."""
    messages = [
        Message.system("Be brief."),
        Message.user("One?"),
        Message.assistant("One."),
        Message.user("Two?"),
        Message.assistant("Two."),
        Message.user("Three?"),
    ]
    with stage.provider(Answer("Three.")) as provider:
        stage.call(provider, "chat", messages).whole()
        seen = [(message.role, message.text) for message in stage.last_request.messages]
    expect_equal(seen, [(message.role, message.text) for message in messages], "the messages")


@scenario("chat/reply-goes-back", "text", "requests")
def reply_goes_back(stage: Stage) -> None:
    """A reply made into a message of the history reaches the service in the next turn."""
    with stage.provider(Answer("One."), Answer("Two.")) as provider:
        first = stage.call(provider, "chat", "One?").whole()
        turn = [Message.user("One?"), first.to_message(), Message.user("Two?")]
        expect_equal(stage.call(provider, "chat", turn).whole().message, "Two.", "the second reply")
        seen = [(message.role, message.text) for message in stage.last_request.messages]
    expect_equal(seen, [("user", "One?"), ("assistant", "One."), ("user", "Two?")], "the messages")


@scenario("chat/messages-are-left-alone")
def messages_are_left_alone(stage: Stage) -> None:
    """The list of messages a caller hands over is not changed."""
    messages = [Message.user("One?"), Message.assistant("One."), Message.user("Two?")]
    before = list(messages)
    with stage.provider(Answer("Two.")) as provider:
        for verb in VERBS:
            stage.call(provider, verb, messages).whole()
            expect_equal(messages, before, "the caller's messages")


def _sources(content: str | tuple[ContentPart, ...]) -> list[str]:
    """The texts and the URLs of a message's parts."""
    parts = (TextPart(content),) if isinstance(content, str) else content
    return [part.source if isinstance(part, ImagePart) else part.text for part in parts]


@scenario("chat/images", "images", "requests")
def images(stage: Stage) -> None:
    """Images reach the service as they are, in their place between the texts."""
    parts = (
        TextPart("Compare"),
        ImagePart.from_bytes(PIXEL),
        TextPart("with"),
        ImagePart.from_bytes(PIXEL),
    )
    _check_parts(stage, parts)


@scenario("chat/image-urls", "images", "image_urls", "requests")
def image_urls(stage: Stage) -> None:
    """An image by its address reaches the service as that address."""
    _check_parts(stage, (TextPart("Look:"), ImagePart.from_url("https://example.com/cat.png")))


def _check_parts(stage: Stage, parts: tuple[ContentPart, ...]) -> None:
    with stage.provider(Answer("Two cats.")) as provider:
        stage.call(provider, "chat", [Message.user(parts)]).whole()
        content = stage.last_request.messages[-1].content
    expect_equal(_sources(content), _sources(parts), "the parts")


@scenario("chat/options", "options", "requests")
def options(stage: Stage) -> None:
    """Temperature and token limit of a call reach the service."""
    with stage.provider(Answer("Yes.")) as provider:
        stage.call(provider, "chat", options=ChatOptions(temperature=0.25, max_tokens=321)).whole()
        seen = stage.last_request.options
    expect_equal((seen.temperature, seen.max_tokens), (0.25, 321), "temperature and max_tokens")


@scenario("chat/finish-reason")
def finish_reason(stage: Stage) -> None:
    """A reply that is complete says so: its finish reason is "stop"."""
    with stage.provider(Answer("Done.")) as provider:
        for verb in VERBS:
            expect_equal(stage.call(provider, verb).whole().finish_reason, "stop", "the finish reason")


@scenario("chat/length", "text", "length")
def length(stage: Stage) -> None:
    """A reply cut short by its token limit is a response, and its finish reason says so."""
    with stage.provider(Answer("It rains in", finish_reason="length")) as provider:
        for verb in VERBS:
            response = stage.call(provider, verb).whole()
            expect_equal(response.message, "It rains in", "the text")
            expect_equal(response.finish_reason, "length", "the finish reason")


@scenario("chat/model-is-named")
def model_is_named(stage: Stage) -> None:
    """A response says which model wrote it."""
    with stage.provider(Answer("Hello.")) as provider:
        for verb in VERBS:
            model = stage.call(provider, verb).whole().model
            expect(model, "the name of a model", repr(model))
