"""What only the tests of edges need."""

from pathlib import Path

import pytest
from commands import Commands


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    """The command line, with a settings file of its own."""
    return Commands(tmp_path / "poller.toml", capsys)
