"""AWS Bedrock for loom_py: Converse and ConverseStream by boto3, with IAM credentials.

::

    agent = AgentBuilder().with_bedrock_llm("us-east-1", "us.amazon.nova-lite-v1:0").build()
"""

from __future__ import annotations

from typing import Any

from loom_bedrock.config import BedrockConfig, Guardrail
from loom_bedrock.prices import price_of
from loom_bedrock.provider import BedrockProvider

__all__ = ["BedrockConfig", "BedrockProvider", "Guardrail", "create_provider", "price_of"]


def create_provider(**settings: Any) -> BedrockProvider:
    """The ``bedrock`` provider of the registry; the settings are those of `BedrockProvider`."""
    return BedrockProvider(**settings)
