"""A store to load into, and the recorded answers of the real exchange."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loading import Store

from kalshidb import postgres


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    """A migrated database of the test's own, and a folder for its files."""
    with postgres.connect(database_url, autocommit=True) as conn:
        yield Store(database_url, conn, tmp_path)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The recorded answers of the real exchange, where they are."""
    for parent in Path(__file__).resolve().parents:
        folder = parent / "shared" / "kalshi-samples"
        if folder.is_dir():
            return folder
    pytest.skip("the recorded payloads are not here")
