"""pytest fixtures: ``azure_emulator`` and ``azure_endpoint``.

Found by pytest through its entry point wherever loom_py is installed, so importing this module
must cost nothing: what it needs is imported when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from loom_py.emulator import AzureEmulator


@pytest.fixture
def azure_emulator() -> Iterator[AzureEmulator]:
    """A fresh, running `AzureEmulator`. It echoes until you set ``azure_emulator.engine``."""
    from loom_py.emulator import AzureEmulator

    with AzureEmulator() as emulator:
        yield emulator


@pytest.fixture
def azure_endpoint(azure_emulator: AzureEmulator) -> str:
    """The URL of ``azure_emulator``."""
    return azure_emulator.endpoint
