"""Coverage-guided fuzzing of everything that reads a server's bytes.

``python tests/fuzz/fuzz_azure_wire.py -max_total_time=60`` runs it with atheris, where that is
installed. `check` is one trial; the tests run it on bytes that hypothesis makes.
"""

from __future__ import annotations

import contextlib
import sys

from loom_py.errors import LoomError, ProviderError
from loom_py.llm.azure.errors import error_from_answer
from loom_py.llm.azure.headers import retry_after
from loom_py.llm.azure.schema import NO_TOOLS
from loom_py.llm.azure.surfaces import CHAT, RESPONSES
from loom_py.llm.azure.wire import decode_json


def check(data: bytes) -> None:
    """Whatever the bytes, only errors of our own tree come out, and an error is always made."""
    if not data:
        return
    choice, body = data[0], data[1:]
    surface = RESPONSES if choice & 1 else CHAT
    if choice & 2:
        decoder = surface.stream_decoder(NO_TOOLS)
        cut = 1 + choice // 4 % 7
        with contextlib.suppress(LoomError):
            for start in range(0, len(body), cut):
                list(decoder.feed(body[start : start + cut]))
            decoder.finish()
        return
    if choice & 4:
        headers = {
            "retry-after": body[:20].decode("latin-1"),
            "retry-after-ms": body[20:30].decode("latin-1"),
        }
        error = error_from_answer(400 + choice % 200, headers, body)
        assert isinstance(error, ProviderError)
        assert str(error)
        retry_after(headers, body.decode("utf-8", "replace"))
        return
    with contextlib.suppress(LoomError):
        surface.decode(decode_json(body), NO_TOOLS)


def main() -> None:
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
