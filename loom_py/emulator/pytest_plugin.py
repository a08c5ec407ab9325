"""pytest fixtures: ``azure_emulator`` and ``azure_endpoint``.

Found by pytest through its entry point wherever loom_py is installed, so importing this module
must cost nothing: what it needs is imported when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from loom_py.emulator import AzureEmulator


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for ``--strict-markers``."""
    config.addinivalue_line(
        "markers",
        "azure_emulator(engine=None, **settings): arguments of the AzureEmulator behind the fixture.",
    )


@pytest.fixture
def azure_emulator(request: pytest.FixtureRequest) -> Iterator[AzureEmulator]:
    """A fresh, running `AzureEmulator`. It echoes until you set ``azure_emulator.engine``.

    The marker ``azure_emulator`` gives it arguments; the nearest mark of several wins, setting by
    setting::

        @pytest.mark.azure_emulator(deployments=["chat"], quotas={"chat": Quota(1000)})
        def test_it(azure_emulator): ...
    """
    from loom_py.emulator import AzureEmulator

    arguments: tuple[Any, ...] = ()
    settings: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("azure_emulator"))):
        arguments = mark.args or arguments
        settings.update(mark.kwargs)
    with AzureEmulator(*arguments, **settings) as emulator:
        yield emulator


@pytest.fixture
def azure_endpoint(azure_emulator: AzureEmulator) -> str:
    """The URL of ``azure_emulator``."""
    return azure_emulator.endpoint
