"""The load of the benchmark, small: every stream comes whole, and memory does not run away."""

from __future__ import annotations

from benchmarks.serve_load import run


def test_many_clients_stream_without_an_error() -> None:
    load = run(clients=40, seconds=4.0, pause=0.01)
    assert load.errors == {}
    assert load.answers >= 40
    assert load.exit_code == 0
    assert 0 < load.first_byte_p50 <= load.first_byte_p99 < 5
    assert load.rss_end - load.rss_warm < 40
