"""What a model, a tool or a name says is shown and never obeyed; and the wire may be cut anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Ask = Callable[..., Any]

RENDER = """async (text) => {
    const { render } = await import('/page/markdown.js');
    const box = document.createElement('div');
    render(box, text);
    return box.innerHTML;
}"""

READ = """async (pieces) => {
    const { EventReader } = await import('/page/stream.js');
    const reader = new EventReader();
    return pieces.flatMap((piece) => reader.feed(piece)).map(({ event, data }) => [event, data]);
}"""

DANGERS = Path(__file__).with_name("dangers.js").read_text("utf-8")


@pytest.fixture(scope="module")
def page(browser: Any) -> Any:
    """A page whose modules are called directly."""
    from loom_py import AgentBuilder, ScriptedProvider
    from loom_py.serve import serving

    with AgentBuilder().with_llm(ScriptedProvider(lambda _: "")).build() as agent, serving(agent) as url:
        context = browser.new_context()
        found = context.new_page()
        found.goto(url)
        yield found
        context.close()


# ── hostile text ─────────────────────────────────────────────────────────────────────────


def test_hostile_text_of_the_model_and_of_tools_is_inert(desk: Any, ask: Ask) -> None:
    page = desk.open()
    answer = ask(page, "hostile rows")
    answer.locator("summary").click()
    page.get_by_role("button", name="New conversation").click()
    page.get_by_role("button", name="hostile rows").first.click()  # once more, out of the storage
    page.locator("details.tool summary").click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate(DANGERS) == []
    text = page.locator(".answer").inner_text()
    assert '<img src=x onerror="window.pwned=1">' in text  # shown, not swallowed
    assert "<script>window.pwned=2</script>" in text
    hrefs = page.locator(".answer a").evaluate_all("nodes => nodes.map(node => node.href)")
    assert hrefs == ["https://127.0.0.1:9/leak?secret"]  # an image is a link: to load it would tell its host


def test_hostile_names_of_agents_and_questions_are_inert(desk: Any, ask: Ask) -> None:
    name = '<img src=x onerror="window.pwned=1">'
    page = desk.open(desk.serve({name: desk.agent, "</title><script>window.pwned=2</script>": desk.agent}))
    ask(page, '<script>window.pwned=3</script> "><img src=x onerror=window.pwned=4>')
    page.locator("#health").click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate(DANGERS) == []
    assert name in page.locator(".who").inner_text()
    assert page.locator("#conversations img, .panel img").count() == 0
    assert "<script>window.pwned=3</script>" in page.locator(".question").inner_text()


def test_the_page_comes_with_a_policy_and_holds_nothing_that_needs_a_weaker_one(desk: Any) -> None:
    url = desk.serve()
    for path in ("/", "/page/app.js", "/page/style.css", "/page/icon.svg"):
        found = httpx2.get(url + path)
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "innerHTML" not in found.text
        assert "http://" not in found.text.replace("http://www.w3.org/", "")
    assert " style=" not in httpx2.get(url).text
    assert "javascript" in httpx2.get(f"{url}/page/app.js").headers["content-type"]


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/..%2fkeys.py"]
)
def test_only_the_pages_own_files_are_served(desk: Any, path: str) -> None:
    found = httpx2.get(desk.serve() + path)
    assert found.status_code in (403, 404)


# ── Markdown ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**a** _b_ ~~c~~ `d`", "<strong>a</strong> <em>b</em> <del>c</del> <code>d</code>"),
        ("***both***", "<strong><em>both</em></strong>"),
        ("snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"),
        ("a\\*b\\*", "a*b*"),
        ("`` a ` b ``", "<code>a ` b</code>"),
        ("**open", "**open"),
        ("line\nline", "line<br>line"),
        ("&lt; &amp;", "&amp;lt; &amp;amp;"),
        ("[x](javascript:alert)", '<span class="no-link" title="This link leads nowhere safe">x</span>'),
        ("grüße 🌍 日本語", "grüße 🌍 日本語"),
        ("", None),
    ],
)
def test_a_line_of_markdown(page: Any, text: str, html: str | None) -> None:
    assert page.evaluate(RENDER, text) == ("" if html is None else f'<p dir="auto">{html}</p>')


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("see https://a.example/x_(y).", "https://a.example/x_(y)"),
        ("(https://a.example/)", "https://a.example/"),
        ("<https://a.example/?a=b&c>", "https://a.example/?a=b&c"),
        ('[t](https://a.example/(x) "title")', "https://a.example/(x)"),
        ("**https://a.example**", "https://a.example/"),
        ("![alt](http://a.example/i.png)", "http://a.example/i.png"),
        ("[t](HTTPS://A.example)", "https://a.example/"),
        ("[t](//a.example)", None),
        ("[t](/v1/sessions/x)", None),
        ("[t](file:///etc/passwd)", None),
        ("[t](java\tscript:x)", None),
        ("[t](blob:https://a.example/x)", None),
    ],
)
def test_links_lead_to_whole_addresses_of_the_web_or_nowhere(page: Any, text: str, link: str | None) -> None:
    read = RENDER.replace(
        "box.innerHTML", "[...box.querySelectorAll('a')].map((each) => [each.href, each.rel])"
    )
    expected = [] if link is None else [[link, "noopener noreferrer nofollow"]]
    assert page.evaluate(read, text) == expected


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("- a\n- b\n  1. c\n\n  d\n- e", "UL LI LI OL LI LI"),
        ("1. a\n\n2. b", "OL LI LI"),
        ("- a\n\ntext", "UL LI P"),
        ("# a\ntext\n---\n> q\n> - x", "H3 P HR BLOCKQUOTE UL LI"),
        ("```py\n# no heading\n- no list", "FIGURE"),
        ("~~~\n```\n~~~\nafter", "FIGURE P"),
        ("- a\n  ```\n  x\n  ```", "UL LI FIGURE"),
        ("a | b\n--|--\n1 | 2", "TABLE"),
        ("a | b\nno table", "P"),
        ("text\n- item", "P UL LI"),
        ("2026. was a year", "OL LI"),
    ],
)
def test_blocks_of_markdown(page: Any, text: str, tags: str) -> None:
    read = RENDER.replace(
        "box.innerHTML",
        "Array.from(box.querySelectorAll('ul,ol,li,figure,table,blockquote,hr,h3,:scope > p'),"
        " (each) => each.tagName).join(' ')",
    )
    assert page.evaluate(read, text) == tags


def test_what_stays_the_same_while_an_answer_grows_stays_the_same_node(page: Any) -> None:
    same = page.evaluate(
        """async () => {
            const { render } = await import('/page/markdown.js');
            const box = document.createElement('div');
            render(box, '```\\nx = 1\\n```\\n\\nand th');
            const before = box.firstChild;
            render(box, '```\\nx = 1\\n```\\n\\nand then **more**');
            return before === box.firstChild && box.lastChild.textContent === 'and then more';
        }"""
    )
    assert same


@pytest.mark.parametrize(
    "text",
    [
        "*a " * 20_000,
        "[" * 50_000,
        "`a" * 20_000,
        "![" * 20_000 + "](" * 20_000,
        "> " * 20_000,
        "- " * 10_000,
        "|" * 50_000,
        "**__~~*_" * 5_000,
        "http://" * 10_000,
        "<br" * 20_000,
        "\\" * 50_000,
        "a_" * 20_000,
        "1. " * 10_000,
        "``a`" * 10_000,
    ],
    ids=lambda text: text[:8].strip(),
)
def test_text_made_to_be_slow_is_not(page: Any, text: str) -> None:
    began = time.perf_counter()
    page.evaluate(RENDER.replace("box.innerHTML", "box.textContent.length"), text)
    assert time.perf_counter() - began < 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="aé🌍 *_[]{}<>!#\n\\1.:/\"'&-", max_size=80))
def test_no_letter_is_lost(page: Any, text: str) -> None:
    shown = page.evaluate(RENDER.replace("box.innerHTML", "box.textContent"), text)
    assert [shown.count(letter) for letter in "aé🌍"] == [text.count(letter) for letter in "aé🌍"]


TAGS = "P A EM STRONG DEL CODE PRE BR HR UL OL LI H3 H4 H5 H6 BLOCKQUOTE SPAN DIV TABLE THEAD TBODY TR TH TD"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(
        st.sampled_from([*"ab *_`~[](){}<>!|-#\n\\1.:/\"'", "<script>", "](javascript:"]), max_size=40
    )
)
def test_only_tags_of_prose_are_ever_made(page: Any, pieces: list[str]) -> None:
    read = "[...box.querySelectorAll('*:not(figure *, figure)')].map((each) => each.tagName)"
    assert set(page.evaluate(RENDER.replace("box.innerHTML", read), "".join(pieces))) <= set(TAGS.split())


# ── the wire ─────────────────────────────────────────────────────────────────────────────

STREAM = (
    'data: {"a":"grüße 🌍"}\r\n\r\n: still working\r\revent: error\ndata: one\ndata:two\n\n'
    "data\n\nretry: 5\nid: 7\n\ndata: [DONE]\n\n"
)
EVENTS = [["message", '{"a":"grüße 🌍"}'], ["error", "one\ntwo"], ["message", ""], ["message", "[DONE]"]]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12), is_bare=st.booleans())
def test_a_stream_reads_the_same_wherever_it_is_cut(page: Any, cuts: list[int], is_bare: bool) -> None:
    stream = STREAM.replace("\r\n", "\r").replace("\n", "\r") if is_bare else STREAM
    at = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(at)]
    assert page.evaluate(READ, pieces) == EVENTS


def test_a_stream_of_single_characters_is_read(page: Any) -> None:
    assert page.evaluate(READ, list(STREAM)) == EVENTS


def test_an_answer_whose_bytes_come_one_by_one_is_whole(desk: Any, ask: Ask) -> None:
    page = desk.open()
    page.add_init_script(
        """const real = window.fetch;
        window.fetch = async (path, options) => {
            const response = await real(path, options);
            if (!String(path).includes('completions')) return response;
            const bytes = new Uint8Array(await response.arrayBuffer());
            const body = new ReadableStream({
                start(controller) {
                    for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
                    controller.close();
                },
            });
            return new Response(body, { status: response.status, headers: response.headers });
        };"""
    )
    page.reload()
    answer = ask(page, "say grüße 🌍 日本語")
    assert "grüße 🌍 日本語" in answer.inner_text()
