"""The fuzzing harness on bytes that hypothesis makes, near to what servers send and far from it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

_spec = importlib.util.spec_from_file_location(
    "fuzz_azure_wire", Path(__file__).with_name("fuzz_azure_wire.py")
)
assert _spec is not None
assert _spec.loader is not None
fuzz: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)

TOKENS = st.sampled_from(
    [
        b"data: ",
        b"\n\n",
        b"\r\n",
        b'{"choices":',
        b"[",
        b"]",
        b"{",
        b"}",
        b'"delta":',
        b'"content":',
        b'"x"',
        b",",
        b'"error":',
        b'"code":',
        b'"429"',
        b'"usage":',
        b"null",
        b"1e999",
        b"-1",
        b'"finish_reason":',
        b'"stop"',
        b"[DONE]",
        b'"type":',
        b'"response.completed"',
        b'"output":',
        b'"tool_calls":',
        b'"function":',
        b"\xff",
        b":",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_bring_out_anything_but_our_own_errors(data: bytes) -> None:
    fuzz.check(data)


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 255), st.lists(TOKENS, max_size=40))
def test_no_jumble_of_the_wire_s_own_words_does_either(choice: int, words: list[bytes]) -> None:
    fuzz.check(bytes([choice]) + b"".join(words))
