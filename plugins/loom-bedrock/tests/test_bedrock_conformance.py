"""Every promise of the conformance suite that applies to Bedrock."""

from __future__ import annotations

from loom_bedrock.conformance import BedrockAdapter
from loom_py.conformance import conformance_tests

test_conformance = conformance_tests(BedrockAdapter)
