"""Every promise of a provider, over the emulated API."""

from __future__ import annotations

from loom_anthropic.conformance import AnthropicAdapter
from loom_py.conformance import conformance_tests

test_conformance = conformance_tests(AnthropicAdapter)
