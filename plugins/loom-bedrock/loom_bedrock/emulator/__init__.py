"""A loopback Bedrock runtime for tests: `BedrockEmulator`.

It speaks what the service speaks: REST-JSON for Converse, the binary event stream for ConverseStream,
Signature Version 4 (checked with botocore's own signer), the service's exceptions and status codes.
Requests are held against the service model that botocore ships, and against the rules of a conversation.
Needs ``pip install 'loom-bedrock[emulator]'``.
"""

from __future__ import annotations

from loom_py.emulator.limits import missing

try:
    from loom_bedrock.emulator.app import RecordedCall
    from loom_bedrock.emulator.exceptions import BedrockException, RawAnswer
    from loom_bedrock.emulator.server import BedrockEmulator
except ModuleNotFoundError as exc:
    raise missing(exc.name) from None

__all__ = ["BedrockEmulator", "BedrockException", "RawAnswer", "RecordedCall"]
